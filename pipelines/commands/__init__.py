"""Commands outside the pipeline: draw or import data, compare and roll back versions, leave a class out."""
