"""Model cards and BioImage.IO packages."""
