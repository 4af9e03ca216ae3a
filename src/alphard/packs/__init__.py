"""Trials that differ only in values, trained as one stacked model; knows nothing of searches."""
