"""The two schemes by which cells are divided into training, validation and test."""
