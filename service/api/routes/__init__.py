"""The endpoints, grouped by purpose."""
