"""One self-contained page of an evaluation: no request leaves it, and it reads well without its script."""

from sgdd_engine.evaluation.page.write import claim, render, write_page

__all__ = ["claim", "render", "write_page"]
