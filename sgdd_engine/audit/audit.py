"""The audit as one call: vectors are attacked as they are and under defences, and what comes back is counted.

The attacker is a decoder of these vectors with a search that asks the encoder (`generation/search.py`): the loop of
vec2text (Morris et al. 2023, arXiv 2310.06816). The control is the text that was written from another row's vector.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from sgdd_engine import __version__
from sgdd_engine.audit.config import AuditConfig
from sgdd_engine.audit.defences import LEAST_OWN_TEXTS, Attacker, Defence, OwnVectors, build_defences
from sgdd_engine.audit.exposure import ITEMS, item_rules, recovery, spelling, written_words
from sgdd_engine.audit.report import MEASURES, Attack, AuditReport, DefenceFigures, ExposedRow, Leak
from sgdd_engine.audit.retrieval import DEPTH, retrieval_quality
from sgdd_engine.audit.verdicts import verdicts_on
from sgdd_engine.counted import about, counted
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation.bootstrap import (
    RESAMPLES,
    Floats,
    Resampling,
    bootstrap_interval,
    share_interval,
)
from sgdd_engine.evaluation.data import EvaluationSet, fitted
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.reconstruction import derangement
from sgdd_engine.evaluation.report import scores_by_length
from sgdd_engine.evaluation.scores import Scores, differences, intervals, reencode, references_of, score
from sgdd_engine.events import Event, Listener, Notice, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation import SGDD, Generation

# Vectors that are searched for together; a text does not depend on it.
ROWS_AT_ONCE = 32
# Vectors and calls by which the time is estimated, and the encoder calls of an audit that is too short for it: about
# half a minute with MiniLM on one core.
_TIMED_ROWS, _TIMED_CALLS, _SHORT_CALLS = 4, 24, 1000


def audit(
    model: SGDD,
    data: EvaluationSet,
    own: EvaluationSet | None = None,
    *,
    config: AuditConfig | None = None,
    sampling: SamplingConfig | None = None,
    ids: Sequence[str] | None = None,
    on_event: Listener = ignore,
) -> AuditReport:
    """Write the texts of vectors again, as an attacker would, and count what they give away.

    The same call gives the same numbers: the other row, noise, rotation, sampler and bootstrap are seeded by
    `config.seed`.

    Args:
        model: The attacker's decoder and its encoder.
        data: The audited texts with their vectors.
        own: Texts of the attacker's own with their vectors; audited ones among them are not used. Attackers who learn
            from them are left out where there are fewer than `LEAST_OWN_TEXTS`.
        config: How hard, and under which defences.
        sampling: How the decoder writes; by default as the checkpoint recommends.
        ids: Of the rows in a store.
        on_event: Told of the time it will take, of stages and of what is left out.

    Raises:
        DataError: fewer than two texts fit the model, or the vectors are not its encoder's.
        ConfigError: no such defence, or a strength that cannot be.
    """
    config, sampling = config or AuditConfig(), sampling or model.recommended_sampling
    named = dict(zip(data.sentences, ids, strict=True)) if ids is not None else {}
    data = fitted(data, model, on_event)
    plain = data.vectors.double().numpy()
    if own is not None:
        audited = set(data.sentences)
        own = own.rows([row for row, text in enumerate(own.sentences) if text not in audited])
    known = OwnVectors(own.vectors.double().numpy() if own is not None else plain[:0])
    everything = np.concatenate([plain, known.vectors])
    defences = build_defences(config.defences, everything, config.seed)
    planned = [(defence, defence.attackers(known)) for defence in defences]
    if defences and len(known.vectors) < LEAST_OWN_TEXTS:
        on_event(
            Notice(
                f"The attacker has {counted(len(known.vectors), 'text')} of their own, and {LEAST_OWN_TEXTS} are "
                "needed to take noise away, to fill in what was left out and to find a rotation: these attacks are "
                "left out, and defences look safer than they are. Name a file of such texts: --attacker-texts FILE",
                warning=True,
            )
        )
    if "pca" in config.defences and not any(defence.name.startswith("pca:") for defence in defences):
        on_event(
            Notice(
                f"The defence pca is left out: {counted(len(everything), 'vector')} are too few for its usual numbers "
                "of directions. Name one: --defences pca:N",
                warning=True,
            )
        )
    run = _Run(model, data, config, sampling, on_event)
    # What defended vectors are held against is written with as many calls as theirs, unless that is the same search.
    again = bool(planned) and config.calls != config.defence_calls
    run.announce(sum(len(attackers) for _, attackers in planned) + again)
    leaks, scores = run.attack("plain vectors", plain, config.calls)
    undefended = leaks[-1] if planned else None
    if again:
        undefended = run.attack("plain vectors, as defended ones", plain, config.defence_calls)[0][-1]
    found = [run.defend(defence, attackers, everything) for defence, attackers in planned]
    true, shuffled = scores
    return AuditReport(
        leaks=leaks,
        undefended=undefended,
        by_length=scores_by_length(true, shuffled, [len(row) for row in data.token_ids], config.seed),
        defences=found,
        rows=_ranked(data, true, run.items, named),
        documents=len(everything),
        own_texts=len(known.vectors),
        verdicts=verdicts_on(leaks, found, len(data), len(everything)),
        settings=_settings(model, data, own, config, sampling, defences),
    )


@dataclass(frozen=True)
class _Written:
    """What was written of each row with so many calls, and the vectors of these texts [N, D]."""

    calls: int
    texts: Sequence[Generation]
    again: torch.Tensor


class _Run:
    """One audit: writes from estimates of the vectors of a set, and scores what comes back."""

    def __init__(
        self,
        model: SGDD,
        data: EvaluationSet,
        config: AuditConfig,
        sampling: SamplingConfig,
        on_event: Listener,
    ) -> None:
        self._model, self._data, self._config, self._sampling = model, data, config, sampling
        self._on_event = on_event
        self._other = derangement(references_of(model, data), config.seed)
        self._resampling = Resampling(len(data), config.seed)
        rules = item_rules(model.tokenizer)
        self.items = {name: [rule(text) for text in data.sentences] for name, rule in rules.items()}

    def announce(self, defended: int) -> None:
        """Say how long it will take, from a few rows with few calls, and what makes it less."""
        config, texts = self._config, len(self._data)
        if texts * (config.calls[-1] + defended * config.defence_calls[-1]) < _SHORT_CALLS:
            return
        rows = self._data.vectors[:_TIMED_ROWS]
        seconds = []
        # The first text takes longer than the others: the encoder is loaded, and the memory of both is laid out.
        self._model.generate(rows[:1], sampling=self._sampling, search=1)
        for calls in (1, _TIMED_CALLS):
            started = time.perf_counter()
            self._model.generate(rows, sampling=self._sampling, search=calls)
            seconds.append((time.perf_counter() - started) / len(rows))
        each = max(0.0, seconds[1] - seconds[0]) / (_TIMED_CALLS - 1)

        def expected(calls: Sequence[int]) -> float:
            return texts * (seconds[0] + each * (calls[-1] - 1))

        plain, under = expected(config.calls), defended * expected(config.defence_calls)
        shorter = [] if len(config.calls) < 2 else [f"--calls {','.join(map(str, config.calls[:-1]))}"]
        if defended and under > plain:
            shorter = [
                f"--defence-calls {config.defence_calls[0]}"
                if len(config.defence_calls) > 1
                else "--defences none"
            ]
        shorter.append(f"--limit {max(2, texts // 2)}")
        parts = f"{about(plain)} for the vectors as they are"
        if defended:
            parts += f", {about(under)} for {counted(defended, 'attack')} on defended ones"
        self._on_event(
            Notice(
                f"The audit of {counted(texts, 'text')} will take {about(plain + under)}: {parts}. For less: "
                f"{' or '.join(shorter)}."
            )
        )

    def attack(
        self, stage: str, estimates: Floats, calls: Sequence[int]
    ) -> tuple[list[Leak], tuple[Scores, Scores]]:
        """Write from estimates of the vectors [N, D], and score what comes back.

        Returns:
            A leak for each number of calls, and the scores with the most calls, of own and of other rows' texts.
        """
        leaks = []
        for written in self._write(f"writing from {stage}", estimates, calls):
            other = [written.texts[row] for row in self._other.tolist()]
            true = score(self._model, self._data, written.texts, written.again)
            shuffled = score(self._model, self._data, other, written.again[torch.from_numpy(self._other)])
            totals = [one.totals(self._resampling) for one in (true, shuffled)]
            own, beside, gain = (
                {name: figures[name] for name in MEASURES}
                for figures in (intervals(totals[0]), intervals(totals[1]), differences(*totals))
            )
            for figures, total in ((own, totals[0]), (beside, totals[1])):
                figures["exact_match"] = share_interval(total["exact_match"], len(self._data))
            items = {
                name: recovery(found, true.texts, shuffled.texts, self._config.seed)
                for name, found in self.items.items()
            }
            spent = float(true.encoder_calls.mean())
            leaks.append(Leak(written.calls, spent, own, beside, gain, items, true.texts))
        return leaks, (true, shuffled)

    def defend(self, defence: Defence, attackers: Sequence[Attacker], everything: Floats) -> DefenceFigures:
        """Protect all vectors [M, D], of which the audited ones come first; measure retrieval, and attack."""
        rows = len(self._data)
        # Of its name, so that noise does not depend on what else is tried.
        generator = np.random.default_rng([self._config.seed, *defence.name.encode()])
        stored = defence.protect(everything, generator)
        queries = stored[:rows] if defence.queries_too else everything[:rows]
        attacks = []
        for attacker in attackers:
            estimates = self._as_encoded(attacker.estimate(stored[:rows]))
            leaks, _ = self.attack(
                f"{defence.label}, {attacker.label}", estimates, self._config.defence_calls
            )
            cosines = (_unit(estimates) * _unit(everything[:rows])).sum(axis=1)
            attacks.append(
                Attack(attacker.name, attacker.label, bootstrap_interval(cosines, self._config.seed), leaks)
            )
        return DefenceFigures(
            defence.name,
            defence.label,
            defence.meaning,
            retrieval_quality(everything, queries, stored, self._config.seed),
            attacks,
        )

    def _as_encoded(self, estimates: Floats) -> Floats:
        """Of length 1 where the encoder's vectors are."""
        return _unit(estimates) if self._model.info.encoder.normalize else estimates

    def _write(self, stage: str, estimates: Floats, calls: Sequence[int]) -> list[_Written]:
        *stops, most = calls
        vectors = torch.from_numpy(estimates.astype(np.float32))
        found: list[list[Generation]] = [[] for _ in calls]
        self._on_event(StageStarted(stage, len(vectors) * most, "encoder calls"))
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            rows = vectors[start : start + ROWS_AT_ONCE]

            def report(event: Event, done: int = start * most, here: int = len(rows)) -> None:
                if isinstance(event, StageProgress):
                    self._on_event(StageProgress(stage, done + here * event.done))

            for item in self._model.generate(
                rows,
                sampling=self._sampling,
                search=most,
                stops=stops,
                seed=self._config.seed,
                on_event=report,
            ):
                for place, one in enumerate((*item.earlier, item)):
                    found[place].append(one)
            self._on_event(StageProgress(stage, (start + len(rows)) * most))
        self._on_event(StageFinished(stage))
        return [
            _Written(count, texts, reencode(self._model, [item.text for item in texts]))
            for count, texts in zip(calls, found, strict=True)
        ]


def _unit(rows: Floats) -> Floats:
    found: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return found


def _ranked(
    data: EvaluationSet, scores: Scores, items: Mapping[str, Sequence[Sequence[str]]], ids: Mapping[str, str]
) -> list[ExposedRow]:
    """The rows, the most exposed first."""
    order: list[int] = np.lexsort((-scores["cosine"], -scores["token_f1"])).tolist()
    rows = []
    for row in order:
        source, text = data.sentences[row], scores.texts[row]
        words, spelled = written_words(text), spelling(source)
        parts = {
            name: [(spelled.get(item, item), item in words) for item in of_kind[row]]
            for name, of_kind in items.items()
        }
        rows.append(
            ExposedRow(
                row,
                ids.get(source),
                source,
                text,
                float(scores["token_f1"][row]),
                float(scores["cosine"][row]),
                bool(scores["exact_match"][row]),
                {name: [item for item, there in part if there] for name, part in parts.items()},
                {name: [item for item, there in part if not there] for name, part in parts.items()},
            )
        )
    return rows


def _settings(
    model: SGDD,
    data: EvaluationSet,
    own: EvaluationSet | None,
    config: AuditConfig,
    sampling: SamplingConfig,
    defences: Sequence[Defence],
) -> dict[str, Any]:
    """All that made the figures, as JSON values."""
    asked = asdict(config)
    return {
        "audit": {name: list(value) if isinstance(value, tuple) else value for name, value in asked.items()},
        "sampling": asdict(sampling),
        "data": dict(data.origin),
        "own_texts": None if own is None else dict(own.origin),
        "model": {
            "step": model.info.step,
            "encoder": model.info.encoder.described(),
            "max_tokens": model.info.model.max_tokens,
            "vocabulary": model.info.model.vocabulary.size,
            "device": str(model.device),
        },
        "measures": {
            **{name: METRICS[name].meaning for name in MEASURES},
            **{name: f"{kind.label}: {kind.meaning}" for name, kind in ITEMS.items()},
            "shuffled": "what was written from another row's vector, each used once, against this row's text",
            "retrieval": f"the {DEPTH} nearest of all other vectors by cosine, audited and own ones, of each audited "
            "vector: share of those of plain vectors that is found (recall), and with their order (NDCG, gains from "
            f"{DEPTH} to 1)",
            "intervals": f"95 %, percentile bootstrap over texts, {RESAMPLES} resamples",
            **{defence.name: defence.meaning for defence in defences},
        },
        "versions": {"sgdd": __version__, "torch": str(torch.__version__)},
    }
