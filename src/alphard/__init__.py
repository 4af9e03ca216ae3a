"""Train models on tables: one Hydra config for a run, a search, and a cloud job."""

__version__ = "0.1.0"
