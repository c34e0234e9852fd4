"""The page of an evaluation: one HTML file that requests nothing and can be read without its script."""
