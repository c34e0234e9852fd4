"""An audit in sentences: what was given away, what each defence changed, and what the figures cannot tell.

A sentence says no more than its figures: what was written by one attacker is a lower bound of what can be.
"""

from collections.abc import Sequence

from sgdd_engine.audit.exposure import ITEMS, Recovery
from sgdd_engine.audit.report import DefenceFigures, Leak
from sgdd_engine.audit.retrieval import chance_among
from sgdd_engine.counted import counted
from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.verdicts import FEWEST_SENTENCES, Verdict

# Of intervals over fewer texts too few hold what they should; see `FEWEST_SENTENCES`.
FEWEST_TEXTS = FEWEST_SENTENCES
# A defence that loses more of the neighbours is hardly used for retrieval; a choice, not a measurement.
KEPT_NEIGHBOURS = 0.9
# Among fewer vectors more than 5 % of the nearest are found by chance.
FEWEST_DOCUMENTS = 200


def verdicts_on(
    leaks: Sequence[Leak], defences: Sequence[DefenceFigures], texts: int, documents: int
) -> list[Verdict]:
    """What the figures of an audit say, a sentence or two each; `ok` is False where something is given away.

    Args:
        leaks: From plain vectors, by number of calls.
        defences: The figures of each.
        texts: How many were attacked.
        documents: Vectors among which neighbours were looked for.
    """
    last = leaks[-1]
    found = [exact_verdict(last, texts), wording_verdict(last, texts)]
    found += [item_verdict(name, last) for name in ITEMS]
    if len(leaks) > 1:
        found.append(_calls_verdict(leaks[0], last))
    found += [defence_verdict(defence, texts, documents) for defence in defences]
    if defences:
        found.append(choice_verdict(defences, texts, documents))
    found.append(
        Verdict(
            "lower_bound",
            None,
            "All of this is what one attacker wrote, with this decoder and so many encoder calls. An attacker with a "
            "better decoder, more calls, or a decoder trained on defended vectors may write more: the shares are lower "
            "bounds of what the vectors give away.",
        )
    )
    return found


def exact_verdict(leak: Leak, texts: int) -> Verdict:
    """How many texts came back letter for letter."""
    own, other = leak.own["exact_match"], leak.shuffled["exact_match"]
    count = round(own.mean * texts)
    effort = f"with at most {counted(leak.calls, 'encoder call')} each"
    beside = f"from another row's vector {_share(other)}"
    if count:
        return Verdict(
            "exact",
            False,
            f"Of {counted(texts, 'text')} {count:,} came back letter for letter, {_percent(own)}, {effort}; {beside}.",
        )
    most = own.high or 1.0
    return Verdict(
        "exact",
        True if texts >= FEWEST_TEXTS else None,
        f"None of {counted(texts, 'text')} came back letter for letter, {effort}; of such texts it may be up to "
        f"{100 * most:.0f} %.",
    )


def wording_verdict(leak: Leak, texts: int) -> Verdict:
    """Whether more of the wording came back than from another row's vector."""
    own, other = leak.own["token_f1"], leak.shuffled["token_f1"]
    figures = (
        f"the words that were written have a token F1 of {_number(own)} with the source, and of {_number(other)} from "
        "another row's vector"
    )
    if texts >= FEWEST_TEXTS and leak.gain["token_f1"].above_zero:
        return Verdict("wording", False, f"The vectors give away wording: {figures}.")
    return Verdict(
        "wording",
        None,
        f"Whether the vectors give away wording cannot be told from {counted(texts, 'text')}: {figures}.",
    )


def item_verdict(name: str, leak: Leak) -> Verdict:
    """What share of the items of one kind was written."""
    found, kind = leak.items[name], ITEMS[name]
    items = f"{counted(found.items, kind.one, kind.label)} in {counted(found.texts, 'text')}"
    if found.own is None or found.shuffled is None:
        return Verdict(name, None, f"The texts hold no {kind.label}, so nothing can be said of these.")
    if found.texts < FEWEST_TEXTS:
        return Verdict(name, None, f"The texts hold {items}: too few to say what share is given away.")
    sentence = f"Of {items} {_percent(found.own)} were written; from another row's vector {_percent(found.shuffled)}."
    if found.gain is None or not found.gain.above_zero:
        return Verdict(name, None, f"{sentence} The two cannot be told apart.")
    return Verdict(name, False, sentence)


def _calls_verdict(one: Leak, last: Leak) -> Verdict:
    """What effort brings the attacker."""
    parts = [f"the token F1 is {last.own['token_f1'].mean:.2f} instead of {one.own['token_f1'].mean:.2f}"]
    shares = [("texts that come back letter for letter", one.own["exact_match"], last.own["exact_match"])]
    shares += [
        (kind.label, before.own, after.own)
        for name, kind in ITEMS.items()
        if (before := one.items[name]).own is not None
        and (after := last.items[name]).own is not None
        and before.texts >= FEWEST_TEXTS
    ]
    parts += [f"{label} {_share(after)} instead of {_share(before)}" for label, before, after in shares]
    return Verdict(
        "calls",
        None,
        f"Effort: with {counted(last.calls, 'encoder call')} for each vector instead of {one.calls:,}, "
        f"{', '.join(parts)}.",
    )


def defence_verdict(defence: DefenceFigures, texts: int, documents: int) -> Verdict:
    """What one defence keeps of retrieval, and what its strongest attacker still writes."""
    attack = defence.strongest
    leak = attack.last
    others = [other for other in defence.attacks if other is not attack]
    kept = f"{_capital(defence.label)}: {_share(defence.retrieval.recall)} of the nearest neighbours are still found"
    kept += f", {_by_chance(documents)}." if documents < FEWEST_DOCUMENTS else "."
    if texts < FEWEST_TEXTS:
        return Verdict(
            defence.name, None, f"{kept} {counted(texts, 'text')} are too few to say what it protects."
        )
    by = f"The strongest attacker tried (“{attack.label}”)" if others else "The attacker"
    parts = [f"a token F1 of {_number(leak.own['token_f1'])}"]
    beside = [f"{leak.shuffled['token_f1'].mean:.2f}"]
    for name, kind in ITEMS.items():
        found = leak.items[name]
        if found.own is not None and found.shuffled is not None and found.texts >= FEWEST_TEXTS:
            parts.append(f"{_percent(found.own)} of the {kind.label}")
            beside.append(_share(found.shuffled))
    sentence = (
        f"{kept} {by} reaches, with {counted(leak.calls, 'encoder call')}, {', '.join(parts)}; from another row's "
        f"vector {', '.join(beside)}."
    )
    if others:
        weakest = min(others, key=lambda other: other.last.own["token_f1"].mean)
        sentence += (
            f" The attacker “{weakest.label}” reaches a token F1 of {weakest.last.own['token_f1'].mean:.2f}."
        )
    # Of some attacker more items than of the strongest one, who writes the most words.
    sentence += "".join(
        f" The attacker “{other.label}” writes {_percent(theirs.own)} of the {kind.label}."
        for name, kind in ITEMS.items()
        for other in others
        if _gives_away(theirs := other.last.items[name])
        and theirs.own is not None
        and (found := leak.items[name]).own is not None
        and theirs.own.mean > found.own.mean
    )
    clear = any(
        one.last.gain["token_f1"].above_zero or any(map(_gives_away, one.last.items.values()))
        for one in defence.attacks
    )
    if not clear:
        sentence += (
            f" As far as {counted(texts, 'text')} can tell, no wording is given away to these attackers."
        )
    return Verdict(defence.name, False if clear else None, sentence)


def _gives_away(found: Recovery) -> bool:
    """Whether clearly more of the items of one kind were written than from another row's vector."""
    return found.texts >= FEWEST_TEXTS and found.gain is not None and found.gain.above_zero


def _by_chance(documents: int) -> str:
    return (
        f"among {documents:,} vectors, where unrelated ones would find {100 * chance_among(documents):.0f} %"
    )


def choice_verdict(defences: Sequence[DefenceFigures], texts: int, documents: int) -> Verdict:
    """Which of the defences that keep most neighbours leaves the least wording, beside another row's vector."""
    kept = [defence for defence in defences if defence.retrieval.recall.mean >= KEPT_NEIGHBOURS]
    limit = f"{KEPT_NEIGHBOURS:.0%}".replace("%", " %")
    if texts < FEWEST_TEXTS:
        return Verdict("choice", None, "So few texts do not tell which defence is the better one.")
    if documents < FEWEST_DOCUMENTS:
        return Verdict(
            "choice",
            None,
            f"Which defences keep the nearest neighbours cannot be told among {counted(documents, 'vector')}: "
            f"unrelated ones would find {100 * chance_among(documents):.0f} %. More texts: --attacker-texts FILE",
        )
    if not kept:
        return Verdict("choice", None, f"None of the defences keeps {limit} of the nearest neighbours.")
    best = min(kept, key=lambda defence: defence.strongest.last.gain["token_f1"].mean)
    attack, leak = best.strongest, best.strongest.last
    return Verdict(
        "choice",
        None,
        f"Of {counted(len(defences), 'defence')} tried {len(kept):,} {'keeps' if len(kept) == 1 else 'keep'} at least "
        f"{limit} of the nearest neighbours. Of these “{best.label}” leaves the least wording to its strongest "
        f"attacker (“{attack.label}”): token F1 {_number(leak.own['token_f1'])}, from another row's vector "
        f"{leak.shuffled['token_f1'].mean:.2f}.",
    )


def _number(value: Interval) -> str:
    """0.61 (0.58 to 0.64)."""
    ends = "" if value.ends is None else f" ({value.ends[0]:.2f} to {value.ends[1]:.2f})"
    return f"{value.mean:.2f}{ends}"


def _share(value: Interval) -> str:
    return f"{100 * value.mean:.0f} %"


def _percent(value: Interval) -> str:
    """31 % (24 to 38 %)."""
    ends = "" if value.ends is None else f" ({100 * value.ends[0]:.0f} to {100 * value.ends[1]:.0f} %)"
    return f"{_share(value)}{ends}"


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
