"""Why the results of a run may be bad: each cause that the run's own records speak for or against, likeliest first.

Everything is read from what training, preparation and `sgdd eval` recorded. What is not recorded is said to be unknown,
with the command that measures it; and a cause is likely or possible, never certain.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from sgdd_engine.checkpoint import CheckpointInfo, checkpoints_of, read_info, resolve_checkpoint
from sgdd_engine.counted import counted
from sgdd_engine.data.manifest import Manifest
from sgdd_engine.paths_and_shells import shell_line
from sgdd_engine.text.config import MINILM
from sgdd_engine.tracking import read_log

Likelihood = Literal["likely", "possible", "unlikely", "unknown"]
_ORDER: tuple[Likelihood, ...] = ("likely", "possible", "unknown", "unlikely")

# What the first stage of `mini` took until its sentences were good (its model card): 7,000 steps of 2,048 tokens over
# 590,842 sentences. A quarter of it is taken to be few.
ENOUGH_TOKENS = 7_000 * 2_048
ENOUGH_SENTENCES = 590_842
FEW = 0.25
# Preparation warns from this share of unknown pieces on, too.
MOST_UNKNOWN = 0.01
# Letters outside ASCII: about 1.8 % in German, of which ä, ö, ü and ß are so many; in the sentences of `mini` none.
MOST_FOREIGN = 0.01
# Half of the lines left out leaves another text than the one that was given.
MOST_LEFT_OUT = 0.5
# Thresholds of this project, as shares of the loss: how far the last quarter of a run lies below the one before; how
# far held-out loss lies above its own lowest value, and above that of training.
STILL_FALLING = 0.01
RISEN = 0.02
GAP = 0.10
# Of reports that an average needs to tell a fall from noise.
FEWEST_REPORTS = 8
# The length head's first guess is right for about a quarter of sentences (`DISTINCT_LENGTHS` of generation).
FEWEST_RIGHT_LENGTHS = 0.125
# As the verdict on the posterior (`evaluation.latent`).
COLLAPSED_NATS = 1.0
# MiniLM was made for English alone; other encoders of English say so in their names, as bge-small-en does.
_ENGLISH_NAMES = ("-en", "english")


@dataclass(frozen=True)
class Cause:
    """One thing that may make results bad.

    Attributes:
        name: What, in one or two words.
        likelihood: How much the records speak for it; `unknown` where they say nothing.
        sentence: The figure that says so.
        command: What cures it, or measures it where it is unknown.
    """

    name: str
    likelihood: Likelihood
    sentence: str
    command: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class RunRecords:
    """All that a run and its corpus recorded.

    Attributes:
        run: The run's folder; of a checkpoint outside of a run, what it is called.
        info: Of its best checkpoint.
        steps: Steps of its newest checkpoint.
        corpus: The manifest of its corpus; None where that is not found.
        corpus_folder: Where that is.
        foreign: Share of letters outside ASCII in its held-out sentences; None where they are not found.
        curves: Steps and values of each quantity that its log holds.
        evaluation: The newest one of the checkpoint; None where none is recorded.
        options: Of the commands `eval` and `sample`, pairs of a flag and a value that commands about this run need.
    """

    run: Path
    info: CheckpointInfo
    steps: int
    corpus: Manifest | None
    corpus_folder: Path | None
    foreign: float | None
    curves: Mapping[str, Sequence[tuple[int, float]]]
    evaluation: Mapping[str, Any] | None
    options: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)

    def fact(self, *names: str) -> Any:  # noqa: ANN401 - any JSON value
        """A value from the facts of the checkpoint; None where it is not recorded."""
        value: Any = self.info.facts
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def command(self, *words: object) -> str:
        """A command about this run, quoted for a shell, with the options that it needs and the words do not give."""
        more = [
            part
            for flag, value in self.options.get(str(words[0]), ())
            # The weight that is looked for is not given.
            if flag not in words and not (flag == "--cfg" and "--find-cfg" in words)
            for part in (flag, value)
        ]
        return shell_line(["sgdd", *words, *more])

    def train_on(self, steps: int | None = None) -> str:
        """The command that trains a run further; of a checkpoint outside of a run, one that trains a new run.

        Args:
            steps: Steps that it shall have in all. A run that ends by the clock gets the time for them too; without a
                GPU, of at most an hour more.
        """
        options: list[object] = [] if steps is None else ["--max-steps", steps]
        if not checkpoints_of(self.run):
            return self.command("train", self.corpus_folder or "DATA", *options)
        minutes, seconds = self.fact("settings", "max_minutes"), self.fact("training", "seconds")
        if steps is not None and isinstance(seconds, int | float):
            needed = seconds / 60 * steps / max(1, self.info.step)
            most = seconds / 60 + 60 if self.fact("training", "device") == "cpu" else needed
            if minutes is not None or most < needed:
                options += ["--max-minutes", math.ceil(min(needed, most))]
        return self.command("train", "--resume", "--out", self.run, *options)


def examine_run(run: Path, corpus: Path | None) -> list[Cause]:
    """The causes that a run's records speak for or against, the likeliest first.

    Args:
        run: Its folder.
        corpus: The folder of its corpus, where that was found.

    Raises:
        CheckpointError: it has no undamaged checkpoint.
    """
    return causes_in(read_records(run, corpus))


def causes_in(records: RunRecords) -> list[Cause]:
    """The causes that records speak for or against, the likeliest first."""
    causes = [
        *_training(records),
        *_loss(records),
        *_data(records),
        *_vocabulary(records),
        *_language(records),
        *_guidance(records),
        *_collapse(records),
        *_lengths(records),
        *_gap(records),
    ]
    # Sorting is stable: of equally likely ones the order above holds, which is that of how often each is met.
    return sorted(causes, key=lambda cause: _ORDER.index(cause.likelihood))


def read_records(run: Path, corpus: Path | None, checkpoint: Path | None = None) -> RunRecords:
    """Read what a run and its corpus recorded.

    Args:
        run: The run's folder; of a checkpoint outside of a run, what it is called.
        corpus: The folder of its corpus, where that was found.
        checkpoint: One checkpoint; by default the best of the run.

    Raises:
        CheckpointError: it has no undamaged checkpoint.
    """
    info = read_info(checkpoint or resolve_checkpoint(run))
    newest = checkpoints_of(run)
    steps = int(newest[-1].name.removeprefix("step-")) if newest else info.step
    manifest = None if corpus is None else Manifest.read(corpus)
    return RunRecords(
        run,
        info,
        steps,
        manifest,
        corpus,
        _foreign_letters(corpus),
        read_log(run).curves,
        next(iter(info.evaluations), None),
    )


def _foreign_letters(corpus: Path | None) -> float | None:
    """Share of the letters of up to 500 held-out sentences that are not ASCII."""
    if corpus is None:
        return None
    from sgdd_engine.data.corpus import Corpus  # noqa: PLC0415 - loads torch

    split = Corpus.open(corpus).split("validation")
    letters = [
        letter for row in range(min(len(split), 500)) for letter in split.text(row) if letter.isalpha()
    ]
    return sum(not letter.isascii() for letter in letters) / len(letters) if letters else None


def _likelihood(*, likely: bool, possible: bool) -> Likelihood:
    return "likely" if likely else "possible" if possible else "unlikely"


def _training(records: RunRecords) -> Iterator[Cause]:
    tokens = records.fact("settings", "batch_tokens")
    seen, sentences = records.fact("training", "sentences_seen"), records.fact("corpus", "train_sentences")
    if not isinstance(tokens, int) or not isinstance(seen, int) or not isinstance(sentences, int):
        sentence = "How many sentences were seen is not recorded in this checkpoint."
        yield Cause("training", "unknown", sentence, records.train_on())
        return
    share = records.info.step * tokens / ENOUGH_TOKENS
    passes = seen / max(1, sentences)
    needed = max(records.steps + 1, round(ENOUGH_TOKENS / tokens))
    likelihood = _likelihood(likely=share < FEW, possible=share < 1)
    yield Cause(
        "training",
        likelihood,
        f"{counted(records.info.step, 'step')} {'is' if records.info.step == 1 else 'are'} "
        f"{'enough' if share >= 1 else 'few'}: {tokens:,} tokens each, {passes:.1f} passes over "
        f"{counted(sentences, 'sentence')}, {share:.1%} of the tokens that the first stage of `mini` took.",
        records.train_on(needed),
    )


def _loss(records: RunRecords) -> Iterator[Cause]:
    values = [value for _, value in records.curves.get("train/loss", [])]
    more = records.train_on(2 * records.steps)
    quarter = len(values) // 4
    if len(values) < FEWEST_REPORTS:
        sentence = f"The curve of the loss has {counted(len(values), 'point')}, too few to say whether it still falls."
        yield Cause("loss still falls", "unknown", sentence, more)
        return
    before, last = values[-2 * quarter : -quarter], values[-quarter:]
    fall = (fmean(before) - fmean(last)) / fmean(before)
    # Two standard errors of the difference of the two means.
    noise = (
        2 * ((stdev(before) ** 2 + stdev(last) ** 2) / quarter) ** 0.5 / fmean(before) if quarter > 1 else 0.0
    )
    sentence = (
        f"The training loss was {fmean(last):.3f} in the last quarter of the run and {fmean(before):.3f} in the one "
        f"before: "
        f"{'a fall' if fall > 0 else 'a rise'} of {abs(fall):.1%}, with noise of {noise:.1%}."
    )
    falls = fall > max(STILL_FALLING, noise)
    strong = fall > max(3 * STILL_FALLING, noise)
    yield Cause(
        "loss still falls", "likely" if strong else "possible" if falls else "unlikely", sentence, more
    )


def _data(records: RunRecords) -> Iterator[Cause]:
    sentences = records.fact("corpus", "train_sentences")
    more = records.command("prepare-data", "MORE-TEXT", "--out", "data/more")
    if not isinstance(sentences, int):
        yield Cause("little text", "unknown", "The number of training sentences is not recorded.", more)
    else:
        share = sentences / ENOUGH_SENTENCES
        likelihood = _likelihood(likely=share < FEW / 10, possible=share < FEW)
        sentence = f"{sentences:,} training sentences; `mini` was trained on {ENOUGH_SENTENCES:,}."
        yield Cause("little text", likelihood, sentence, more)
    manifest = records.corpus
    if manifest is None:
        yield Cause(
            "text left out",
            "unknown",
            "The corpus of the run is not found, so what was left out of it is unknown.",
            records.command("prepare-data", "SOURCE", "--dry-run"),
        )
        return
    left_out, read = manifest.counts.get("left_out", {}), max(1, manifest.counts.get("read", 1))
    share = sum(left_out.values()) / read
    shown = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in left_out.items() if count)
    longest = manifest.settings.get("max_tokens", 64)
    too_long = max(left_out, key=left_out.__getitem__, default=None) == "too_many_tokens"
    command = ("--set", f"data.max_tokens={min(512, 2 * longest)}") if too_long else ("--dry-run",)
    yield Cause(
        "text left out",
        "possible" if share > MOST_LEFT_OUT else "unlikely",
        f"{share:.1%} of {read:,} lines were left out{f' ({shown})' if shown else ''}.",
        records.command("prepare-data", "SOURCE", *command),
    )


def _vocabulary(records: RunRecords) -> Iterator[Cause]:
    command = records.command("prepare-data", "SOURCE", "--set", "tokenizer.kind=unigram")
    counts = {} if records.corpus is None else records.corpus.counts
    unknown, tokens = counts.get("unknown_tokens"), counts.get("tokens")
    if unknown is None or not tokens:
        dry = records.command("prepare-data", "SOURCE", "--dry-run")
        yield Cause(
            "vocabulary", "unknown", "How much of the text the vocabulary covers is not recorded.", dry
        )
        return
    share = unknown / tokens
    likelihood: Likelihood = (
        "likely" if share > 5 * MOST_UNKNOWN else "possible" if share > MOST_UNKNOWN else "unlikely"
    )
    sentence = f"{unknown:,} of {tokens:,} tokens ({share:.1%}) are unknown to the vocabulary."
    yield Cause("vocabulary", likelihood, sentence, command)


def _language(records: RunRecords) -> Iterator[Cause]:
    name = records.info.encoder.name
    english = name == MINILM or any(part in name.lower() for part in _ENGLISH_NAMES)
    command = records.command("prepare-data", "SOURCE", "--encoder", "BAAI/bge-m3")
    if records.foreign is None:
        sentence = "The corpus of the run is not found, so its language is unknown."
        yield Cause("language", "unknown", sentence, records.command("prepare-data", "SOURCE", "--dry-run"))
        return
    sentence = f"{records.foreign:.1%} of the letters are not of the English alphabet; the encoder is {name}"
    foreign = records.foreign > MOST_FOREIGN
    if english:
        yield Cause(
            "language", "likely" if foreign else "unlikely", f"{sentence}, made for English.", command
        )
    elif foreign:
        yield Cause("language", "possible", f"{sentence}, whose languages are not recorded.", command)
    else:
        yield Cause("language", "unlikely", f"{sentence}.", command)


def _guidance(records: RunRecords) -> Iterator[Cause]:
    command = records.command("eval", records.run, "--find-cfg")
    info, evaluation = records.info, records.evaluation
    weight = info.sampling.get("cfg")
    if not info.trained_null:
        yield Cause(
            "guidance", "unlikely", "The model was trained without a null condition and has none.", command
        )
        return
    gain = (
        None if evaluation is None else evaluation.get("differences", {}).get("unguided", {}).get("token_f1")
    )
    if evaluation is None or gain is None:
        searched = (
            "no best weight was searched for" if weight is None else f"the weight {weight:g} is recorded"
        )
        yield Cause("guidance", "unknown", f"The effect of guidance was not measured; {searched}.", command)
        return
    used = evaluation["settings"]["sampling"].get("cfg")
    low, high, mean = (gain.get(name) for name in ("low", "high", "mean"))
    sentence = f"With the weight {used:g} token F1 changes by {mean:+.3f} against none"
    sentence += "." if low is None else f" ({low:+.3f} to {high:+.3f})."
    harmful = high is not None and high < 0
    unsearched = weight is None and not (low is not None and low > 0)
    yield Cause(
        "guidance", "likely" if harmful else "possible" if unsearched else "unlikely", sentence, command
    )


def _collapse(records: RunRecords) -> Iterator[Cause]:
    bottleneck = records.info.model.bottleneck
    if bottleneck.kind != "vib":
        sentence = f"The bottleneck ({bottleneck.kind}) is not variational, so nothing can collapse."
        yield Cause("collapse", "unlikely", sentence, records.command("eval", records.run))
        return
    beta = records.fact("settings", "beta")
    lower = f"{beta / 10:g}" if isinstance(beta, int | float) and beta > 0 else "0"
    corpus = records.corpus_folder or "DATA"
    command = records.command("train", corpus, "--set", f"train.beta={lower}")
    latent = None if records.evaluation is None else records.evaluation.get("latent")
    if isinstance(latent, dict) and "active_units" in latent:
        sentence = (
            f"{latent['active_units']:,} of {latent['dimensions']:,} latent dimensions are active, KL "
            f"{latent['kl_nats_per_sentence']:.1f} nats per sentence."
        )
        yield Cause("collapse", "likely" if latent["collapsed"] else "unlikely", sentence, command)
        return
    if kl := records.curves.get("train/kl_nats"):
        last = kl[-1][1]
        sentence = f"The KL was {last:.1f} nats per sentence at the end; active units were not measured."
        yield Cause("collapse", "likely" if last < COLLAPSED_NATS else "unlikely", sentence, command)
        return
    sentence = "Neither the KL nor active units are recorded."
    yield Cause("collapse", "unknown", sentence, records.command("eval", records.run))


def _lengths(records: RunRecords) -> Iterator[Cause]:
    command = records.command("eval", records.run, "--candidates", 8)
    own = {} if records.evaluation is None else records.evaluation["conditions"][0]["scores"]
    if "length_error" not in own or "length_exact" not in own:
        sentence = "How well lengths are predicted was not measured."
        yield Cause("length", "unknown", sentence, records.command("eval", records.run))
        return
    error, right = own["length_error"]["mean"], own["length_exact"]["mean"]
    sentence = (
        f"The length is right for {right:.0%} of sentences, and wrong by {error:.1f} tokens on average."
    )
    yield Cause("length", "possible" if right < FEWEST_RIGHT_LENGTHS else "unlikely", sentence, command)


def _gap(records: RunRecords) -> Iterator[Cause]:
    held_out = [value for _, value in records.curves.get("validation/loss", [])]
    train = [value for _, value in records.curves.get("train/loss", [])]
    corpus = records.corpus_folder or "DATA"
    command = records.command("train", corpus, "--set", "decoder.dropout=0.1")
    if not held_out or not train:
        sentence = "Held-out loss and training loss are not both recorded."
        yield Cause("overfitting", "unknown", sentence, records.train_on())
        return
    last = fmean(train[-max(1, len(train) // 4) :])
    gap, risen = held_out[-1] / last - 1, held_out[-1] / min(held_out) - 1
    sentence = (
        f"Held-out loss {held_out[-1]:.3f}, at best {min(held_out):.3f}; training loss {last:.3f} "
        f"({gap:+.1%} from one to the other)."
    )
    likelihood = _likelihood(likely=risen > RISEN and gap > GAP, possible=risen > RISEN or gap > GAP)
    yield Cause("overfitting", likelihood, sentence, command)
