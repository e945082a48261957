"""A trained model and what it answers: bundle, uncertainty, out-of-distribution cells, composition. No PyTorch."""
