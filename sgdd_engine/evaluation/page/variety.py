"""Whether it writes texts of its own: copied sentences, diversity, and what a text cost."""

from collections.abc import Mapping
from typing import Any

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.page.naming import form, form_range, interval, number, readable
from sgdd_engine.evaluation.page.view import Fact, Row, Section, Table, cell, mapping

# Of several samples of one vector: name, title, decimals, meaning.
_VARIETY = (
    ("self_bleu", "Self-BLEU", 1, "likeness of several texts from one vector, 0–100; lower is more varied"),
    ("samples_cosine", "Cosine of samples", 3, "closeness of such texts to their vector; higher is better"),
    (
        "samples_distinct_1",
        "Distinct words",
        3,
        "different words among the words of such texts; higher is more varied",
    ),
    ("samples_distinct_2", "Distinct pairs", 3, "the same of pairs of neighbouring words"),
)
# Of all outputs beside all references: name, title, meaning.
_WORDS = (
    ("distinct_1", "Distinct words", "different words, as a share of all words"),
    ("distinct_2", "Distinct pairs", "different pairs of neighbouring words, as a share of all"),
    ("entropy_nats", "Entropy", "evenness of the words used, in nats"),
)
_SAMPLING = ("sentences", "samples_per_sentence", "temperature")
_MEMORY = (
    ("outputs", "Outputs found in training", "written texts that are training sentences, word for word"),
    (
        "sources",
        "Sources found in training",
        "the same of the sentences asked for: what overlap alone explains",
    ),
    ("excess", "Copied beyond that", "the one less the other; near zero is good"),
)
_SIDES = ("outputs", "references")


def variety_section(result: Mapping[str, Any]) -> Section | None:
    """Copied training sentences, diversity of samples and of words, and what a text cost."""
    diversity = mapping(result.get("diversity"))
    facts = [*_memory_facts(mapping(result.get("memorisation"))), *_variety_facts(diversity)]
    calls = number(result.get("encoder_calls"))
    if calls:
        meaning = "texts encoded per sentence, to choose among drafts and to refine them"
        facts.append(Fact("Encoder calls", form(calls, 1), "", meaning))
    words = _words_table(diversity)
    if not facts and words is None:
        return None
    lead = "Whether it writes texts of its own, and how different they are from one another."
    rows, each, heat = (number(diversity.get(name)) for name in _SAMPLING)
    if rows is not None and each is not None and heat is not None:
        lead += f" Variety is that of {each:g} texts from each of {rows:g} vectors, at temperature {heat:g}."
    return Section("variety", "Variety and memory", lead, facts, tables=[words] if words else [])


def _memory_facts(memory: Mapping[str, Any]) -> list[Fact]:
    return [
        Fact(title, _percent(value.mean), _percent_range(value), meaning)
        for name, title, meaning in _MEMORY
        if (value := interval(memory.get(name))) is not None
    ]


def _variety_facts(diversity: Mapping[str, Any]) -> list[Fact]:
    """The figures known here with their meanings, then those that are not."""
    known = {name: (title, decimals, meaning) for name, title, decimals, meaning in _VARIETY}
    placed = {*_SAMPLING, *(f"{side}_{name}" for side in _SIDES for name, _, _ in _WORDS)}
    facts = []
    for name in [*known, *(name for name in diversity if name not in known and name not in placed)]:
        value = interval(diversity.get(name))
        if value is not None:
            title, decimals, meaning = known.get(name, (readable(name), 3, ""))
            facts.append(Fact(title, form(value.mean, decimals), form_range(value, decimals), meaning))
    return facts


def _words_table(diversity: Mapping[str, Any]) -> Table | None:
    """The words of all outputs beside those of the sources."""
    rows = []
    for name, title, meaning in _WORDS:
        sides = [interval(diversity.get(f"{side}_{name}")) for side in _SIDES]
        if any(sides):
            rows.append(Row(title, [cell(value, 3) for value in sides], meaning, "near the sources’ is good"))
    caption = "All words written"
    return Table(caption, ["written", "sources"], rows, narrow=True) if rows else None


def _percent(share: float) -> str:
    return f"{form(100 * share, 1)} %"


def _percent_range(value: Interval) -> str:
    return form_range(Interval(*(100 * end for end in (value.mean, value.low, value.high))), 1)
