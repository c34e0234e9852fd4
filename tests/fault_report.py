"""Counts what became of deliberate faults; `pytest -m faults --report` tries all and prints one table.

Without `--report` every fifth is tried, so that the usual check stays short.

A test that tries faults takes the fixture `faults`, and tells it of each one what came of it. Whatever was
neither found nor proven harmless fails the test at its end, with the first of them named.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import pytest

Case = TypeVar("Case")
OUTCOMES = ("found", "harmless", "resumed", "silent", "bug")
GOOD = OUTCOMES[:3]
# No multiple of 2, 3 or 4, since operations and the ways to interrupt them come in groups of so many.
STRIDE = 5


class _Share:
    """Which part of the faults is tried."""

    stride = STRIDE


def tried(cases: Iterable[Case]) -> Iterator[Case]:
    """The cases that are tried: each one with `--report`, otherwise every fifth."""
    return islice(cases, 0, None, _Share.stride)


def tried_count(count: int) -> int:
    """How many of so many cases are tried."""
    return max(1, count // _Share.stride)


@dataclass
class Faults:
    """What became of the faults of one test."""

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def tell(self, outcome: str, what: str) -> None:
        """Count one fault.

        Args:
            outcome: `found`: refused in a sentence; `harmless`: the result is proven equal; `resumed`: a run
                or a preparation that was interrupted went on to the same end; `silent`: exit 0 with another
                result, or text that means nothing; `bug`: an exception that is no `SgddError`.
            what: The fault, as one would need it to try it again.
        """
        if outcome not in OUTCOMES:
            raise ValueError(f"{outcome!r} is none of {OUTCOMES}")
        self.counts[outcome] += 1
        if outcome not in GOOD:
            self.bad.append(f"{outcome}: {what}")


@pytest.fixture
def faults(request: pytest.FixtureRequest, record_property) -> Iterator[Faults]:
    """Counts the faults of this test, and fails it where one was silent or a bug."""
    told = Faults()
    yield told
    assert told.counts, "no fault was tried"
    name = request.node.name.partition("[")[0].removeprefix("test_").replace("_", " ")
    record_property("faults", (name, dict(told.counts)))
    if told.bad:
        shown = "\n".join(told.bad[:20])
        pytest.fail(
            f"{len(told.bad)} of {told.counts.total()} faults were not found:\n{shown}", pytrace=False
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--report", action="store_true", help="try every deliberate fault, and print what became of them"
    )


def pytest_configure(config: pytest.Config) -> None:
    _Share.stride = 1 if config.getoption("--report") else STRIDE


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if not config.getoption("--report"):
        return
    rows: dict[str, Counter[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            # The report of the teardown alone, since that of the call has none of the fixture's properties.
            if getattr(report, "when", None) != "teardown":
                continue
            for key, value in report.user_properties:
                if key == "faults":
                    rows.setdefault(value[0], Counter()).update(value[1])
    terminalreporter.section("deliberate faults")
    width = max((len(name) for name in rows), default=0)
    terminalreporter.write_line(f"{'':{width}}  " + "".join(f"{o:>10}" for o in ("tried", *OUTCOMES)))
    total: Counter[str] = Counter()
    for name, counts in sorted(rows.items()):
        total.update(counts)
        cells = [counts.total(), *(counts[o] for o in OUTCOMES)]
        terminalreporter.write_line(f"{name:{width}}  " + "".join(f"{cell:>10,}" for cell in cells))
    cells = [total.total(), *(total[o] for o in OUTCOMES)]
    terminalreporter.write_line(f"{'all':{width}}  " + "".join(f"{cell:>10,}" for cell in cells))
