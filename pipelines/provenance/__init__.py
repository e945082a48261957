"""What a model was made from and by what, in forms that it can be rebuilt from and that others read."""
