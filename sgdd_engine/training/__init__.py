"""The training loop and what it needs. Joins `data`, `models` and `diffusion`; holds no equation."""
