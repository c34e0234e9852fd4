"""One self-contained page of an evaluation: no request leaves it, and it reads well without its script."""
