"""Networks on tensors. Knows no diffusion, no file and no user."""
