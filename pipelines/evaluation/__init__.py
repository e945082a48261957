"""How good a model is: predictions, metrics, intervals, confounding, plots."""
