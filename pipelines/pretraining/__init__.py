"""Pretraining of a backbone on cells without labels."""
