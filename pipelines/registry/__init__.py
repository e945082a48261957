"""Runs and versions in MLflow, and the gate that decides which version is champion."""
