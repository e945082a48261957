"""The search for hyperparameters: what may be tried, the study, its budget, its workers and its result."""
