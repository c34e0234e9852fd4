"""The frozen sentence encoder: sentences in, one float32 vector each out."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.batches import batches_in_parts
from sgdd_engine.text.config import MINILM, EncoderConfig
from sgdd_engine.text.encoder_tokenizer import EncoderTokenizer, TokenizedBatch
from sgdd_engine.text.loading import find_files, hash_weights, load_model, load_tokenizer
from sgdd_engine.text.pooling import ModuleChain, pool, read_module_chain
from sgdd_engine.text.reference import EncoderReference

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class SentenceEncoder:
    """A frozen Transformer with its pooling; made by `load_encoder`.

    Attributes:
        dim: Size of a vector.
        reference: Which encoder this is.
        device: Where it computes.
        tokenizer: The encoder's own fast tokenizer (a `transformers` object).
        truncated: How many sentences were cut to `reference.max_tokens` so far.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,  # noqa: ANN401 - a transformers tokenizer
        chain: ModuleChain,
        reference: EncoderReference,
        *,
        device: torch.device,
        batch_tokens: int,
    ) -> None:
        self.dim = reference.dim
        self.reference = reference
        self.device = device
        self.tokenizer = tokenizer
        self.truncated = 0
        self._model = model
        self._chain = chain
        self._batch_tokens = batch_tokens
        self._pad_id: int = tokenizer.pad_token_id or 0
        self._tokenize = EncoderTokenizer(
            tokenizer, prompt=chain.prompt, max_tokens=reference.max_tokens, pad_id=self._pad_id
        )

    def encode(self, texts: Sequence[str], on_batch: Callable[[int], None] | None = None) -> torch.Tensor:
        """Encode sentences in batches of similar length.

        Args:
            texts: Any number of sentences; the empty string gives the vector of the bare special tokens.
            on_batch: Called after each batch with the number of sentences in it.

        Returns:
            `[N, dim]` float32 on the CPU in the order of `texts`, of unit norm if the encoder normalises.

        Raises:
            EncoderError: If an item is not text, or a vector is not finite.
        """
        text = self.tokenize(texts)
        vectors = torch.empty(len(text), self.dim)
        for rows, part in self.encode_parts(text, on_batch):
            vectors[torch.from_numpy(rows)] = part.cpu()
        return vectors

    def tokenize(self, texts: Sequence[str]) -> TokenizedBatch:
        """Tokenise sentences for `encode_parts`; another thread may do it while this encoder computes.

        Raises:
            EncoderError: If an item is not text.
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
        lengths = text.lengths[order]
        ids, ends = self._moved(text.ids), self._moved(np.cumsum(text.lengths)[order])
        sizes = self._moved(lengths)
        for batches in batches_in_parts(lengths, self._batch_tokens):
            first, last = batches[0][0], batches[-1][1]
            # Made before the batches: small tensors that outlive large ones leave the heap full of holes.
            part = torch.empty(last - first, self.dim, device=self.device)
            for start, stop in batches:
                # Known here, so that nobody has to look at a mask on a GPU: without one, attention is faster too.
                padded = bool(lengths[start] != lengths[stop - 1])
                width = int(lengths[start])
                part[start - first : stop - first] = self._forward(
                    ids, ends[start:stop], sizes[start:stop], width, padded
                )
                if on_batch is not None:
                    on_batch(stop - start)
            yield order[first:last], self._finite(part)

    def word_embeddings(self) -> torch.Tensor:
        """The encoder's input embeddings, `[V, d_word]` float32 on the CPU (a copy)."""
        table: torch.Tensor = self._model.get_input_embeddings().weight  # type: ignore[operator]
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
        columns = torch.arange(width, device=self.device)
        mask = columns < lengths[:, None]
        # The last sentence of the text may be padded beyond its end.
        places = (ends - lengths)[:, None] + columns
        rows = torch.where(mask, ids[places.clamp(max=len(ids) - 1)].long(), self._pad_id)
        # A vector does not depend on the arithmetic of whoever asks for it.
        with torch.autocast(self.device.type, enabled=False):
            states = self._model(input_ids=rows, attention_mask=mask.long() if padded else None)[0]
        vectors = pool(states, mask, self._chain.pooling)
        return F.normalize(vectors, dim=-1) if self._chain.normalize else vectors

    def _finite(self, vectors: torch.Tensor) -> torch.Tensor:
        if not torch.isfinite(vectors).all():
            raise EncoderError(
                f"The encoder {self.reference.name} gave vectors that are not finite "
                f"(arithmetic: {self.reference.dtype}).",
                "Try --set encoder.precision=fp32",
            )
        return vectors


def load_encoder(config: EncoderConfig, device: str | torch.device = "cpu") -> SentenceEncoder:
    """Load a frozen sentence encoder; see `loading.find_files` for where it is looked for.

    Raises:
        EncoderError: If it cannot be found, loaded, or honoured (pooling, module chain, prompts).
    """

    def load(folder: Path, dtype: torch.dtype, place: torch.device) -> Transformer:
        model = load_model(folder, dtype, place)
        return Transformer(model, model)

    return open_encoder(config, device, load)


class Transformer(NamedTuple):
    """An encoder's network, and a module of the same shapes (which may hold no numbers)."""

    network: Any
    shapes: Any


def open_encoder(
    config: EncoderConfig,
    device: str | torch.device,
    bring: Callable[[Path, torch.dtype, torch.device], Transformer],
) -> SentenceEncoder:
    """An encoder with its files found, its chain read and its reference written, whoever brings the network.

    Args:
        config: Which encoder, and how it computes.
        device: Where.
        bring: Gives the network of a folder.

    Raises:
        EncoderError: As for `load_encoder`.
    """
    device = torch.device(device)
    files = find_files(config)
    chain = read_module_chain(files.folder, config)
    tokenizer = load_tokenizer(chain.transformer)
    if chain.lowercase:
        _add_lowercase(tokenizer)
    automatic = "fp16" if device.type == "cuda" else "fp32"
    dtype = _DTYPES[automatic if config.precision == "auto" else config.precision]
    network, shapes = bring(chain.transformer, dtype, device)
    longest = chain.max_tokens or int(tokenizer.model_max_length)
    reference = EncoderReference(
        name=files.name,
        revision=files.revision,
        pooling=chain.pooling,
        normalize=chain.normalize,
        dim=int(shapes.config.hidden_size),
        parameters=sum(parameter.numel() for parameter in shapes.parameters()),
        max_tokens=min(config.max_tokens, longest, _positions(shapes)),
        weights_sha256=hash_weights(chain.transformer),
        dtype=str(dtype).removeprefix("torch."),
    )
    return SentenceEncoder(
        network, tokenizer, chain, reference, device=device, batch_tokens=config.batch_tokens
    )


def load_encoder_like(
    reference: EncoderReference, device: str | torch.device = "cpu", *, name: str | None = None
) -> SentenceEncoder:
    """Load the encoder that a corpus or checkpoint was made with, and check that it is the same.

    Args:
        reference: What was written down then.
        device: Where it shall compute.
        name: Where to look instead of `reference.name`, for a folder that has moved.

    Raises:
        EncoderError: If it cannot be loaded, or its weights or pooling differ.
    """
    wanted = name or reference.name
    config = EncoderConfig(
        name=wanted,
        revision=reference.revision if wanted != MINILM else None,
        pooling="cls" if reference.pooling == "cls" else "mean",
        max_tokens=max(reference.max_tokens, 8),
        # Vectors are compared with those made then, so the arithmetic is the same.
        precision=_precision(reference.dtype, torch.device(device)),
    )
    encoder = load_encoder(config, device)
    for key in ("weights_sha256", "dim", "normalize"):
        then, now = getattr(reference, key), getattr(encoder.reference, key)
        if then != now:
            raise EncoderError(
                f"The encoder {wanted} is not the one that made the vectors: its {key} is {now}, not {then}.",
                f"Restore the original files of {reference.name}"
                + (f" at revision {reference.revision}." if reference.revision else "."),
            )
    return encoder


def _precision(dtype: str, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """The setting that gives `dtype`; half precision, which CPUs emulate slowly, becomes fp32 there."""
    if dtype == "float16" and device.type != "cpu":
        return "fp16"
    return "bf16" if dtype == "bfloat16" else "fp32"


def _positions(model: torch.nn.Module) -> int:
    """Positions that a text can fill: the RoBERTa family begins to count after its padding id."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    limit = getattr(model.config, "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else 1 << 30


def _add_lowercase(tokenizer: Any) -> None:  # noqa: ANN401 - a transformers tokenizer
    """Lower-case before all else, as sentence-transformers does for `do_lower_case`."""
    from tokenizers import normalizers  # noqa: PLC0415

    backend = tokenizer.backend_tokenizer
    steps = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer else [])]
    backend.normalizer = normalizers.Sequence(steps)
