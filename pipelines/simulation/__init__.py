"""Simulated cells: their shape, the optics of the microscope, and the camera."""
