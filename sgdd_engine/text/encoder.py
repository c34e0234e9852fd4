"""The frozen sentence encoder: sentences in, one float32 vector each out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
import torch.nn.functional as F

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.config import MINILM, EncoderConfig
from sgdd_engine.text.loading import find_files, hash_weights, load_model, load_tokenizer
from sgdd_engine.text.pooling import ModuleChain, pool, read_module_chain

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class EncoderReference:
    """Which encoder made a set of vectors, so that it can be found again and checked.

    Attributes:
        name: `minilm`, a hub name, or the absolute path of a folder.
        revision: Hub commit; None for local files.
        pooling: `cls` or `mean`.
        normalize: Whether vectors have unit norm.
        dim: Size of a vector.
        parameters: Parameters of the Transformer without a pooler.
        max_tokens: Encoder tokens read per sentence.
        weights_sha256: Over the weight files in name order.
        dtype: Arithmetic that made the vectors, for example `float32`.
    """

    name: str
    revision: str | None
    pooling: str
    normalize: bool
    dim: int
    parameters: int
    max_tokens: int
    weights_sha256: str
    dtype: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EncoderReference":
        """Rebuild what `to_dict` gave.

        Raises:
            EncoderError: If a field is missing; unknown ones, from newer versions, are passed over.
        """
        try:
            return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})
        except TypeError as problem:
            raise EncoderError(f"The encoder's description is incomplete: {problem}") from problem


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
        # A copy: transformers changes truncation and padding of its own whenever it is called.
        self._cutter = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
        self._cutter.no_padding()
        self._cutter.enable_truncation(max_length=reference.max_tokens)

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
        rows = self._cut(texts)
        vectors = torch.empty(len(rows), self.dim)
        for batch in _batches([len(row) for row in rows], self._batch_tokens):
            found = self._forward([rows[index] for index in batch])
            if not torch.isfinite(found).all():
                raise EncoderError(
                    f"The encoder {self.reference.name} gave vectors that are not finite "
                    f"(arithmetic: {self.reference.dtype}).",
                    "Try --set encoder.precision=fp32",
                )
            vectors[batch] = found
            if on_batch is not None:
                on_batch(len(batch))
        return vectors

    def word_table(self) -> torch.Tensor:
        """The encoder's input embeddings, `[V, d_word]` float32 on the CPU (a copy)."""
        table: torch.Tensor = self._model.get_input_embeddings().weight  # type: ignore[operator]
        return table.detach().to("cpu", torch.float32, copy=True)

    def _cut(self, texts: Sequence[str]) -> list[list[int]]:
        if isinstance(texts, str):
            raise EncoderError("encode() takes a list of sentences, not one string.", "Write encode([text]).")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise EncoderError(f"Sentence {index} is {type(text).__name__}, not text.")
        # Lone surrogates (bytes that were not UTF-8) would fail deep inside the tokenizer.
        clean = [self._chain.prompt + text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        cut = self._cutter.encode_batch_fast(clean, add_special_tokens=True)
        self.truncated += sum(bool(row.overflowing) for row in cut)
        return [row.ids or [self._pad_id] for row in cut]

    @torch.no_grad()
    def _forward(self, rows: list[list[int]]) -> torch.Tensor:
        width = max(map(len, rows))
        ids = torch.tensor([row + [self._pad_id] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        ids, mask = ids.to(self.device), mask.to(self.device)
        vectors = pool(self._model(input_ids=ids, attention_mask=mask)[0], mask, self._chain.pooling)
        return (F.normalize(vectors, dim=-1) if self._chain.normalize else vectors).cpu()


def load_encoder(config: EncoderConfig, device: str | torch.device = "cpu") -> SentenceEncoder:
    """Load a frozen sentence encoder; see `loading.find_files` for where it is looked for.

    Raises:
        EncoderError: If it cannot be found, loaded, or honoured (pooling, module chain, prompts).
    """
    device = torch.device(device)
    files = find_files(config)
    chain = read_module_chain(files.folder, config)
    tokenizer = load_tokenizer(chain.transformer)
    if chain.lowercase:
        _add_lowercase(tokenizer)
    automatic = "fp16" if device.type == "cuda" else "fp32"
    dtype = _DTYPES[automatic if config.precision == "auto" else config.precision]
    model = load_model(chain.transformer, dtype, device)
    reference = EncoderReference(
        name=files.name,
        revision=files.revision,
        pooling=chain.pooling,
        normalize=chain.normalize,
        dim=int(model.config.hidden_size),  # type: ignore[union-attr, arg-type]
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        max_tokens=min(
            config.max_tokens,
            chain.max_tokens or int(tokenizer.model_max_length),
            _positions(model),
        ),
        weights_sha256=hash_weights(chain.transformer),
        dtype=str(dtype).removeprefix("torch."),
    )
    return SentenceEncoder(
        model, tokenizer, chain, reference, device=device, batch_tokens=config.batch_tokens
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


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group indices by length, longest first, so that rows times the longest row stay within the budget."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // lengths[order[start]])
        yield order[start : start + rows]
        start += rows


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
