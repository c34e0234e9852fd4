"""From a source of text to a prepared corpus on disk, and back to batches."""
