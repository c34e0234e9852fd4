"""The equations of masked diffusion, on tensors. Knows no network, no file and no user.

Said once, for the whole project: `t = 0` is clean and `t = 1` is all mask; `alpha(t)` is the share of clean
tokens and falls from 1 to 0. `x` are clean tokens `[B, n]`, `z_t` corrupted ones, `s < t` the next time of a
decoding step. Positions are never padded: every row of a batch has exactly `n` tokens.
"""
