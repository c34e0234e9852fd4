"""A trained model and some text or vectors in, text out: the Python door of sgdd."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgdd_engine.checkpoint import Checkpoint, Dtype, load_checkpoint, resolve_checkpoint, save_checkpoint
from sgdd_engine.data.cleaning import clean
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.errors import GenerationError
from sgdd_engine.events import CanvasChanged, Listener, ignore
from sgdd_engine.generation.arguments import (
    validate_counts,
    validate_lengths,
    validate_sampling,
    validate_shortlist,
    validate_vectors,
)
from sgdd_engine.generation.decode import DecodeRequest, decode
from sgdd_engine.generation.proposal import ProposalContext
from sgdd_engine.generation.refinement import EncoderScorer, best_of_n
from sgdd_engine.generation.refinement import refine as improve
from sgdd_engine.generation.remask import TEMPERATURE
from sgdd_engine.generation.shortlist import Unread, proposer, select_shortlist, unread
from sgdd_engine.models.device import resolve_device
from sgdd_engine.text.encoder import SentenceEncoder, load_encoder_like
from sgdd_engine.text.reference import EncoderReference
from sgdd_engine.text.tokenizer import TextTokenizer

# Likeliest lengths tried before a length is tried again, by chance.
LENGTHS_TRIED = 8


@dataclass(frozen=True, slots=True)
class Generation:
    """One written sentence.

    Attributes:
        text: The sentence.
        tokens: Its token ids.
        row: Index of the vector it was written from.
        seed: The seed that wrote it.
        cosine: Cosine of its re-encoded vector with the given one; None where it was not re-encoded.
        encoder_calls: Texts that were encoded to write it: each distinct candidate that was read, each proposal of
            refining, and its own where it was scored. The given vector's own text is not among them.
    """

    text: str
    tokens: tuple[int, ...]
    row: int
    seed: int
    cosine: float | None = None
    encoder_calls: int = 0


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
        """Load a checkpoint folder, the best checkpoint of a run folder, or `mini`, which comes with sgdd.

        Args:
            folder: Where it stands; the text `mini` is a name, `./mini` a folder.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.

        Raises:
            CheckpointError: nothing there, or damaged.
            ConfigError: no such device.
        """
        place = resolve_device(device)
        return cls(load_checkpoint(resolve_checkpoint(folder), place), place)

    def save_pretrained(self, folder: str | Path, *, dtype: Dtype = "fp32", card: str | None = None) -> None:
        """Write the model, its tokenizer and its card into a folder that loads on its own.

        Args:
            folder: The final name; what stands there is replaced.
            dtype: `fp16` halves the file and is read back as float32.
            card: The text of README.md; by default one made of what the model knows of itself.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        shared = replace(self._checkpoint, info=self.info.shareable())
        save_checkpoint(Path(folder), shared, dtype=dtype, card=card)

    @property
    def recommended_sampling(self) -> SamplingConfig:
        """How to sample where nobody says otherwise: the defaults, and what the checkpoint records."""
        return self.info.recommended_sampling

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
        refine: int = 0,
        shortlist: int | None = None,
        num_samples: int = 1,
        seed: int = 0,
        score: bool = False,
        unconditional: bool = False,
        on_event: Listener = ignore,
    ) -> list[Generation]:
        """Write sentences from vectors, starting from an all-mask canvas.

        Args:
            vectors: [N, D], made by the model's own encoder.
            sampling: Steps, guidance, order, temperature; by default as the checkpoint recommends.
            lengths: Tokens to write, one number or one per vector; by default the length head says.
            candidates: So many sentences are read for each, and the one kept whose re-encoded vector is closest
                to the given one: the likeliest lengths first, then by chance. Costs one encoder call each.
            refine: Rounds in which the least certain tokens are written anew, and the whole sentence where the decoder
                was trained to correct drafts; a change is kept if the cosine rises. Costs one encoder call each.
            shortlist: For each candidate and each round so many sentences are written, and the encoder reads those
                that the model's surrogate of it finds closest, always with the one of the likeliest length where
                candidates are more than one; what is not read stays on the list. 1 for no such choice. Costs no
                encoder call, and so many times the writing. By default 4 where there is more than one to read and
                the model has a surrogate.
            num_samples: Sentences per vector; sample k uses seed `seed + k`.
            seed: A sentence depends on its vector, the settings and its seed, not on its batch.
            score: Re-encode what was written and report the cosine.
            unconditional: Ignore the vectors and write under the null condition (a control).
            on_event: Told of each denoising step (`CanvasChanged`) and of the rounds (`StageProgress`).

        Returns:
            N · num_samples generations, all samples of the first vector first.

        Raises:
            GenerationError: vectors of another size or not finite, lengths out of range or given together with
                candidates, a seed out of range, guidance without a trained null condition, refining without a
                meaning.
        """
        e = validate_vectors(vectors, self.info)
        sampling = validate_sampling(sampling or self.recommended_sampling, unconditional, self.info)
        validate_counts(candidates, num_samples, refine, seed, unconditional)
        shortlist = validate_shortlist(shortlist, self.info, candidates > 1 or refine > 0)
        z = self.model.null_latent(len(e)) if unconditional else self.model.latent(e.to(self.device)).z
        if lengths is not None:
            lengths = validate_lengths(lengths, len(e), candidates, self.info)
        tasks = self._tasks(z, lengths, candidates * shortlist, num_samples, seed)
        ids = self._written(z, tasks, sampling, on_event)
        left: Unread = {}
        if shortlist > 1:
            kept = select_shortlist(self.model, e, tasks, ids, candidates)
            left = unread(tasks, ids, kept)
            tasks, ids = [tasks[i] for i in kept], [ids[i] for i in kept]
        if candidates == 1 and not score and not refine:
            texts = self.tokenizer.decode_batch(ids)
            return [
                Generation(text, tuple(tokens), task.row, task.seed)
                for text, tokens, task in zip(texts, ids, tasks, strict=True)
            ]
        reader = EncoderScorer(self.encoder, self.tokenizer, e)
        drafts = best_of_n(reader, [task.row for task in tasks], [task.seed for task in tasks], ids)
        if refine:
            writer = ProposalContext(
                self.model,
                e,
                sampling,
                self.schedule,
                self.tokenizer.special_ids,
                keep_length=lengths is not None,
                watch=lambda steps: self._reporter(on_event, steps),
            )
            drafts = improve(drafts, refine, proposer(writer, shortlist, reader.text, left), reader, on_event)
        return [
            Generation(item.text, item.tokens, item.row, item.seed, item.cosine, len(item.tried))
            for item in drafts
        ]

    def tries_by_chance(self, candidates: int, shortlist: int | None = None) -> bool:
        """Whether so many candidates are more than there are lengths to try, so that some are drawn by chance."""
        return candidates * validate_shortlist(shortlist, self.info, candidates > 1) > LENGTHS_TRIED

    def likely_lengths(self, z: Tensor, count: int) -> Tensor:
        """The `count` likeliest lengths in tokens of latents [N, latent_dim], likeliest first: [N, count]."""
        count = min(count, self.info.model.max_tokens)
        return self.model.length_logits(z).topk(count, dim=-1).indices.cpu() + 1

    def _tasks(
        self, z: Tensor, lengths: Sequence[int] | None, many: int, num_samples: int, seed: int
    ) -> list[DecodeRequest]:
        """`many` sentences of each latent and seed: of the likeliest lengths, or of the one that was given."""
        if lengths is None:
            per_row = self.likely_lengths(z, min(many, LENGTHS_TRIED)).tolist()
        else:
            per_row = [[length] for length in lengths]
        return [
            DecodeRequest(row, likely[number % len(likely)], seed + k, number // len(likely))
            for row, likely in enumerate(per_row)
            for k in range(num_samples)
            for number in range(many)
        ]

    def _written(
        self, z: Tensor, tasks: Sequence[DecodeRequest], sampling: SamplingConfig, on_event: Listener
    ) -> list[list[int]]:
        """Token ids of each task; a length that is tried again is written by chance."""
        warm = replace(sampling, temperature=max(TEMPERATURE, sampling.temperature))
        ids: dict[int, list[int]] = {}
        for again, config in ((False, sampling), (True, warm)):
            indices = [i for i, task in enumerate(tasks) if (task.stream > 0) == again]
            written = decode(
                self.model,
                z,
                [tasks[i] for i in indices],
                sampling=config,
                schedule=self.schedule,
                forbidden=self.tokenizer.special_ids,
                on_step=self._reporter(on_event, config.steps),
            )
            ids.update(zip(indices, written, strict=True))
        return [ids[i] for i in range(len(tasks))]

    def _reporter(
        self, on_event: Listener, num_steps: int
    ) -> Callable[[int, Sequence[object], Sequence[list[int]]], None] | None:
        if on_event is ignore:
            return None

        def report(step: int, _: Sequence[object], canvases: Sequence[list[int]]) -> None:
            texts = tuple(self.tokenizer.show_canvas(tokens) for tokens in canvases)
            on_event(CanvasChanged(step, num_steps, texts))

        return report


def _cleaned(text: str) -> str:
    cleaned = clean(text)
    if not cleaned:
        raise GenerationError(f"There is nothing to encode in {text!r}.", "Give a sentence.")
    return cleaned
