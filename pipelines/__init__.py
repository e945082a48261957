"""The stages of the line, one module each; `dvc.yaml` says how they are joined."""
