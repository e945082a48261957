"""Expectations on cells, and what watches the service in production."""
