"""Services for the same model, written as the documentation of their frameworks shows."""
