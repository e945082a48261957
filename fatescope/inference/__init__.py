"""Run a trained model: bundle, uncertainty, out-of-distribution detection, activation maps, composition. No PyTorch."""
