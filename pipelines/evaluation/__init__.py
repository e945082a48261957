"""How good a model is: predictions, metrics, bootstrap intervals, confounding, plots."""
