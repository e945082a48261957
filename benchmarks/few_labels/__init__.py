"""What networks learn from few labels, small images and time."""
