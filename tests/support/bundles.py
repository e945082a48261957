"""What the bundles that tests serve have in common."""

CANVAS = (60, 80)
EXACT = {"FATESCOPE_ENGINE": "onnxruntime"}
"""What gives the numbers of the bundle to the last digit."""
CLASSES = ["astrocyte", "oligodendrocyte", "RA/SHH", "NT3"]
