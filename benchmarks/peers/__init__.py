"""Services that others would write for the same model, as the documentation of their framework shows."""
