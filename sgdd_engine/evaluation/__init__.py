"""An evaluation that cannot lie: every score from a full mask, beside its controls."""
