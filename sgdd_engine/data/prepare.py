"""The whole preparation: source → distinct sentences → tokenizer → shards → manifest, always resumable."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from sgdd_engine.atomic_files import flush, write_json
from sgdd_engine.data.cleaning import Rejection, describe_rejections
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus, check_size
from sgdd_engine.data.deduplicate import MIN_SENTENCES, Staged, stage_sentences, staged_sentences, too_few
from sgdd_engine.data.encoding import EncodingProgress, ShardMaker
from sgdd_engine.data.groups import grouped
from sgdd_engine.data.heap_trim import give_back_memory
from sgdd_engine.data.manifest import MANIFEST, TOKENIZER, WORK, Manifest
from sgdd_engine.data.preparation_spec import Request, make_request, refuse_differences, request_of
from sgdd_engine.data.sources import Source
from sgdd_engine.data.totals import Totals, write_statistics
from sgdd_engine.data.vector_reuse import KnownVectors, open_origin, refuse_other_encoder
from sgdd_engine.data.workspace import (
    INPUT,
    STATE,
    clear,
    disk_errors,
    locked,
    read_state,
    refuse_foreign,
)
from sgdd_engine.distributed import ALONE, World, on_main
from sgdd_engine.errors import SgddError
from sgdd_engine.events import Listener, Notice, StageFinished, StageStarted, ignore
from sgdd_engine.text.config import TokenizerConfig
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.tokenizer import TextTokenizer, train_unigram

TOKENIZING = "tokenizer"

# Sentences that a trained vocabulary is learnt from; five times as many of the same novels gave no shorter texts.
_TOKENIZER_SAMPLE = 100_000


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
    """Prepare a corpus in `out`, going on where an earlier call with the same settings stopped.

    Several processes that see one file system share the encoding: rank 0 reads the source and trains the
    vocabulary, each makes every `world.size`-th shard, and rank 0 writes the manifest. The corpus is the same as
    from one process.

    Args:
        source: Where the text comes from.
        out: The corpus folder; it is a corpus once `manifest.json` stands in it.
        encoder: Makes the vectors. A function that loads it is called once the source was found to be there.
        config: Filters, splits, storage; and where vectors lie that were made before.
        tokenizer: The encoder's own vocabulary, or one trained on this corpus.
        overwrite: Drop what an earlier preparation left in `out`.
        on_event: Told of the stages `reading` (lines), `tokenizer`, `vectors` (known sentences, where there are
            any) and `encoding` (sentences), on rank 0.
        world: The processes that work on it.

    Raises:
        DataError: If the source is unreadable or leaves too little, if `out` holds something else, or if it
            is being prepared by another process; if `data.vectors_from` is no corpus of the same encoder.
        EncoderError: If the encoder cannot be loaded.
        LostProcessError: On the other ranks, where rank 0 raises one of these before or after encoding.
    """
    with ExitStack() as stack:
        stack.enter_context(disk_errors(out))
        preparation = _Preparation(source, out, config, tokenizer, on_event if world.is_main else ignore)

        def begin() -> Manifest | SentenceEncoder:
            stack.enter_context(locked(out))
            return preparation.begin(encoder, overwrite)

        begun = on_main(world, begin)
        if isinstance(begun, Manifest) or (begun is None and (out / MANIFEST).exists()):
            return begun or Manifest.read(out)
        loaded = begun or (encoder if isinstance(encoder, SentenceEncoder) else encoder())
        known = on_main(world, lambda: preparation.known(verify=True)) or preparation.known(verify=False)
        maker, staged = preparation.maker(loaded, known, world)
        names = maker.make(
            grouped(staged_sentences(preparation.sentences), staged, config.shard_sentences), world
        )
        world.barrier()
        finished = on_main(world, lambda: preparation.finish(maker, staged, names))
        return finished or Manifest.read(out)


def _keep(out: Path, complete: Manifest, request: Request, on_event: Listener) -> Manifest:
    """A complete corpus stays as it is."""
    refuse_differences(out, request_of(complete), request)
    for shard in complete.shards:
        check_size(out, shard)
    shutil.rmtree(out / WORK, ignore_errors=True)
    on_event(Notice(f"`{out}` is complete already; nothing to do."))
    return complete


@dataclass(frozen=True)
class _Preparation:
    """One run of the stages; each leaves its result on disk and finds it again."""

    source: Source
    out: Path
    config: DataConfig
    tokenizer: TokenizerConfig
    on_event: Listener

    @property
    def _work(self) -> Path:
        return self.out / WORK

    @property
    def sentences(self) -> Path:
        """Where the distinct sentences lie between the two passes."""
        return self._work / "sentences"

    @property
    def _source_name(self) -> str:
        name = self.source.name
        return name[0].upper() + name[1:] if " " in name else f"`{name}`"

    def begin(
        self, encoder: SentenceEncoder | Callable[[], SentenceEncoder], overwrite: bool
    ) -> Manifest | SentenceEncoder:
        """All that one process does before encoding; the manifest where the corpus is complete already."""
        out = self.out
        refuse_foreign(out)
        complete = Manifest.read(out) if (out / MANIFEST).exists() and not overwrite else None
        state = {} if overwrite else read_state(out) if complete is None else request_of(complete)
        origin = self._origin() if complete is None else None
        try:
            (self._work / INPUT).mkdir(parents=True, exist_ok=True)
            self.source.settle(self._work / INPUT)
            description = self.source.describe(state.get("source"))
            loaded = encoder if isinstance(encoder, SentenceEncoder) else encoder()
            if origin is not None:
                refuse_other_encoder(origin, loaded.reference)
            request = make_request(description, loaded.reference, self.tokenizer, self.config)
            if complete is not None:
                return _keep(out, complete, request, self.on_event)
            if overwrite:  # not before source and encoder are known to be there
                clear(out, keep_input=True)
            staged = self._stage(state, request)
        except SgddError:
            if not read_state(out).get("staged"):  # an unfinished first pass leaves nothing to go on from
                shutil.rmtree(self._work, ignore_errors=True)
            raise
        self._make_tokenizer(staged, loaded)
        return loaded

    def _stage(self, state: Request, request: Request) -> Staged:
        """The first pass, or its result where an earlier run finished it."""
        if state.get("staged"):
            refuse_differences(self.out, state, request)
            staged = Staged(**state["staged"])
            self.on_event(Notice(f"Going on with {staged.unique:,} sentences that were read before."))
            return staged
        # Written before reading too, so that a commit of the hub stays the same when reading starts again.
        write_json(self._work / STATE, request)
        staged = stage_sentences(
            self.source.lines(),
            self.sentences,
            name=self._source_name,
            config=self.config,
            total=self.config.limit or self.source.estimated_lines(),
            on_event=self.on_event,
        )
        write_json(self._work / STATE, {**request, "staged": asdict(staged)})
        return staged

    def _make_tokenizer(self, staged: Staged, encoder: SentenceEncoder) -> None:
        """Store the decoder's tokenizer in the corpus folder; an earlier run's is used again."""
        folder = self.out / TOKENIZER
        if folder.is_dir():
            return
        self.on_event(StageStarted(TOKENIZING, 1, "vocabularies"))
        if self.tokenizer.kind == "encoder":
            pieces = TextTokenizer.from_encoder(encoder)
        else:
            # Hashed buckets: the first sentences are a random sample. Held-out ones stay unseen.
            training = (text for text in staged_sentences(self.sentences) if staged.split_of(text) == "train")
            sample = islice(training, _TOKENIZER_SAMPLE)
            pieces = train_unigram(sample, self.tokenizer.vocab_size)
            give_back_memory()
        unfinished = self._work / TOKENIZER
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for path in pieces.save(unfinished):
            flush(path)
        unfinished.replace(folder)
        self.on_event(StageFinished(TOKENIZING, f"{pieces.vocab_size:,} pieces ({pieces.kind})."))

    def _origin(self) -> Corpus | None:
        folder = self.config.vectors_from
        return None if folder is None else open_origin(Path(folder), self.out, self.config.embedding_dtype)

    def known(self, *, verify: bool) -> KnownVectors | None:
        """The vectors that need not be made, on every rank.

        Raises:
            DataError: If their corpus is damaged.
        """
        origin = self._origin()
        return None if origin is None else KnownVectors.of(origin, verify=verify, on_event=self.on_event)

    def maker(
        self, encoder: SentenceEncoder, known: KnownVectors | None, world: World
    ) -> tuple[ShardMaker, Staged]:
        """What `begin` left on the disk, ready for the second pass on every rank.

        Raises:
            DataError: If this rank's encoder is not the one that rank 0 has.
        """
        state = read_state(self.out)
        refuse_differences(self.out, state, {**state, "encoder": encoder.reference.to_dict()})
        staged = Staged(**state["staged"])
        progress = EncodingProgress(staged.unique, world, self.on_event)
        progress.start()
        pieces = TextTokenizer.load(self.out / TOKENIZER)
        return ShardMaker(self.out, self._work, encoder, pieces, self.config, progress, known), staged

    def finish(self, maker: ShardMaker, staged: Staged, names: list[str]) -> Manifest:
        """Statistics, then the manifest; the working files go last."""
        totals = Totals.of(maker.records(names))
        manifest = self._manifest(maker, staged, totals)
        kept = manifest.counts["kept"]
        if totals.moments is None or kept < MIN_SENTENCES or not all(manifest.splits.values()):
            clear(self.out)  # shards without a manifest would stand in the way of the next try
            left_out = describe_rejections(manifest.counts["left_out"], self.config)
            raise too_few(self._source_name, kept, staged.read, left_out)
        write_statistics(totals.moments, self.out)
        manifest.write(self.out)
        shutil.rmtree(self._work, ignore_errors=True)
        self._report(manifest, maker.progress)
        return manifest

    def _manifest(self, maker: ShardMaker, staged: Staged, totals: Totals) -> Manifest:
        request, pieces, splits = read_state(self.out), maker.tokenizer, totals.splits
        left_out = dict(staged.rejected)
        if totals.too_long:
            left_out[Rejection.TOO_MANY_TOKENS.value] = totals.too_long
        return Manifest(
            source=request["source"],
            encoder=request["encoder"],
            tokenizer={
                "kind": pieces.kind,
                "vocab_size": pieces.vocab_size,
                "fingerprint": pieces.fingerprint(),
                "asked": request["tokenizer"],
            },
            settings=request["data"],
            counts={
                "read": staged.read,
                "kept": sum(splits.values()),
                "tokens": totals.tokens,
                "unknown_tokens": totals.unknown_tokens,
                "left_out": left_out,
            },
            splits=splits,
            shards=totals.shards,
            max_tokens=totals.max_tokens,
            embedding=totals.embedding(maker.encoder.dim, self.config.embedding_dtype),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _report(self, manifest: Manifest, progress: EncodingProgress) -> None:
        counts, truncated = manifest.counts, manifest.embedding["truncated"]
        if truncated:
            text = f"The encoder read only the beginning of {truncated:,} sentences (encoder.max_tokens)."
            self.on_event(Notice(text, warning=True))
        if unknown := counts["unknown_tokens"]:
            text = f"{unknown:,} of {counts['tokens']:,} tokens are unknown to the vocabulary."
            self.on_event(Notice(text, warning=unknown > counts["tokens"] / 100))
        summary = f"{counts['kept']:,} sentences, {counts['tokens']:,} tokens in `{self.out}`"
        if origin := manifest.embedding.get("origin"):
            taken = sum(origin["taken"].values())
            summary += f"; {taken:,} vectors were taken over, {origin['encoded']:,} encoded"
        progress.finish(f"{summary}.")
