"""The small network that takes one vector to another."""

from torch import nn


def projector(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two matrices with a GELU between them: [..., inputs] → [..., outputs]."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, outputs))
