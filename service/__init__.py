"""The service: a Bento that classifies cells over HTTP, and batch jobs with the same inference code."""
