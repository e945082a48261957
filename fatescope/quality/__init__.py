"""Great Expectations: one suite for training data and for windows of production data."""
