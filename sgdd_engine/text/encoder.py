"""The frozen sentence encoder: sentences in, one float32 vector each out."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from sgdd_engine.atomic_files import sha256_of_json
from sgdd_engine.counted import counted
from sgdd_engine.errors import EncoderError
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder_files import find_files, hash_config, hash_weights, stamp_of_weights
from sgdd_engine.text.encoder_network import (
    LazyNetwork,
    NetworkSize,
    check_files,
    load_network,
    outline_network,
)
from sgdd_engine.text.encoder_tokenizer import EncoderTokenizer, FastTokenizer, TokenizedBatch, load_tokenizer
from sgdd_engine.text.module_chain import MOST_TOKENS, read_module_chain
from sgdd_engine.text.pooling import POOLINGS
from sgdd_engine.text.probes import SENTENCES, as_probes, most_different, vectors_of
from sgdd_engine.text.reference import EncoderReference, probe_clause
from sgdd_engine.verified_files import has_passed, note_passed

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# A batch takes in no sentences shorter than this share of its longest, which would be padding for the most part,
# unless it is so small that the number of batches would cost more than the padding.
_LEAST_SHARE = 0.8
_LEAST_TOKENS = 1024
# Vectors are checked and handed over so many at a time: a GPU that is asked after every batch waits in between.
_PART_ROWS = 8192
_GOLDEN = (math.sqrt(5) - 1) / 2


class SentenceEncoder:
    """A frozen Transformer with its pooling; made by `load_encoder`.

    Attributes:
        dim: Size of a vector.
        reference: Which encoder this is.
        device: Where it computes.
        tokenizer: The encoder's own fast tokenizer.
        truncated: How many sentences so far were longer than `reference.max_tokens`, so that their ends were dropped.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        tokenizer: EncoderTokenizer,
        reference: EncoderReference,
        *,
        device: torch.device,
        batch_tokens: int,
        changed: Callable[[], bool] | None = None,
    ) -> None:
        self.dim = reference.dim
        self.reference = reference
        self.device = device
        self.tokenizer: FastTokenizer = tokenizer.own
        self.truncated = 0
        self._network = network
        self._pool = POOLINGS.build(reference.pooling)
        self._batch_tokens = batch_tokens
        self._tokenize = tokenizer
        self._changed = changed

    def encode(self, texts: Sequence[str], on_batch: Callable[[int], None] | None = None) -> torch.Tensor:
        """Encode sentences in batches of similar length.

        Args:
            texts: Any number of sentences; the empty string gives the vector of the bare special tokens.
            on_batch: Called after each batch with the number of sentences in it.

        Returns:
            `[N, dim]` float32 on the CPU in the order of `texts`, of unit norm if the encoder normalises and keeps
            every coordinate.

        Raises:
            EncoderError: If an item is not text, the tokenizer does not know the texts, or a vector is not finite.
        """
        text = self.tokenize(texts)
        vectors = torch.empty(len(text), self.dim)
        for rows, part in self.encode_parts(text, on_batch):
            vectors[torch.from_numpy(rows)] = part.cpu()
        return vectors

    def probe(self) -> EncoderReference:
        """The reference with probes: what this encoder gives now for a few sentences; one small batch."""
        return replace(self.reference, probes=as_probes(self._vectors_of(SENTENCES)))

    def moved_probe(self, recorded: EncoderReference) -> str | None:
        """Encode the probes of a reference again; a clause about one whose vector is another, or None.

        Raises:
            EncoderError: If the record is damaged, or the weights were changed on the disk since they were loaded.
        """
        if self._changed is not None and self._changed():
            raise EncoderError(
                f"The weights of the encoder {self.reference.name} were changed while they were in use.",
                "Leave the encoder's files alone, and run the same command again.",
            )
        if recorded.probes is None:
            return None
        vectors_of(recorded.probes, self.dim)
        found = most_different(
            recorded.probes, self._vectors_of(list(recorded.probes)), self.reference.dtype, recorded.dtype
        )
        return None if found is None else probe_clause(*found)

    def _vectors_of(self, probes: Sequence[str]) -> npt.NDArray[np.float32]:
        text = self._tokenize(probes, judge=False)
        vectors = np.empty((len(text), self.dim), np.float32)
        for rows, part in self.encode_parts(text):
            vectors[rows] = part.cpu().numpy()
        return vectors

    def tokenize(self, texts: Sequence[str]) -> TokenizedBatch:
        """Tokenise sentences for `encode_parts`; another thread may do it while this encoder computes.

        Raises:
            EncoderError: If an item is not text, or the tokenizer does not know the texts.
        """
        batch = self._tokenize(texts)
        self.truncated += batch.truncated
        return batch

    def encode_parts(
        self, text: TokenizedBatch, on_batch: Callable[[int], None] | None = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], torch.Tensor]]:
        """Encode in batches of similar length, and hand over several batches at a time.

        Args:
            text: What `tokenize` gave.
            on_batch: Called after each batch with the number of sentences in it.

        Yields:
            Row numbers `[M]` in `text`, and their vectors `[M, dim]`, float32 on the encoder's device.

        Raises:
            EncoderError: If a vector is not finite.
        """
        order = np.argsort(-text.lengths, kind="stable")
        order, batches = _spread(order, _batches(text.lengths[order], self._batch_tokens))
        lengths = text.lengths[order]
        ids, ends = self._moved(text.ids), self._moved(np.cumsum(text.lengths)[order])
        sizes = self._moved(lengths)
        for in_part in _parts(batches):
            first, last = in_part[0][0], in_part[-1][1]
            # Made before the batches: small tensors that outlive large ones leave the heap full of holes.
            part = torch.empty(last - first, self.dim, device=self.device)
            for start, stop in in_part:
                # Known from the lengths: looking at a mask on a GPU would wait for it. Without one attention is faster.
                padded = bool(lengths[start] != lengths[stop - 1])
                width = int(lengths[start])
                part[start - first : stop - first] = self._forward(
                    ids, ends[start:stop], sizes[start:stop], width, padded
                )
                if on_batch is not None:
                    on_batch(stop - start)
            yield order[first:last], self._finite(part)

    @torch.inference_mode(False)
    def input_gradients(
        self, texts: Sequence[str], targets: torch.Tensor
    ) -> list[tuple[torch.Tensor, list[tuple[int, int]]]]:
        """Gradients of the texts' cosines with their targets, at the word embeddings that the network reads.

        Args:
            texts: N sentences.
            targets: A vector for each, `[N, dim]`.

        Returns:
            For each text the gradient at each of its tokens, `[n, d_word]` float32 on the CPU, and from which to which
            character of the text each token goes; (0, 0) for special ones.
        """
        text = self.tokenize(texts)
        spans = self._tokenize.spans(texts)
        order = np.argsort(-text.lengths, kind="stable")
        lengths = text.lengths[order]
        ids, ends = self._moved(text.ids), self._moved(np.cumsum(text.lengths)[order])
        sizes, wanted = self._moved(lengths), targets.clone()[order].to(self.device)
        gradients: dict[int, torch.Tensor] = {}
        for start, stop in _batches(lengths, self._batch_tokens):
            width = int(lengths[start])
            rows, mask = self._padded(ids, ends[start:stop], sizes[start:stop], width)
            found = self._gradient(rows, mask, wanted[start:stop]).float().cpu()
            for row, gradient in zip(order[start:stop].tolist(), found, strict=True):
                gradients[row] = gradient[: int(text.lengths[row])]
        return [(gradients[row], spans[row]) for row in range(len(texts))]

    def _gradient(self, rows: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Gradient of cosines with `targets [B, dim]` at the word embeddings of ids `[B, n]`: `[B, n, d_word]`."""
        read: list[torch.Tensor] = []

        def as_leaf(_module: torch.nn.Module, _inputs: Any, embeddings: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
            read.append(embeddings.detach().requires_grad_())
            return read[0]

        hook = self._network.get_input_embeddings().register_forward_hook(as_leaf)  # type: ignore[operator]
        try:
            with torch.enable_grad(), torch.autocast(self.device.type, enabled=False):
                states = self._network(input_ids=rows, attention_mask=mask.long())[0]
                vectors = self._pool(states, mask)[:, : self.dim]
                cosines = F.cosine_similarity(vectors.float(), targets, dim=-1)
                return torch.autograd.grad(cosines.sum(), read[0])[0]
        finally:
            hook.remove()

    def word_embeddings(self) -> torch.Tensor:
        """The encoder's input embeddings, `[V, d_word]` float32 on the CPU (a copy)."""
        table: torch.Tensor = self._network.get_input_embeddings().weight  # type: ignore[operator]
        return table.detach().to("cpu", torch.float32, copy=True)

    def _moved(self, array: npt.NDArray[Any]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":  # from pinned memory the copy does not wait for what is computed
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    @torch.no_grad()
    def _forward(
        self, ids: torch.Tensor, ends: torch.Tensor, lengths: torch.Tensor, width: int, padded: bool
    ) -> torch.Tensor:
        """Vectors `[B, dim]` of the sentences that end before `ends [B]` in `ids`; `width` is the longest."""
        rows, mask = self._padded(ids, ends, lengths, width)
        # A vector does not depend on the autocast of the caller.
        with torch.autocast(self.device.type, enabled=False):
            states = self._network(input_ids=rows, attention_mask=mask.long() if padded else None)[0]
        vectors = self._pool(states, mask)
        if self.reference.normalize:
            vectors = F.normalize(vectors, dim=-1)
        # Not normalised again: sentence-transformers does not either.
        return vectors[:, : self.dim]

    def _padded(
        self, ids: torch.Tensor, ends: torch.Tensor, lengths: torch.Tensor, width: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids `[B, width]` of the sentences that end before `ends [B]` in `ids`, and which of them are no padding."""
        columns = torch.arange(width, device=self.device)
        mask = columns < lengths[:, None]
        # The last sentence of the text may be padded beyond its end.
        index = (ends - lengths)[:, None] + columns
        return torch.where(mask, ids[index.clamp(max=len(ids) - 1)].long(), self._tokenize.pad_id), mask

    def _finite(self, vectors: torch.Tensor) -> torch.Tensor:
        if not torch.isfinite(vectors).all():
            raise EncoderError(
                f"The encoder {self.reference.name} gave vectors that are not finite "
                f"(arithmetic: {self.reference.dtype}).",
                "Prepare the corpus with --set encoder.precision=fp32",
            )
        return vectors


def _batches(lengths: npt.NDArray[np.int64], batch_tokens: int) -> list[tuple[int, int]]:
    """Divide rows, longest first, into batches (start, stop).

    Args:
        lengths: Tokens of each row, falling, `[N]`.
        batch_tokens: Rows of a batch times its longest stay within it, except that a single row always fits.
    """
    batches: list[tuple[int, int]] = []
    start = 0
    while start < len(lengths):
        stop = start + _rows_of_batch(lengths[start:], batch_tokens)
        batches.append((start, stop))
        start = stop
    return batches


def _spread(
    order: npt.NDArray[np.int64], batches: Sequence[tuple[int, int]]
) -> tuple[npt.NDArray[np.int64], list[tuple[int, int]]]:
    """Rows and their batches in another order: the longest batch first, then all lengths evenly mixed.

    What does not fit into memory then shows at once, and the sentences done tell how much time is left. The multiples
    of the golden ratio, modulo 1, divide the unit interval evenly wherever one stops.

    Args:
        order: Row numbers, longest first, `[N]`.
        batches: (start, stop) of each, in `order`.
    """
    mixed = sorted(range(len(batches)), key=lambda index: index * _GOLDEN % 1)
    rows = [order[slice(*batches[index])] for index in mixed]
    stops = np.cumsum([len(part) for part in rows], dtype=np.int64).tolist()
    return np.concatenate([order[:0], *rows]), list(zip([0, *stops], stops, strict=False))


def _parts(batches: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Several batches at a time, of several thousand rows together."""
    part: list[tuple[int, int]] = []
    for start, stop in batches:
        part.append((start, stop))
        if stop - part[0][0] >= _PART_ROWS:
            yield part
            part = []
    if part:
        yield part


def _rows_of_batch(lengths: npt.NDArray[np.int64], batch_tokens: int) -> int:
    """How many of the rows the next batch takes."""
    longest = int(lengths[0])
    most = min(len(lengths), max(1, batch_tokens // longest))
    similar = int(np.searchsorted(-lengths[:most], -_LEAST_SHARE * longest, side="right"))
    return min(most, max(similar, math.ceil(_LEAST_TOKENS / longest)))


def load_encoder(config: EncoderConfig, device: str | torch.device = "cpu") -> SentenceEncoder:
    """Load a frozen sentence encoder; see `encoder_files.find_files` for where it is looked for.

    Raises:
        EncoderError: If it cannot be found, loaded, or honoured (pooling, module chain, prompts).
    """
    return _open_encoder(config, torch.device(device), lazy=False)


def load_encoder_lazily(config: EncoderConfig, device: str | torch.device = "cpu") -> SentenceEncoder:
    """What `load_encoder` gives, without its weights: they are hashed now, and loaded with the first batch.

    Raises:
        EncoderError: If it cannot be found or honoured; damaged weights are only noticed when they are loaded.
    """
    return _open_encoder(config, torch.device(device), lazy=True)


# Weights that are made under inference mode have no gradients with respect to what they read.
@torch.inference_mode(False)
def _open_encoder(config: EncoderConfig, device: torch.device, *, lazy: bool) -> SentenceEncoder:
    files = find_files(config)
    chain = read_module_chain(files.folder, config)
    folder = chain.transformer
    check_files(folder)
    tokenizer = load_tokenizer(folder, lowercase=chain.lowercase)
    automatic = "fp16" if device.type == "cuda" else "fp32"
    dtype = _DTYPES[automatic if config.precision == "auto" else config.precision]
    # Weights may be a map of their file: what is written there would change vectors from one moment to the next.
    before = stamp_of_weights(folder)
    load = partial(load_network, folder, dtype, device)
    network = LazyNetwork(load) if lazy else load()
    size = NetworkSize.of(outline_network(folder) if lazy else network)
    limit = chain.max_tokens or _limit_of(tokenizer, folder)
    max_tokens = min(config.max_tokens, limit, size.positions)
    if max_tokens <= tokenizer.backend_tokenizer.num_special_tokens_to_add(is_pair=False):
        raise EncoderError(
            f"The encoder {files.name} reads {counted(max_tokens, 'token')} of a text, which leaves none for words.",
            "Fetch its files again, or choose another encoder.",
        )
    tokenize = EncoderTokenizer(
        tokenizer, name=files.name, prompt=chain.prompt, max_tokens=max_tokens, pieces=size.pieces
    )
    reference = EncoderReference(
        name=files.name,
        revision=files.revision,
        pooling=chain.pooling,
        normalize=chain.normalize,
        dim=chain.dim_of(size.hidden_size),
        parameters=size.parameters,
        max_tokens=max_tokens,
        weights_sha256=files.weights_sha256 or hash_weights(folder),
        dtype=str(dtype).removeprefix("torch."),
        prompt=chain.prompt,
        config_sha256=hash_config(folder),
        tokenizer_sha256=tokenize.sha256,
        segmentation_sha256=tokenize.segmentation_sha256,
    )
    return SentenceEncoder(
        network,
        tokenize,
        reference,
        device=device,
        batch_tokens=config.batch_tokens,
        changed=lambda: stamp_of_weights(folder) != before,
    )


def _limit_of(tokenizer: FastTokenizer, folder: Path) -> int:
    """Tokens of a text by the tokenizer's own files; a huge number where they give no limit."""
    limit = tokenizer.model_max_length
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
        raise EncoderError(
            f"The tokenizer in {folder} has a model_max_length that is not a number of tokens.",
            "Correct tokenizer_config.json, or fetch the encoder's files again.",
        )
    return int(min(limit, MOST_TOKENS))


def load_encoder_like(
    reference: EncoderReference, device: str | torch.device = "cpu", batch_tokens: int | None = None
) -> SentenceEncoder:
    """Load the encoder that a corpus or checkpoint was made with, and check that it is the same.

    Args:
        reference: What was recorded then; `reference.at(folder)` for a folder that has moved.
        device: Where it computes.
        batch_tokens: Tokens that it computes at once, which moves vectors by roundings alone; by default as in
            `EncoderConfig`.

    Raises:
        EncoderError: If it cannot be loaded, or makes other vectors (`EncoderReference.differences`, and its probe
            sentences, which are encoded again).
    """
    config = reference.config()
    if batch_tokens is not None:
        config = replace(config, batch_tokens=batch_tokens)
    if reference.is_folder and not Path(reference.name).is_dir():
        raise EncoderError(
            f"The vectors were made by an encoder in the folder {reference.name}, which is not there.",
            "Say where it is now: --set encoder.name=FOLDER\n"
            'In Python: SGDD.from_pretrained(..., encoder="FOLDER")',
        )
    if torch.device(device).type == "cpu" and config.precision == "fp16":
        config = replace(config, precision="fp32")  # half precision is slow on a CPU, and rounds more
    encoder = load_encoder(config, device)
    different = encoder.reference.differences(reference) or _moved_probe(encoder, reference)
    if different:
        raise EncoderError(
            f"The encoder {config.name} is not the one that made the vectors: {'; '.join(different)}.",
            f"Restore its original files{f' at revision {reference.revision}' if reference.revision else ''}, "
            "or name the folder of the right one: --set encoder.name=FOLDER",
        )
    return encoder


def _moved_probe(encoder: SentenceEncoder, recorded: EncoderReference) -> list[str]:
    """A clause about a probe sentence whose vector moved; within a day the same encoder is asked once."""
    if recorded.probes is None:
        return []
    parts = {"now": encoder.reference.to_dict(), "then": recorded.to_dict()}
    # A large encoder takes some tenths of a second for them on a CPU.
    check = f"probes:{sha256_of_json({**parts, 'torch': torch.__version__, 'device': encoder.device.type})}"
    if has_passed(check):
        return []
    if (moved := encoder.moved_probe(recorded)) is not None:
        return [moved]
    note_passed(check)
    return []
