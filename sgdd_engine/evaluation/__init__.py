"""Evaluation on held-out sentences: reconstruction from a full mask beside its controls, likelihood, and verdicts."""
