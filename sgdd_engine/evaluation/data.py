"""The held-out sentences of an evaluation, with their vectors and tokens, and where they came from."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgdd_engine.counted import counted
from sgdd_engine.data.cleaning import Rejection, clean, describe_rejections, rejection, token_rejection
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.sources import open_source
from sgdd_engine.errors import DataError
from sgdd_engine.events import Listener, Notice, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation import SGDD
from sgdd_engine.text.reference import EncoderReference
from sgdd_engine.text.vocabulary_fit import LARGE_SHARE

# Lines cleaned and tokenised at once; the tokenizer is quicker on many.
CHUNK = 4096

_ENCODE_ON_THE_SPOT = (
    "Name a text file instead of the corpus: it is cut and encoded for the model on the spot."
)


@dataclass(frozen=True)
class EvaluationSet:
    """N held-out sentences.

    Attributes:
        sentences: The cleaned sentences, as they stand in the source.
        vectors: Their vectors by the model's encoder [N, D], float32, on the CPU.
        token_ids: Their tokens by the model's tokenizer, without specials.
        encoder: Which encoder made the vectors.
        tokenizer_fingerprint: Which tokenizer made the tokens.
        origin: Where they came from and what was left out, as JSON values for the report.
    """

    sentences: Sequence[str]
    vectors: Tensor
    token_ids: Sequence[Sequence[int]]
    encoder: EncoderReference
    tokenizer_fingerprint: str
    origin: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of sentences."""
        return len(self.sentences)

    def rows(self, chosen: Sequence[int]) -> "EvaluationSet":
        """Some of the sentences; their number is noted in the origin."""
        return replace(
            self,
            sentences=[self.sentences[row] for row in chosen],
            vectors=self.vectors[torch.tensor(chosen, dtype=torch.long)],
            token_ids=[self.token_ids[row] for row in chosen],
            origin={**self.origin, "chosen": len(chosen)},
        )


def from_corpus(
    corpus: Corpus, split: str = "test", limit: int = 1000, seed: int = 0, *, skip: int = 0
) -> EvaluationSet:
    """A random choice of a prepared corpus's held-out sentences, the same for the same seed.

    Whether the corpus fits a model is checked by `fitted`, which `evaluate` calls.

    Args:
        corpus: An open corpus.
        split: `test` or `validation`.
        limit: Sentences chosen.
        seed: Seed of the choice.
        skip: Passed over first: `skip=n` chooses none of those that `limit=n` chooses.

    Raises:
        DataError: The corpus has no such split, or nothing is left of it.
    """
    rows = corpus.split(split)
    if len(rows) <= skip:
        what = (
            "is empty"
            if not skip
            else f"holds {counted(len(rows), 'sentence')}, of which {skip:,} are scored"
        )
        raise DataError(f"The split `{split}` of `{corpus.folder}` {what}.", "Prepare a larger corpus.")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[skip : skip + limit])
    return EvaluationSet(
        sentences=[rows.text(i) for i in chosen.tolist()],
        vectors=rows.embeddings(chosen),
        token_ids=[rows.tokens(i) for i in chosen.tolist()],
        encoder=corpus.encoder_reference,
        tokenizer_fingerprint=str(corpus.manifest.tokenizer["fingerprint"]),
        origin={
            "kind": "corpus",
            "path": str(corpus.folder),
            "split": split,
            "fingerprint": corpus.manifest.fingerprint(),
            "available": len(rows),
            "chosen": len(chosen),
            "seed": seed,
        },
    )


def from_text_file(
    path: Path,
    model: SGDD,
    limit: int = 1000,
    seed: int = 0,
    *,
    skip: int = 0,
    config: DataConfig | None = None,
    on_event: Listener = ignore,
) -> EvaluationSet:
    """A random choice of a text file's sentences, cleaned and filtered as preparation does, and encoded.

    Which sentences are chosen depends on the seed and their text, not on their order in the file. Memory does
    not grow with the file.

    Args:
        path: A file, a pipe, a folder of files, or `-`; see `sgdd_engine.data.sources`.
        model: Its tokenizer cuts the sentences and its encoder makes the vectors.
        limit: Sentences chosen.
        seed: Seed of the choice.
        skip: Passed over first: `skip=n` chooses none of those that `limit=n` chooses.
        config: Column and filters; the limit on tokens is always the model's own.
        on_event: Told how many sentences were left out and why, and how the encoding goes on.

    Raises:
        DataError: The file cannot be read, or no sentence in it can be used.
        EncoderError: The model's encoder cannot be loaded.
    """
    config = replace(config or DataConfig(), max_tokens=model.info.model.max_tokens)
    counts: Counter[str] = Counter()
    source = open_source(str(path), config)
    for text in source.notices():
        on_event(Notice(text))
    chosen = _choose(_usable(source.lines(), model, config, counts), skip + limit, seed)
    read = counts.pop("read", 0)
    left_out = {reason: count for reason, count in counts.items() if count}
    if not chosen:
        what = (
            f"{counted(read, 'line')} read, {describe_rejections(left_out, config)}"
            if read
            else "it is empty"
        )
        raise DataError(
            f"`{path}` holds no sentence that this model can be evaluated on: {what}.",
            f"Give one sentence per line, of {config.min_words} to {config.max_words} words.",
        )
    if len(chosen) <= skip:
        raise DataError(
            f"`{path}` holds {counted(len(chosen), 'sentence')} that can be used; the first {skip:,} are for the "
            "scores and the guidance weight, and none is left.",
            "Give more text, or score fewer sentences of it, with a smaller --limit.",
        )
    chosen = chosen[skip:]
    if left_out:
        too_long = left_out.get(Rejection.TOO_MANY_TOKENS.value, 0) / read
        share = f"; {too_long:.0%} of the lines are longer than the model writes" if too_long else ""
        on_event(
            Notice(
                f"Left out of `{path}`: {describe_rejections(left_out, config)}{share}.",
                warning=too_long > LARGE_SHARE,
            )
        )
    sentences = [sentence for sentence, _ in chosen]
    fit = model.vocabulary_fit()
    fit.add(sentences, [tokens for _, tokens in chosen])
    for message in fit.warnings():
        on_event(Notice(message, warning=True))
    return EvaluationSet(
        sentences=sentences,
        vectors=_encoded(sentences, model, on_event),
        token_ids=[tokens for _, tokens in chosen],
        encoder=model.encoder_reference,
        tokenizer_fingerprint=model.tokenizer.fingerprint(),
        origin={
            "kind": "text",
            "path": str(path),
            "lines": read,
            "left_out": left_out,
            "usable_lines": read - sum(left_out.values()),
            "chosen": len(chosen),
            "seed": seed,
        },
    )


def fitted(data: EvaluationSet, model: SGDD, on_event: Listener = ignore) -> EvaluationSet:
    """The sentences that the model can write, after a check that vectors and tokens are its own.

    Raises:
        DataError: Another encoder made the vectors, another tokenizer the tokens, or nothing is left.
    """
    name = data.origin.get("path", "the evaluation set")
    theirs, ours = data.encoder, model.encoder_reference
    if different := theirs.differences(ours):
        raise DataError(
            f"The vectors of `{name}` come from `{theirs.name}`, another encoder than the model's `{ours.name}`: "
            f"{'; '.join(different)}.",
            _ENCODE_ON_THE_SPOT,
        )
    if data.vectors.shape[1] != ours.dim:
        raise DataError(
            f"The vectors of `{name}` have {data.vectors.shape[1]} dimensions; the model reads {ours.dim}.",
            _ENCODE_ON_THE_SPOT,
        )
    if data.tokenizer_fingerprint != model.tokenizer.fingerprint():
        raise DataError(
            f"The tokens of `{name}` come from another tokenizer than the model's.", _ENCODE_ON_THE_SPOT
        )
    longest = model.info.model.max_tokens
    kept = [i for i, tokens in enumerate(data.token_ids) if 1 <= len(tokens) <= longest]
    out = len(data) - len(kept)
    if len(kept) < 2:
        raise DataError(
            f"`{name}` holds {counted(len(kept), 'sentence')} of at most {longest} tokens; an evaluation needs at "
            "least 2, since each is also scored with another one's vector.",
            "Give more sentences.",
        )
    if not out:
        return data
    share = f"{counted(out, 'sentence')} of {len(data):,}"
    on_event(Notice(f"Left out of `{name}`: {share} above the model's {longest} tokens.", warning=True))
    left_out = Counter(data.origin.get("left_out", {})) + Counter({Rejection.TOO_MANY_TOKENS.value: out})
    fitting = data.rows(kept)
    return replace(fitting, origin={**fitting.origin, "left_out": dict(left_out)})


def _usable(
    lines: Iterator[str], model: SGDD, config: DataConfig, counts: Counter[str]
) -> Iterator[tuple[str, list[int]]]:
    """The sentences that pass the filters with their tokens; lines read and rejections go into `counts`."""
    while chunk := list(islice(lines, CHUNK)):
        counts["read"] += len(chunk)
        cleaned = [clean(line) for line in chunk]
        reasons = [rejection(sentence, config) for sentence in cleaned]
        counts.update(reason.value for reason in reasons if reason is not None)
        kept = [sentence for sentence, reason in zip(cleaned, reasons, strict=True) if reason is None]
        for sentence, tokens in zip(kept, model.tokenizer.encode_batch(kept), strict=True):
            if reason := token_rejection(len(tokens), config.max_tokens):
                counts[reason.value] += 1
            else:
                yield sentence, tokens


def _choose(rows: Iterator[tuple[str, list[int]]], limit: int, seed: int) -> list[tuple[str, list[int]]]:
    """The `limit` distinct sentences of the smallest seeded hash, in the order of their hashes.

    A sample without replacement from a stream of unknown length, of which at most twice as many are held; a second
    copy has the same hash.
    """
    kept: dict[bytes, tuple[str, list[int]]] = {}
    for sentence, tokens in rows:
        rank = hashlib.blake2b(sentence.encode(), key=str(seed).encode(), digest_size=16).digest()
        kept[rank] = sentence, tokens
        if len(kept) >= 2 * limit:
            kept = dict(sorted(kept.items())[:limit])
    return [row for _, row in sorted(kept.items())[:limit]]


def _encoded(sentences: list[str], model: SGDD, on_event: Listener) -> Tensor:
    encoder = model.encoder
    before = encoder.truncated
    done = 0

    def report(batch: int) -> None:
        nonlocal done
        done += batch
        on_event(StageProgress("encoding", done))

    on_event(StageStarted("encoding", len(sentences)))
    vectors = encoder.encode(sentences, report)
    on_event(StageFinished("encoding"))
    if cut := encoder.truncated - before:
        share = f"{counted(cut, 'sentence')} of {len(sentences):,}"
        on_event(
            Notice(f"The encoder read only the beginning of {share} (encoder.max_tokens).", warning=True)
        )
    return vectors
