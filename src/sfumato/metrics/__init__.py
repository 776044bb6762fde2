"""Metrics of feature vectors, with intervals: closeness of two sets, fidelity to a subject."""
