"""The whole preparation, resumable at any point: source → distinct sentences → tokenizer → shards → manifest."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from sgdd_engine.atomic_files import flush, flush_folder, remove_leftovers, sha256_of, write_json
from sgdd_engine.counted import about, counted
from sgdd_engine.data.cleaning import (
    Rejection,
    describe_examples,
    describe_rejections,
    shown,
    token_rejection,
)
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.deduplicate import (
    MIN_SENTENCES,
    DistinctSentences,
    deduplicate,
    read_distinct,
    sha256_of_distinct,
    split_into_groups,
    too_few,
)
from sgdd_engine.data.encoding import ShardBuilder, trim_heap
from sgdd_engine.data.manifest import MANIFEST, STATISTICS, TOKENIZER, WORK, Manifest
from sgdd_engine.data.shards import UNKNOWN, Totals, write_statistics
from sgdd_engine.data.source_registry import Source
from sgdd_engine.data.vector_reuse import ReusableVectors, open_reusable_corpus, refuse_other_encoder
from sgdd_engine.data.workspace import (
    INPUT,
    STATE,
    PreparationSpec,
    clear_results,
    clear_work,
    disk_errors,
    is_lost,
    locked,
    make_spec,
    read_state,
    refuse_differences,
    refuse_foreign,
    spec_of,
)
from sgdd_engine.distributed import ALONE, World, run_on_rank0
from sgdd_engine.errors import SgddError
from sgdd_engine.events import Listener, Notice, StageFinished, StageStarted, ignore
from sgdd_engine.models.device import has_native_bf16
from sgdd_engine.text.config import MINILM, TokenizerConfig
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.reference import EncoderReference
from sgdd_engine.text.tokenizer import TextTokenizer, train_unigram
from sgdd_engine.text.vocabulary_fit import JUDGED_SENTENCES, LARGE_SHARE, loss_warnings

TOKENIZING = "tokenizer"

# Sentences that a vocabulary is trained on; five times as many of the same novels gave no shorter token sequences.
_TOKENIZER_SAMPLE = 100_000
_EMULATED_BF16 = (
    "This device has no bf16 arithmetic of its own and emulates it, so encoding takes longer than with "
    "encoder.precision=fp32."
)
# Sentences that are timed first; four times as many until they take so many seconds.
_FIRST_SENTENCES = 16
_TIMED_SECONDS = 2
# Seconds below which nothing is said, and above which it is said how less is encoded.
_SHORT = 60
_LONG = 3600


def prepare(
    source: Source,
    out: Path,
    *,
    encoder: SentenceEncoder | Callable[[], SentenceEncoder],
    config: DataConfig,
    tokenizer: TokenizerConfig,
    overwrite: bool = False,
    on_event: Listener = ignore,
    world: World = ALONE,
) -> Manifest:
    """Prepare a corpus in `out`, or resume an earlier call with the same settings.

    Several processes on one file system share the encoding: rank 0 reads the source and trains the vocabulary,
    each builds every `world.size`-th shard, and rank 0 writes the manifest. The corpus is the same as
    from one process.

    Args:
        source: Where the text comes from.
        out: The corpus folder; it is a corpus once it holds `manifest.json`.
        encoder: Computes the vectors. A function that loads it is called after the source was found readable.
        config: Filters, splits, storage; and the corpus whose vectors are reused.
        tokenizer: The encoder's own vocabulary, or one trained on this corpus.
        overwrite: Delete the result of an earlier preparation in `out`.
        on_event: Receives the stages `reading` (lines), `tokenizer`, `vectors` (sentences of the reused corpus, if
            any) and `encoding` (sentences), on rank 0.
        world: The processes that share the work.

    Raises:
        DataError: If the source is unreadable or leaves too little, if `out` holds something else or a state that
            cannot be read, or if it is being prepared by another process; if `data.vectors_from` is no corpus of the
            same encoder.
        EncoderError: If the encoder cannot be loaded.
        LostProcessError: On the other ranks, where rank 0 raises one of these before or after encoding.
    """

    def load() -> SentenceEncoder:
        return encoder if isinstance(encoder, SentenceEncoder) else encoder()

    with ExitStack() as stack:
        stack.enter_context(disk_errors(out))
        listener = on_event if world.is_main else ignore
        preparation = _Preparation(source, out, config, tokenizer, listener, world.size)

        def begin() -> Manifest | SentenceEncoder:
            stack.enter_context(locked(out))
            return preparation.begin(load, overwrite)

        begun = run_on_rank0(world, begin)
        if isinstance(begun, Manifest) or (begun is None and (out / MANIFEST).exists()):
            return begun or Manifest.read(out)
        loaded = begun or load()
        reusable = run_on_rank0(world, lambda: preparation.reusable(verify=True)) or preparation.reusable(
            verify=False
        )
        builder, distinct = preparation.shard_builder(loaded, reusable, world)
        names = builder.build(
            split_into_groups(read_distinct(preparation.sentences), distinct, config.shard_sentences)
        )
        world.barrier()
        finished = run_on_rank0(world, lambda: preparation.finish(builder, distinct, names))
        return finished or Manifest.read(out)


def describe_time(seconds: float, distinct: DistinctSentences, encoder: EncoderReference) -> str:
    """How long encoding will take, and how it is made shorter where that is long; nothing where it is short."""
    if seconds < _SHORT:
        return ""
    text = f"Encoding {counted(distinct.unique, 'sentence')} will take {about(seconds)}."
    if seconds <= _LONG:
        return text
    fewer = max(1000, round(distinct.read * _LONG / seconds, -3))
    smaller = "" if encoder.name == MINILM else f"; or a smaller encoder: --encoder {MINILM}"
    return f"{text} In an hour: --limit {fewer:.0f}{smaller}. Stopped with Ctrl-C, the same command goes on."


def encoding_seconds(encoder: SentenceEncoder, sentences: Sequence[str], total: int) -> float:
    """About how long the encoder takes for `total` sentences like these.

    The first sentences tell too much: they also load the weights, and large batches take less time per sentence. Unless
    even by that all are soon done, more are timed.

    Args:
        encoder: Not used yet, perhaps.
        sentences: A random sample, at least one.
        total: How many it will encode.
    """

    def seconds_of(texts: Sequence[str]) -> float:
        began = time.perf_counter()
        encoder.encode(texts)
        return time.perf_counter() - began

    timed = min(_FIRST_SENTENCES, len(sentences))
    seconds = seconds_of(sentences[:timed])
    if seconds / timed * total < _SHORT:
        return seconds / timed * total
    while (seconds := seconds_of(sentences[:timed])) < _TIMED_SECONDS and timed < len(sentences):
        timed = min(4 * timed, len(sentences))
    return seconds / timed * total


def _keep_complete(out: Path, complete: Manifest, spec: PreparationSpec, on_event: Listener) -> Manifest:
    """Check that a complete corpus has the same specification, and leave it unchanged."""
    refuse_differences(out, spec_of(complete), spec)
    corpus = Corpus.open(out, on_event=on_event)
    _ = corpus.all_rows(), corpus.tokenizer  # read and verified
    shutil.rmtree(out / WORK, ignore_errors=True)
    on_event(Notice(f"`{out}` is complete already; nothing to do."))
    return complete


def _probed(encoder: SentenceEncoder, reused: Corpus | None) -> EncoderReference:
    """The encoder with probes: those of the corpus whose vectors are reused, since its weights may not be needed."""
    if reused is None:
        return encoder.probe()
    return replace(encoder.reference, probes=reused.encoder_reference.probes)


def _left_out(distinct: DistinctSentences, totals: Totals) -> dict[str, int]:
    """How many lines were left out, by reason."""
    by_tokens = {
        Rejection.TOO_MANY_TOKENS: totals.counts.too_long,
        Rejection.NO_TOKENS: totals.counts.no_tokens,
    }
    return {**distinct.rejected, **{reason.value: count for reason, count in by_tokens.items() if count}}


@dataclass(frozen=True)
class _Preparation:
    """One run of the stages; each stores its result on disk and finds it again on resume."""

    source: Source
    out: Path
    config: DataConfig
    tokenizer: TokenizerConfig
    on_event: Listener
    processes: int

    @property
    def _work(self) -> Path:
        return self.out / WORK

    @property
    def sentences(self) -> Path:
        """The folder of the distinct sentences between the two passes."""
        return self._work / "sentences"

    def begin(self, load: Callable[[], SentenceEncoder], overwrite: bool) -> Manifest | SentenceEncoder:
        """The work of rank 0 before encoding; returns the manifest if the corpus is complete already."""
        out = self.out
        refuse_foreign(out)
        remove_leftovers(out, locked=True)
        complete = Manifest.read(out) if (out / MANIFEST).exists() and not overwrite else None
        state = {} if overwrite else read_state(out) if complete is None else spec_of(complete)
        reused = self._reused_corpus() if complete is None else None
        try:
            (self._work / INPUT).mkdir(parents=True, exist_ok=True)
            self.source.spool(self._work / INPUT)
            description = self.source.describe(state.get("source"))
            loaded = load()
            if reused is not None:
                refuse_other_encoder(reused, loaded.reference)
            spec = make_spec(description, _probed(loaded, reused), self.tokenizer, self.config)
            if complete is not None:
                return _keep_complete(out, complete, spec, self.on_event)
            # Only after source and encoder were found. Before the sentences are known, nothing else can be right.
            if not state.get("staged"):
                clear_work(out)
            distinct = self._deduplicate(state, spec)
        except SgddError:
            if is_lost(out):
                shutil.rmtree(self._work, ignore_errors=True)
            raise
        self._make_tokenizer(distinct, loaded)
        if loaded.reference.dtype == "bfloat16" and not has_native_bf16(loaded.device):
            self.on_event(Notice(_EMULATED_BF16, warning=True))
        self._warn_of_loss(loaded)
        # What is left of a resumed preparation, or to be encoded beside reused vectors, is not known here.
        if not state.get("staged") and reused is None:
            self._say_how_long(loaded, distinct)
        return loaded

    def _say_how_long(self, encoder: SentenceEncoder, distinct: DistinctSentences) -> None:
        """Time the encoder on some sentences, and say about how long all of them take, unless that is short."""
        sample, pieces = self._sample(), TextTokenizer.load(self.out / TOKENIZER)
        # What is too long for the decoder is not encoded, and would have taken longest.
        counts = map(len, pieces.encode_batch(sample))
        encoded = [
            text
            for text, count in zip(sample, counts, strict=True)
            if token_rejection(count, self.config.max_tokens) is None
        ]
        if not encoded:
            return
        total = round(distinct.unique * len(encoded) / len(sample))
        seconds = encoding_seconds(encoder, encoded, total) / self.processes
        if text := describe_time(seconds, distinct, encoder.reference):
            self.on_event(Notice(text))

    def _sample(self) -> list[str]:
        """Some sentences; they are ordered by hash, so the first ones are a random sample."""
        return list(islice(read_distinct(self.sentences), JUDGED_SENTENCES))

    def _warn_of_loss(self, encoder: SentenceEncoder) -> None:
        """Say before anything is encoded what the length and the encoder's vocabulary will leave out."""
        pieces = TextTokenizer.load(self.out / TOKENIZER)
        for text in loss_warnings(
            self._sample(), pieces, TextTokenizer.from_encoder(encoder), self.config.max_tokens
        ):
            self.on_event(Notice(text, warning=True))

    def _deduplicate(self, state: PreparationSpec, spec: PreparationSpec) -> DistinctSentences:
        """The first pass, or its result if an earlier run finished it."""
        if state.get("staged"):
            refuse_differences(self.out, state, spec)
            distinct = DistinctSentences(**state["staged"])
            if distinct.sha256 in (None, sha256_of_distinct(self.sentences)):
                known = counted(distinct.unique, "sentence")
                self.on_event(Notice(f"Going on with {known}, read before."))
                return distinct
            text = "The sentences that were read before are damaged, as by a power cut; they are read again."
            self.on_event(Notice(text, warning=True))
        for text in self.source.notices():
            self.on_event(Notice(text))
        # Written before reading too, so that a restarted reading uses the same commit of a hub data set.
        write_json(self._work / STATE, spec)
        distinct = deduplicate(
            self.source.lines(),
            self.sentences,
            name=self.source.title,
            config=self.config,
            total=self.config.limit or self.source.estimated_lines(),
            on_event=self.on_event,
        )
        # Only now is a corpus deleted that this one replaces: text that cannot be used leaves it as it is. After a kill
        # before the next line the sentences are read again, and what is left of the older corpus is deleted then.
        clear_results(self.out)
        write_json(self._work / STATE, {**spec, "staged": asdict(distinct)})
        return distinct

    def _make_tokenizer(self, distinct: DistinctSentences, encoder: SentenceEncoder) -> None:
        """Store the decoder's tokenizer in the corpus folder; an earlier run's is used again."""
        folder = self.out / TOKENIZER
        if folder.is_dir():
            return
        self.on_event(StageStarted(TOKENIZING, 1, "vocabularies"))
        if self.tokenizer.kind == "encoder":
            pieces = TextTokenizer.from_encoder(encoder)
        else:
            # Sentences are ordered by hash, so the first ones are a random sample. Held-out ones are not used.
            training = (text for text in read_distinct(self.sentences) if distinct.split_of(text) == "train")
            sample = islice(training, _TOKENIZER_SAMPLE)
            pieces = train_unigram(sample, self.tokenizer.vocab_size)
            trim_heap()
        unfinished = self._work / TOKENIZER
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for path in pieces.save(unfinished):
            flush(path)
        flush_folder(unfinished)
        unfinished.replace(folder)
        flush_folder(self.out)
        self.on_event(StageFinished(TOKENIZING, f"{pieces.vocab_size:,} pieces ({pieces.kind})."))

    def _reused_corpus(self, *, verify: bool = True) -> Corpus | None:
        if (folder := self.config.vectors_from) is None:
            return None
        return open_reusable_corpus(
            Path(folder), self.out, self.config.embedding_dtype, verify=verify, on_event=self.on_event
        )

    def reusable(self, *, verify: bool) -> ReusableVectors | None:
        """The vectors that need not be computed, on every rank.

        Raises:
            DataError: If their corpus is damaged.
        """
        if (corpus := self._reused_corpus(verify=verify)) is None:
            return None
        return ReusableVectors.from_corpus(corpus, on_event=self.on_event)

    def shard_builder(
        self, encoder: SentenceEncoder, reusable: ReusableVectors | None, world: World
    ) -> tuple[ShardBuilder, DistinctSentences]:
        """The second pass on this rank, from the results of `begin` on disk.

        Raises:
            DataError: If this rank's encoder is not the one that rank 0 has.
        """
        state = read_state(self.out)
        refuse_differences(self.out, state, {**state, "encoder": encoder.reference.to_dict()})
        distinct = DistinctSentences(**state["staged"])
        pieces = TextTokenizer.load(self.out / TOKENIZER)
        builder = ShardBuilder(
            self.out,
            self._work,
            encoder,
            pieces,
            self.config,
            reusable,
            reference=EncoderReference.from_dict(state["encoder"]),
            total=distinct.unique,
            world=world,
            on_event=self.on_event,
        )
        return builder, distinct

    def finish(self, builder: ShardBuilder, distinct: DistinctSentences, names: list[str]) -> Manifest:
        """Write statistics, then the manifest; delete the working files last."""
        totals = Totals.from_records(builder.records(names))
        kept, left_out = sum(totals.splits.values()), _left_out(distinct, totals)
        if totals.train_statistics is None or kept < MIN_SENTENCES or not all(totals.splits.values()):
            clear_results(self.out)  # shards without a manifest would block the next attempt
            shutil.rmtree(self._work, ignore_errors=True)
            raise too_few(self.source.title, kept, distinct.read, describe_rejections(left_out, self.config))
        write_statistics(totals.train_statistics, self.out)
        manifest = self._manifest(builder, distinct, totals)
        manifest.write(self.out)
        shutil.rmtree(self._work, ignore_errors=True)
        self._report(manifest, builder, distinct.examples | totals.examples)
        return manifest

    def _manifest(self, builder: ShardBuilder, distinct: DistinctSentences, totals: Totals) -> Manifest:
        spec, pieces, splits = read_state(self.out), builder.tokenizer, totals.splits
        return Manifest(
            source=spec["source"],
            encoder=spec["encoder"],
            tokenizer={
                "kind": pieces.kind,
                "vocab_size": pieces.vocab_size,
                "fingerprint": pieces.fingerprint(),
                "asked": spec["tokenizer"],
            },
            settings=spec["data"],
            counts={
                "read": distinct.read,
                "kept": sum(splits.values()),
                "tokens": totals.counts.tokens,
                "unknown_tokens": totals.counts.unknown_tokens,
                "left_out": _left_out(distinct, totals),
            },
            splits=splits,
            shards=totals.shards,
            max_tokens=totals.counts.max_tokens,
            embedding=totals.embedding(builder.encoder.dim, self.config.embedding_dtype),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files={
                path.relative_to(self.out).as_posix(): sha256_of(path)
                for path in (self.out / STATISTICS, *sorted((self.out / TOKENIZER).iterdir()))
            },
        )

    def _report(self, manifest: Manifest, builder: ShardBuilder, examples: Mapping[str, str]) -> None:
        counts, truncated = manifest.counts, manifest.embedding["truncated"]
        left_out = sum(counts["left_out"].values())
        lines = [f"Left out of {counted(counts['read'], 'line')}: {left_out:,}{':' if left_out else '.'}"]
        lines += [f"  {line}" for line in describe_examples(counts["left_out"], examples, self.config)]
        self.on_event(Notice("\n".join(lines)))
        if truncated:
            share = f"{counted(truncated, 'sentence')} ({truncated / counts['kept']:.1%})"
            text = f"The encoder read only the beginning of {share} (encoder.max_tokens)."
            self.on_event(Notice(text, warning=True))
        if unknown := counts["unknown_tokens"]:
            share = f"{unknown:,} of {counted(counts['tokens'], 'token')} ({unknown / counts['tokens']:.1%})"
            such_as = f", as in {shown(examples[UNKNOWN])}" if UNKNOWN in examples else ""
            verb = "is" if unknown == 1 else "are"
            text = f"{share} {verb} unknown to the vocabulary{such_as}."
            self.on_event(Notice(text, warning=unknown > counts["tokens"] * LARGE_SHARE))
        kept, tokens = counted(counts["kept"], "sentence"), counted(counts["tokens"], "token")
        summary = f"{kept}, {tokens} in `{self.out}`"
        if origin := manifest.embedding.get("origin"):
            reused = sum(origin["taken"].values())
            verb = "was" if reused == 1 else "were"
            summary += f"; {counted(reused, 'vector')} {verb} reused, {origin['encoded']:,} encoded"
        builder.finish(f"{summary}.")
