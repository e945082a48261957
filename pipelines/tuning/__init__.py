"""The search over networks and settings: its space, the Optuna study, its workers, its plots."""
