"""The second pass of preparation: groups of distinct sentences become shards, in a pipeline on every rank."""

import ctypes
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sgdd_engine.atomic_files import sha256_of
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.deduplicate import Group
from sgdd_engine.data.shards import EncodedGroup, ShardRecord, TokenisedGroup, encode, tokenise, write_shard
from sgdd_engine.data.vector_reuse import ReusableVectors
from sgdd_engine.distributed import World
from sgdd_engine.errors import DataError, EncoderError
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.reference import EncoderReference
from sgdd_engine.text.tokenizer import TextTokenizer

ENCODING = "encoding"

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Computed = TypeVar("Computed")
Result = TypeVar("Result")

# Reports the item before, if it is stored by now, without waiting for it.
Poll = Callable[[], None]


@dataclass
class ShardBuilder:
    """Builds this process's share of the shards that do not exist yet, and reports the stage `encoding`.

    Attributes:
        out: The corpus folder.
        work: Its folder of working files.
        encoder: Computes the vectors.
        tokenizer: Gives the token ids.
        config: `max_tokens` and `embedding_dtype`.
        reusable: Vectors that need not be computed.
        reference: The encoder as the preparation began with it.
        total: Sentences of the corpus, before too long ones are left out.
        world: The processes that share them.
        on_event: Receives every batch, in sentences of all processes: each is assumed to have done as much as this one.
    """

    out: Path
    work: Path
    encoder: SentenceEncoder
    tokenizer: TextTokenizer
    config: DataConfig
    reusable: ReusableVectors | None
    reference: EncoderReference
    total: int
    world: World
    on_event: Listener
    _done: int = field(default=0, init=False)

    def build(self, groups: Iterator[Group]) -> list[str]:
        """Build this process's share of the shards, every `world.size`-th one.

        Args:
            groups: Every group of the corpus.

        Returns:
            The names of all shards, those of the other processes included; `records` reads their counts.

        Raises:
            DataError: If a vector is not finite as stored.
            EncoderError: If the encoder is not the same from the first shard to the last.
        """
        names: list[str] = []

        def own_groups() -> Iterator[Group]:
            for index, group in enumerate(groups):
                names.append(group.name)
                if index % self.world.size == self.world.rank:
                    yield group

        self.on_event(StageStarted(ENCODING, self.total))
        run_pipeline(own_groups(), self._tokenise, self._encode, self._store, self._report)
        return names

    def records(self, names: list[str]) -> Iterator[ShardRecord]:
        """The records of shards, read from the disk one at a time.

        Raises:
            DataError: If one is missing.
        """
        for name in names:
            record = ShardRecord.read(self.work, name)
            if record is None:
                raise DataError(
                    f"`{self.out}` lacks the record of its shard {name}.",
                    "Run the same command again; it goes on where it stopped.",
                )
            yield record

    def finish(self, summary: str) -> None:
        """Announce the end of the stage; every process has finished."""
        if self.world.size > 1:
            self.on_event(StageProgress(ENCODING, self.total))
        self.on_event(StageFinished(ENCODING, summary))

    def _add(self, sentences: int, note: str = "") -> None:
        """Count sentences that this process has finished."""
        self._done += sentences
        shown = min(self.total, self._done * self.world.size)
        self.on_event(StageProgress(ENCODING, shown, note))

    def _tokenise(self, group: Group) -> TokenisedGroup | ShardRecord:
        record = self._finished(group)
        if record is not None:
            return record
        return tokenise(
            group,
            encoder=self.encoder,
            tokenizer=self.tokenizer,
            max_tokens=self.config.max_tokens,
            reusable=self.reusable,
        )

    def _finished(self, group: Group) -> ShardRecord | None:
        """The record of a shard that an earlier run completed, if its file is unchanged."""
        record = ShardRecord.read(self.work, group.name)
        if record is None or record.candidates != len(group.sentences):
            return None
        if record.shard is not None:
            path = self.out / record.shard.file
            if not path.is_file() or sha256_of(path) != record.shard.sha256:
                return None
        return record

    def _encode(self, ready: TokenisedGroup | ShardRecord, poll: Poll) -> EncodedGroup | ShardRecord:
        if isinstance(ready, ShardRecord):
            self._add(ready.candidates)
            return ready

        def on_batch(sentences: int) -> None:
            self._add(sentences)
            poll()
            if self.encoder.device.type == "cpu":
                trim_heap()

        self._refuse_changed_encoder(ready)
        encoded = encode(ready, self.encoder, self.config.embedding_dtype, on_batch, self.reusable)
        self._refuse_changed_encoder(ready)
        self._add(len(ready.group.sentences) - len(ready.texts))
        return encoded

    def _refuse_changed_encoder(self, ready: TokenisedGroup) -> None:
        """Before and after a shard, so that none is stored that was made by two encoders, and none beside another's."""
        if len(ready.to_encode) and (moved := self.encoder.moved_probe(self.reference)) is not None:
            raise EncoderError(
                f"The encoder {self.reference.name} changed while the corpus was being prepared: {moved}.",
                "Restore its files and run the same command again, or start from the beginning with --overwrite.",
            )

    def _store(self, encoded: EncodedGroup | ShardRecord) -> ShardRecord:
        if isinstance(encoded, ShardRecord):
            return encoded
        taken_from = None if self.reusable is None else self.reusable.fingerprint
        return write_shard(encoded, self.out, self.work, taken_from)

    def _report(self, record: ShardRecord) -> None:
        if record.shard is not None:
            self._add(0, Path(record.shard.file).stem)


def run_pipeline(
    items: Iterator[Item],
    load: Callable[[Item], Loaded],
    compute: Callable[[Loaded, Poll], Computed],
    store: Callable[[Computed], Result],
    on_result: Callable[[Result], None],
) -> None:
    """Pass each item through three stages, in the order of the items.

    One thread loads an item while the caller's thread computes the item before, and another thread stores the one
    before that. At most these three are held in memory. An exception in a stage is raised here; an item that is
    being stored at that moment is still completed.

    Args:
        items: Taken one at a time by the loading thread.
        load: The first stage.
        compute: The second stage, in the caller's thread. It may call its second argument at any time, so that a
            result, or a failure to store, is reported before the stage ends.
        store: The third stage.
        on_result: Called with each result, in the caller's thread.
    """
    with ThreadPoolExecutor(1, "load") as loader, ThreadPoolExecutor(1, "store") as storer:
        storing: Future[Result] | None = None

        def collect(*, wait: bool) -> None:
            nonlocal storing
            if storing is not None and (wait or storing.done()):
                result = storing.result()
                storing = None
                on_result(result)

        def poll() -> None:
            collect(wait=False)

        loading = loader.submit(_load_next, items, load)
        while loaded := loading.result():
            loading = loader.submit(_load_next, items, load)
            computed = compute(loaded[0], poll)
            collect(wait=True)
            storing = storer.submit(store, computed)
        collect(wait=True)


def _load_next(items: Iterator[Item], load: Callable[[Item], Loaded]) -> tuple[Loaded] | None:
    """The next item, loaded, as the only element of a tuple; None at the end."""
    for item in items:
        return (load(item),)
    return None


def trim_heap() -> None:
    """Return freed memory that the C library still holds to the system, where it can (glibc).

    Batches of many different shapes, or the training of a vocabulary, fragment the heap: without this call the
    resident memory of a long preparation grows.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
