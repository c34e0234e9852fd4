"""What the package adds works in sgdd; no model is needed for that."""

import json
import subprocess
import sys

import torch
from sgdd_telephone.position_rule import OutsideIn

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.position_rules import RevealStep


def sgdd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sgdd_cli", *arguments], capture_output=True, text=True, check=False
    )


def test_sgdd_takes_both_plugins() -> None:
    rows = json.loads(sgdd("plugins", "check", "sgdd-telephone", "--json").stdout)
    assert [(row["works"], row["notes"]) for row in rows] == [(True, []), (True, [])]
    assert rows[1]["adds"] == ["position rule `outside_in`"]
    assert SamplingConfig(position_rule="outside_in").position_rule == "outside_in"


def test_the_ends_are_written_first() -> None:
    masked = torch.tensor([[True, True, True, True, True], [False, True, True, False, False]])
    scores = torch.zeros(2, 5, dtype=torch.float64)
    step = RevealStep(scores, scores, masked, budget=torch.tensor([3, 1]), step=0, num_steps=2)
    assert OutsideIn().reveal(step).long().tolist() == [[1, 1, 0, 0, 1], [0, 1, 0, 0, 0]]


def test_a_text_that_is_none_is_an_error_and_a_hint() -> None:
    done = sgdd("telephone", "  ")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
