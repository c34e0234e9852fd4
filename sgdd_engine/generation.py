"""A trained model and some text or vectors in, text out: the Python door of sgdd."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgdd_engine.checkpoint import Checkpoint, load_checkpoint, resolve_checkpoint, save_checkpoint
from sgdd_engine.data.cleaning import clean
from sgdd_engine.decoding import Task, decode
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.errors import GenerationError
from sgdd_engine.events import CanvasChanged, Listener, ignore
from sgdd_engine.models.device import resolve_device
from sgdd_engine.text.encoder import EncoderReference, SentenceEncoder, load_encoder_like
from sgdd_engine.text.tokenizer import TextTokenizer


@dataclass(frozen=True, slots=True)
class Generation:
    """One written sentence.

    Attributes:
        text: The sentence.
        tokens: Its token ids.
        row: Index of the vector it was written from.
        seed: The seed that wrote it.
        cosine: Cosine of its re-encoded vector with the given one; None where it was not re-encoded.
    """

    text: str
    tokens: tuple[int, ...]
    row: int
    seed: int
    cosine: float | None = None


class SGDD:
    """A trained decoder with its tokenizer and, on first use, its frozen encoder.

    Example:
        >>> model = SGDD.from_pretrained("runs/my-run")
        >>> model.reconstruct(["The dog ran home."])[0].text
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, encoder: SentenceEncoder | None = None
    ) -> None:
        self._checkpoint = checkpoint
        self._encoder = encoder
        self.device = device
        self.model = checkpoint.model
        self.info = checkpoint.info
        self.tokenizer: TextTokenizer = checkpoint.tokenizer
        self.schedule = build_schedule(checkpoint.info.diffusion.schedule)

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "auto") -> "SGDD":
        """Load a checkpoint folder, or the best checkpoint of a run folder.

        Args:
            folder: Where it stands.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.

        Raises:
            CheckpointError: nothing there, or damaged.
            ConfigError: no such device.
        """
        place = resolve_device(device)
        return cls(load_checkpoint(resolve_checkpoint(Path(folder)), place), place)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model, its tokenizer and its card into a folder that loads on its own."""
        facts = dict(self.info.facts)
        if "corpus" in facts:
            # Where the corpus lay on the machine of training is nobody else's business.
            facts["corpus"] = {key: value for key, value in facts["corpus"].items() if key != "folder"}
        shared = replace(self._checkpoint, info=replace(self.info, facts=facts))
        save_checkpoint(Path(folder), shared)

    @property
    def encoder_reference(self) -> EncoderReference:
        """Which encoder made the vectors that this model reads."""
        return self.info.encoder

    @property
    def encoder(self) -> SentenceEncoder:
        """The frozen encoder, loaded and verified on first use.

        Raises:
            EncoderError: it cannot be loaded, or its weights are not those the model was trained with.
        """
        if self._encoder is None:
            self._encoder = load_encoder_like(self.info.encoder, self.device)
        return self._encoder

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Sentence vectors of texts, as the frozen encoder gives them.

        Returns:
            [N, D] float32 on the CPU, of unit length where the encoder normalises.
        """
        return self.encoder.encode([_cleaned(text) for text in texts])

    def reconstruct(self, texts: Sequence[str], **options: Any) -> list[Generation]:  # noqa: ANN401 - passed on to generate
        """Encode texts and write them again from their vectors alone; scored by re-encoding.

        Args:
            texts: N sentences.
            **options: As for `generate`.

        Returns:
            `num_samples` generations per text, in order.
        """
        if not texts:
            return []
        return self.generate(self.encode(texts), **{"score": True, **options})

    @torch.inference_mode()
    def generate(
        self,
        vectors: Tensor | Sequence[Sequence[float]],
        *,
        sampling: SamplingConfig | None = None,
        lengths: int | Sequence[int] | None = None,
        candidates: int = 1,
        num_samples: int = 1,
        seed: int = 0,
        score: bool = False,
        unconditional: bool = False,
        on_event: Listener = ignore,
    ) -> list[Generation]:
        """Write sentences from vectors, starting from an all-mask canvas.

        Args:
            vectors: [N, D], made by the model's own encoder.
            sampling: Steps, guidance, order, temperature; the default is `SamplingConfig()`.
            lengths: Tokens to write, one number or one per vector; by default the length head says.
            candidates: So many of the likeliest lengths are written and the one kept whose re-encoded vector is
                closest to the given one. Costs one encoder call per candidate.
            num_samples: Sentences per vector; sample k uses seed `seed + k`.
            seed: A sentence depends on its vector, the settings and its seed, not on its batch.
            score: Re-encode what was written and report the cosine.
            unconditional: Ignore the vectors and write under the null condition (a control).
            on_event: Told of each denoising step (`CanvasChanged`).

        Returns:
            N · num_samples generations, all samples of the first vector first.

        Raises:
            GenerationError: vectors of another size or not finite, lengths out of range or given together with
                candidates, a seed out of range, guidance without a trained null condition.
        """
        e = self._checked(vectors)
        sampling = self._checked_sampling(sampling or SamplingConfig(), unconditional)
        z = self.model.null_latent(len(e)) if unconditional else self.model.latent(e.to(self.device)).z
        tasks = self._tasks(z, lengths, candidates, num_samples, seed)
        ids = decode(
            self.model,
            z,
            tasks,
            sampling=sampling,
            schedule=self.schedule,
            forbidden=self.tokenizer.special_ids,
            on_step=None if on_event is ignore else self._reporter(sampling.steps, on_event),
        )
        texts = self.tokenizer.decode_batch(ids)
        written = [
            Generation(text, tuple(tokens), task.row, task.seed)
            for text, tokens, task in zip(texts, ids, tasks, strict=True)
        ]
        if candidates > 1 or score:
            written = self._scored(written, e)
        return _closest_of_each(written) if candidates > 1 else written

    def likely_lengths(self, z: Tensor, count: int) -> Tensor:
        """The `count` likeliest lengths in tokens of latents [N, latent_dim], likeliest first: [N, count]."""
        count = min(count, self.info.model.max_tokens)
        return self.model.length_logits(z).topk(count, dim=-1).indices.cpu() + 1

    def _tasks(
        self, z: Tensor, lengths: int | Sequence[int] | None, candidates: int, num_samples: int, seed: int
    ) -> list[Task]:
        if candidates < 1 or num_samples < 1:
            raise GenerationError("The number of candidates and of samples must be at least 1.")
        if not 0 <= seed <= (1 << 63) - num_samples:
            raise GenerationError(f"The seed is {seed}; it must lie between 0 and 2^63 - 1.")
        if lengths is None:
            per_row = self.likely_lengths(z, candidates).tolist()
        else:
            if candidates > 1:
                raise GenerationError(
                    "Candidates differ in their length, and a length was given.",
                    "Leave out one of the two (--length, --candidates).",
                )
            given = [lengths] * len(z) if isinstance(lengths, int) else list(lengths)
            per_row = [[length] for length in self._checked_lengths(given, len(z))]
        return [
            Task(row, length, seed + k)
            for row, row_lengths in enumerate(per_row)
            for k in range(num_samples)
            for length in row_lengths
        ]

    def _scored(self, written: list[Generation], e: Tensor) -> list[Generation]:
        # An empty text has no meaning to compare; a full stop stands for it so that the rows stay aligned.
        again = self.encoder.encode([item.text or "." for item in written])
        targets = e[torch.tensor([item.row for item in written], dtype=torch.long)]
        cosines = torch.cosine_similarity(again, targets, dim=-1).tolist()
        return [replace(item, cosine=cosine) for item, cosine in zip(written, cosines, strict=True)]

    def _reporter(
        self, num_steps: int, on_event: Listener
    ) -> Callable[[int, Sequence[Task], Sequence[list[int]]], None]:
        def report(step: int, _: Sequence[Task], canvases: Sequence[list[int]]) -> None:
            texts = tuple(self.tokenizer.show_canvas(tokens) for tokens in canvases)
            on_event(CanvasChanged(step, num_steps, texts))

        return report

    def _checked(self, vectors: Tensor | Sequence[Sequence[float]]) -> Tensor:
        try:
            e = torch.as_tensor(vectors, dtype=torch.float32).cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise GenerationError(f"The vectors are no table of numbers: {error}.") from error
        dim = self.info.model.embedding_dim
        if e.ndim != 2 or e.shape[1] != dim:
            raise GenerationError(
                f"The vectors have shape {list(e.shape)}; "
                f"this model reads [N, {dim}], made by `{self.info.encoder.name}`.",
                "Encode with the encoder the model was trained with: SGDD.encode(texts).",
            )
        if not torch.isfinite(e).all():
            raise GenerationError("The vectors hold NaN or infinite numbers.")
        return e

    def _checked_lengths(self, lengths: Sequence[int], rows: int) -> Sequence[int]:
        longest = self.info.model.max_tokens
        if len(lengths) != rows:
            raise GenerationError(f"{len(lengths)} lengths were given for {rows} vectors.")
        if bad := [n for n in lengths if not 1 <= n <= longest]:
            raise GenerationError(
                f"A length of {bad[0]} tokens was asked for; this model writes 1 to {longest}."
            )
        return lengths

    def _checked_sampling(self, sampling: SamplingConfig, unconditional: bool) -> SamplingConfig:
        if unconditional:
            # The null branch guided by itself is itself.
            return replace(sampling, cfg=1.0)
        if sampling.cfg != 1.0 and not self.info.trained_null:
            raise GenerationError(
                f"Guidance (cfg = {sampling.cfg:g}) needs a null condition, and this model was trained without one.",
                "Use --cfg 1, or train with train.condition_dropout above 0.",
            )
        return sampling


def _cleaned(text: str) -> str:
    cleaned = clean(text)
    if not cleaned:
        raise GenerationError(f"There is nothing to encode in {text!r}.", "Give a sentence.")
    return cleaned


def _cosine(item: Generation) -> float:
    return -1.0 if item.cosine is None else item.cosine


def _closest_of_each(written: Sequence[Generation]) -> list[Generation]:
    """The generation of highest cosine for each (vector, seed), in order."""
    best: dict[tuple[int, int], Generation] = {}
    for item in written:
        kept = best.get((item.row, item.seed))
        if kept is None or _cosine(item) > _cosine(kept):
            best[item.row, item.seed] = item
    return list(best.values())
