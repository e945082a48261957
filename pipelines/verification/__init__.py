"""Building a registered version again, elsewhere, and holding the result against it."""
