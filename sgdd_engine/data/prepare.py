"""The whole preparation: source → distinct sentences → tokenizer → shards → manifest, always resumable."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from sgdd_engine.data.cleaning import Rejection, describe_rejections
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import check_size
from sgdd_engine.data.manifest import MANIFEST, SPLITS, TOKENIZER, WORK, Manifest
from sgdd_engine.data.request import Request, make_request, refuse_differences, request_of
from sgdd_engine.data.shards import Group, ShardRecord, grouped, write_shard, write_statistics
from sgdd_engine.data.sources import Source
from sgdd_engine.data.staging import MIN_SENTENCES, Staged, stage_sentences, staged_sentences, too_few
from sgdd_engine.data.workspace import INPUT, STATE, clear, locked, read_state, refuse_foreign
from sgdd_engine.errors import SgddError
from sgdd_engine.events import Listener, Notice, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.storage import flush, sha256_of, write_json
from sgdd_engine.text.config import TokenizerConfig
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.tokenizer import TextTokenizer, train_unigram

ENCODING = "encoding"
TOKENIZING = "tokenizer"

# Sentences that a trained vocabulary is learnt from; more change the pieces little and cost much memory.
_TOKENIZER_SAMPLE = 500_000


def prepare(
    source: Source,
    out: Path,
    *,
    encoder: SentenceEncoder | Callable[[], SentenceEncoder],
    config: DataConfig,
    tokenizer: TokenizerConfig,
    overwrite: bool = False,
    on_event: Listener = ignore,
) -> Manifest:
    """Prepare a corpus in `out`, going on where an earlier call with the same settings stopped.

    Args:
        source: Where the text comes from.
        out: The corpus folder; it is a corpus once `manifest.json` stands in it.
        encoder: Makes the vectors. A function that loads it is called once the source was found to be there.
        config: Filters, splits, storage.
        tokenizer: The encoder's own vocabulary, or one trained on this corpus.
        overwrite: Drop what an earlier preparation left in `out`.
        on_event: Told of the stages `reading` (lines), `tokenizer` and `encoding` (sentences).

    Raises:
        DataError: If the source is unreadable or leaves too little, if `out` holds something else, or if it
            is being prepared by another process.
        EncoderError: If the encoder cannot be loaded.
    """
    with locked(out):
        refuse_foreign(out)
        complete = Manifest.read(out) if (out / MANIFEST).exists() and not overwrite else None
        state = {} if overwrite else read_state(out) if complete is None else request_of(complete)
        try:
            (out / WORK / INPUT).mkdir(parents=True, exist_ok=True)
            source.settle(out / WORK / INPUT)
            description = source.describe(state.get("source"))
            loaded = encoder if isinstance(encoder, SentenceEncoder) else encoder()
            request = make_request(description, loaded.reference, tokenizer, config)
            if complete is not None:
                return _keep(out, complete, request, on_event)
            if overwrite:  # not before source and encoder are known to be there
                clear(out, keep_input=True)
            preparation = _Preparation(source, out, loaded, config, tokenizer, request, on_event)
            staged = preparation.stage(state)
        except SgddError:
            if not read_state(out).get("staged"):  # an unfinished first pass leaves nothing to go on from
                shutil.rmtree(out / WORK, ignore_errors=True)
            raise
        pieces = preparation.make_tokenizer(staged)
        records = preparation.encode(staged, pieces)
        return preparation.finish(staged, pieces, records)


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
    encoder: SentenceEncoder
    config: DataConfig
    tokenizer: TokenizerConfig
    request: Request
    on_event: Listener

    @property
    def _work(self) -> Path:
        return self.out / WORK

    @property
    def _sentences(self) -> Path:
        return self._work / "sentences"

    @property
    def _source_name(self) -> str:
        name = self.source.name
        return name[0].upper() + name[1:] if " " in name else f"`{name}`"

    def stage(self, state: Request) -> Staged:
        """The first pass, or its result where an earlier run finished it."""
        if state.get("staged"):
            refuse_differences(self.out, state, self.request)
            staged = Staged(**state["staged"])
            self.on_event(Notice(f"Going on with {staged.unique:,} sentences that were read before."))
            return staged
        # Written before reading too, so that a commit of the hub stays the same when reading starts again.
        write_json(self._work / STATE, self.request)
        staged = stage_sentences(
            self.source.lines(),
            self._sentences,
            name=self._source_name,
            config=self.config,
            total=self.config.limit or self.source.estimated_lines(),
            on_event=self.on_event,
        )
        write_json(self._work / STATE, {**self.request, "staged": asdict(staged)})
        return staged

    def make_tokenizer(self, staged: Staged) -> TextTokenizer:
        """The decoder's tokenizer, stored in the corpus folder; an earlier run's is used again."""
        folder = self.out / TOKENIZER
        if folder.is_dir():
            return TextTokenizer.load(folder)
        self.on_event(StageStarted(TOKENIZING, 1, "vocabularies"))
        if self.tokenizer.kind == "encoder":
            pieces = TextTokenizer.from_encoder(self.encoder)
        else:
            # Hashed buckets: the first sentences are a random sample. Held-out ones stay unseen.
            training = (
                text for text in staged_sentences(self._sentences) if staged.split_of(text) == "train"
            )
            sample = islice(training, _TOKENIZER_SAMPLE)
            pieces = train_unigram(sample, self.tokenizer.vocab_size)
        unfinished = self._work / TOKENIZER
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for path in pieces.save(unfinished):
            flush(path)
        unfinished.replace(folder)
        self.on_event(StageFinished(TOKENIZING, f"{pieces.vocab_size:,} pieces ({pieces.kind})."))
        return pieces

    def encode(self, staged: Staged, pieces: TextTokenizer) -> list[ShardRecord]:
        """Write every shard that is not there yet."""
        self.on_event(StageStarted(ENCODING, staged.unique))
        records: list[ShardRecord] = []
        done = 0

        def on_batch(sentences: int) -> None:
            nonlocal done
            done += sentences
            self.on_event(StageProgress(ENCODING, done))

        groups = grouped(staged_sentences(self._sentences), staged, self.config.shard_sentences)
        for group in groups:
            before = done
            record = self._finished(group)
            if record is None:
                record = write_shard(
                    group,
                    self.out,
                    self._work,
                    encoder=self.encoder,
                    tokenizer=pieces,
                    config=self.config,
                    on_batch=on_batch,
                )
                record.write(self._work / f"{group.name}.json")
            records.append(record)
            done = before + len(group.sentences)
            self.on_event(StageProgress(ENCODING, done, group.name))
        return records

    def _finished(self, group: Group) -> ShardRecord | None:
        """The record of a shard that an earlier run completed, if its file is still what it was."""
        record = ShardRecord.read(self._work / f"{group.name}.json")
        if record is None or record.candidates != len(group.sentences):
            return None
        if record.shard is not None:
            path = self.out / record.shard.file
            if not path.is_file() or sha256_of(path) != record.shard.sha256:
                return None
        return record

    def finish(self, staged: Staged, pieces: TextTokenizer, records: list[ShardRecord]) -> Manifest:
        """Statistics, then the manifest; the working files go last."""
        manifest = self._manifest(staged, pieces, records)
        kept = manifest.counts["kept"]
        if kept < MIN_SENTENCES or not all(manifest.splits.values()):
            clear(self.out)  # shards without a manifest would stand in the way of the next try
            left_out = describe_rejections(manifest.counts["left_out"], self.config)
            raise too_few(self._source_name, kept, staged.read, left_out)
        write_statistics(records, self.out)
        manifest.write(self.out)
        shutil.rmtree(self._work, ignore_errors=True)
        self._report(manifest)
        return manifest

    def _manifest(self, staged: Staged, pieces: TextTokenizer, records: list[ShardRecord]) -> Manifest:
        shards = tuple(record.shard for record in records if record.shard is not None)
        splits = {split: sum(shard.rows for shard in shards if shard.split == split) for split in SPLITS}
        left_out = dict(staged.rejected)
        if too_long := sum(record.too_long for record in records):
            left_out[Rejection.TOO_MANY_TOKENS.value] = too_long
        return Manifest(
            source=self.request["source"],
            encoder=self.request["encoder"],
            tokenizer={
                "kind": pieces.kind,
                "vocab_size": pieces.vocab_size,
                "fingerprint": pieces.fingerprint(),
                "asked": self.request["tokenizer"],
            },
            settings=self.request["data"],
            counts={
                "read": staged.read,
                "kept": sum(splits.values()),
                "tokens": sum(record.tokens for record in records),
                "unknown_tokens": sum(record.unknown_tokens for record in records),
                "left_out": left_out,
            },
            splits=splits,
            shards=shards,
            max_tokens=max(record.max_tokens for record in records),
            embedding={
                "dim": self.encoder.dim,
                "dtype": self.config.embedding_dtype,
                "truncated": sum(record.truncated for record in records),
            },
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _report(self, manifest: Manifest) -> None:
        counts, truncated = manifest.counts, manifest.embedding["truncated"]
        if truncated:
            text = f"The encoder read only the beginning of {truncated:,} sentences (encoder.max_tokens)."
            self.on_event(Notice(text, warning=True))
        if unknown := counts["unknown_tokens"]:
            text = f"{unknown:,} of {counts['tokens']:,} tokens are unknown to the vocabulary."
            self.on_event(Notice(text, warning=unknown > counts["tokens"] / 100))
        summary = f"{counts['kept']:,} sentences, {counts['tokens']:,} tokens in `{self.out}`."
        self.on_event(StageFinished(ENCODING, summary))
