"""The audit as one HTML page, in the manner of the evaluation's."""
