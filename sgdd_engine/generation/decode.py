"""From latents and lengths to tokens: a trained model bound to a way of sampling."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.sampler import Denoiser, LogitChunk, LogitChunks, TokenTrace, sample
from sgdd_engine.diffusion.schedule import MaskingSchedule
from sgdd_engine.generation.guided_denoiser import (
    CHUNK_ELEMENTS,
    FORBIDDEN_LOGIT,
    DraftInput,
    GuidedDenoiser,
)
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.seeds import stream_seed

# Tokens of all canvases that are filled together: 256 sentences of 32 tokens, enough rows for the matrix products of a
# CPU; more on other devices.
BATCH_TOKENS = 1 << 13
BATCH_TOKENS_ON_GPU = 1 << 16
# The temperature of whatever has to differ from the likeliest sentence: repeated lengths, proposals, diversity.
RESAMPLING_TEMPERATURE = 0.7
# `token_log_probs` masks every third token at a time, so that a token is scored with its neighbours given.
STRIDE = 3
# Of how many of a latent's numbers, the largest, its key tells the places and signs. Of 6,000 sentences of novels,
# with MiniLM's vectors and whitening, 5,998 have a key of their own; rounding, which depends on what is computed beside
# a vector, changed none of them, and storing the vectors in fp16 29.
KEY_NUMBERS = 4

Check = Callable[[], None]
"""Called often while something is computed; what it raises ends the computation."""
OnStep = Callable[[int, Sequence[int], Sequence[list[int]], Sequence[TokenTrace] | None], None]
"""Called with (steps done, indices of the batch's canvases, their tokens, their traces so far if traces are kept)."""
OnTrace = Callable[[int, TokenTrace], None]
"""Called with (index of a canvas, how sure each of its n tokens was when it was written: tensors [n])."""


def unchecked() -> None:
    """The check of callers who let everything be computed to its end."""


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """One sentence to write: which latent, how many tokens, which seed, and which of the random streams of both."""

    row: int
    length: int
    seed: int
    stream: int = 0


@dataclass(frozen=True, slots=True)
class Canvas:
    """A sentence to complete: of which latent, its tokens (the mask where it is open), and its random numbers.

    `forbidden` holds, by position, ids [k] that are not written there.
    """

    row: int
    tokens: Sequence[int]
    generator: torch.Generator
    draft: DraftInput | None = None
    forbidden: Mapping[int, Tensor] = field(default_factory=dict)


def stream_generator(seed: int, stream: int = 0, key: Sequence[int] = ()) -> torch.Generator:
    """The generator of one stream of a seed, for the vector of this key (`noise_keys`); see `stream_seed`."""
    return torch.Generator().manual_seed(stream_seed(seed, stream, *key))


def noise_keys(z: Tensor) -> list[tuple[int, ...]]:
    """For each latent [N, latent_dim] numbers that name its random streams.

    The texts of one call, which have one seed, would otherwise be drawn with the same random numbers: where one gets an
    unlikely length, all would. A latent's place in a call must not matter, so the key is made from its values.
    """
    places = z.abs().sort(dim=-1, descending=True, stable=True).indices[:, :KEY_NUMBERS]
    return [*map(tuple, (2 * places + (z.gather(-1, places) < 0)).tolist())]


@dataclass(frozen=True, slots=True)
class Decoder:
    """A trained model bound to its schedule, the tokens that it never writes, and a way of sampling.

    Attributes:
        model: In evaluation mode.
        schedule: The masking schedule it was trained under.
        forbidden: Token ids that are never written (the special ones).
        sampling: Steps, guidance, position rule, temperature.
        check: Called after each denoising step, and between passes that score texts.
    """

    model: SemanticDecoder
    schedule: MaskingSchedule
    forbidden: Sequence[int]
    sampling: SamplingConfig
    check: Check = unchecked

    @property
    def mask_id(self) -> int:
        """The id of the mask token."""
        return self.model.config.vocabulary.mask_id

    def resampling(self, steps: int | None = None) -> "Decoder":
        """The same with a temperature of at least `RESAMPLING_TEMPERATURE`, and perhaps another number of steps."""
        sampling = self.sampling
        warmer = max(RESAMPLING_TEMPERATURE, sampling.temperature)
        return replace(self, sampling=replace(sampling, temperature=warmer, steps=steps or sampling.steps))

    def unguided(self) -> "Decoder":
        """The same with a guidance weight of 1, which takes half of the arithmetic."""
        return replace(self, sampling=replace(self.sampling, cfg=1.0))

    def with_steps(self, most: int) -> "Decoder":
        """The same in no more than so many denoising steps."""
        return replace(self, sampling=replace(self.sampling, steps=min(most, self.sampling.steps)))

    def latents(self, e: Tensor) -> Tensor:
        """Latents [M, latent_dim] of sentence vectors [M, D], on the model's device."""
        z: Tensor = self.model.latent(e.to(self.model.null.device)).z
        return z

    def decode(
        self,
        z: Tensor,
        requests: Sequence[DecodeRequest],
        on_step: OnStep | None = None,
        on_trace: OnTrace | None = None,
    ) -> list[list[int]]:
        """Write each request's sentence from an all-mask canvas.

        Args:
            z: Latents [N, latent_dim], on the model's device.
            requests: What to write.
            on_step: Called after each denoising step.
            on_trace: Called for each sentence that is written.

        Returns:
            Token ids, in the order of the requests.
        """
        keys = noise_keys(z)
        canvases = [
            Canvas(
                request.row,
                [self.mask_id] * request.length,
                stream_generator(request.seed, request.stream, keys[request.row]),
            )
            for request in requests
        ]
        return self.fill(z, canvases, on_step, on_trace)

    # Training writes samples with weights that it trains further: it could not use tensors of inference mode.
    @torch.no_grad()
    def fill(
        self,
        z: Tensor,
        canvases: Sequence[Canvas],
        on_step: OnStep | None = None,
        on_trace: OnTrace | None = None,
    ) -> list[list[int]]:
        """Write on the open positions of each canvas; tokens that are given stay.

        Canvases of all lengths are filled together, and the network reads those of one length at a time: nothing is
        padded, and the vocabulary head still gets many positions at once.

        Args:
            z: Latents [N, latent_dim], on the model's device.
            canvases: What to complete.
            on_step: Called after each denoising step.
            on_trace: Called for each canvas that is completed.

        Returns:
            Token ids, in the order of the canvases.
        """
        results: list[list[int]] = [[] for _ in canvases]
        # Each text's own rows of the token table are held at once.
        elements = self.sampling.vocabulary * self.model.head.width
        most = max(1, CHUNK_ELEMENTS // elements) if elements else len(canvases)
        # Canvases that share random numbers stay together: what one draws depends on what the others have drawn, and
        # must not depend on which others of the call fall into a batch.
        sharing: dict[int, list[int]] = {}
        for i, canvas in enumerate(canvases):
            sharing.setdefault(id(canvas.generator), []).append(i)
        for indices in self._batches(
            [len(canvas.tokens) for canvas in canvases], most, list(sharing.values())
        ):
            batch = [canvases[i] for i in indices]
            lengths = [len(canvas.tokens) for canvas in batch]
            drafts = [canvas.draft for canvas in batch if canvas.draft is not None]
            denoiser: Denoiser = self._denoiser(z[[canvas.row for canvas in batch]], lengths, drafts)
            if any(canvas.forbidden for canvas in batch):
                assert not self.sampling.vocabulary, (
                    "what is forbidden may leave nothing of a text's vocabulary"
                )
                denoiser = _forbidding(denoiser, [canvas.forbidden for canvas in batch])
            sampled = sample(
                denoiser,
                self.pad_rows([canvas.tokens for canvas in batch]),
                mask_id=self.mask_id,
                schedule=self.schedule,
                config=self.sampling,
                generators=[canvas.generator for canvas in batch],
                lengths=lengths,
                trace=on_trace is not None,
                on_step=_on_table(self.check, on_step, indices, lengths),
            )
            for i, row in zip(indices, _unpadded(sampled.tokens, lengths), strict=True):
                results[i] = row
            if on_trace is not None and sampled.trace is not None:
                for number, i in enumerate(indices):
                    on_trace(i, sampled.trace.of_row(number, lengths[number]))
        return results

    def token_log_probs(self, z: Tensor, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Log-probability of each token of each text, with every third token masked and the others given.

        Args:
            z: Latents [N, latent_dim], on the model's device.
            rows: The latent that each text belongs to.
            texts: Token ids of each text, at least one.

        Returns:
            One [n] in float32 on the CPU per text of n tokens, in nats.
        """
        results = [torch.zeros(len(tokens)) for tokens in texts]
        for of_text, positions, logits in self.token_logits(z, rows, texts):
            at = list(zip(of_text.tolist(), positions.tolist(), strict=True))
            ids = torch.tensor([[texts[i][position]] for i, position in at], device=logits.device)
            log_probs = (logits.gather(1, ids).squeeze(1) - logits.logsumexp(dim=-1)).tolist()
            for (i, position), log_prob in zip(at, log_probs, strict=True):
                results[i][position] = log_prob
        return results

    @torch.inference_mode()
    def token_logits(
        self, z: Tensor, rows: Sequence[int], texts: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Logits at each token of each text, with every third token masked and the others given.

        Args:
            z: Latents [N, latent_dim], on the model's device.
            rows: The latent that each text belongs to.
            texts: Token ids of each text, at least one.

        Yields:
            For M tokens at a time the text [M] and the position [M] of each, and logits [M, V]: not normalised where
            they are guided, −inf for the mask, and overwritten by the next ones.
        """
        for indices in self._batches(
            [len(tokens) for tokens in texts], len(texts), [[i] for i in range(len(texts))]
        ):
            lengths = [len(texts[i]) for i in indices]
            tokens = self.pad_rows([texts[i] for i in indices])
            # Its calls are not the steps of one sentence: self-conditioning would show it another canvas.
            denoiser = self._denoiser(z[[rows[i] for i in indices]], lengths, in_sequence=False)
            inside = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
            for first in range(STRIDE):
                self.check()
                masked = torch.zeros_like(tokens, dtype=torch.bool)
                masked[:, first::STRIDE] = True
                masked &= inside
                if not masked.any():
                    continue
                times = self.schedule.time_at(masked.sum(dim=1) / torch.tensor(lengths))
                in_batch, positions = masked.nonzero().unbind(dim=1)
                of_text = torch.tensor(indices)[in_batch]
                canvas = tokens.masked_fill(masked, self.mask_id)
                for logits, _ in denoiser(canvas, times, masked)(torch.arange(len(positions))):
                    count = len(logits)
                    # Guided logits are not normalised, and the mask token is among them.
                    logits[:, self.mask_id] = -torch.inf
                    yield of_text[:count], positions[:count], logits
                    of_text, positions = of_text[count:], positions[count:]

    def pad_rows(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Token ids of a batch as one table [B, n]; behind its end a row holds `<s>`, which is never written."""
        table = torch.full((len(texts), max(map(len, texts))), self.model.config.vocabulary.bos_id)
        for row, tokens in zip(table, texts, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        return table

    def _batches(
        self, lengths: Sequence[int], most: int, groups: Sequence[Sequence[int]]
    ) -> Iterator[list[int]]:
        """Indices of sentences of these lengths, by groups, in batches that are computed together."""
        on_cpu = self.model.null.device.type == "cpu"
        return _batches(lengths, most, BATCH_TOKENS if on_cpu else BATCH_TOKENS_ON_GPU, groups)

    def _denoiser(
        self,
        z: Tensor,
        lengths: Sequence[int],
        drafts: Sequence[DraftInput] = (),
        *,
        in_sequence: bool = True,
    ) -> GuidedDenoiser:
        return GuidedDenoiser(
            self.model, z, lengths, self.sampling, self.forbidden, drafts, in_sequence=in_sequence
        )


def _forbidding(denoiser: Denoiser, forbidden: Sequence[Mapping[int, Tensor]]) -> Denoiser:
    """The same denoiser, except that of each row some tokens are never written at some positions."""

    def limited(z_t: Tensor, t: Tensor, masked: Tensor) -> LogitChunks:
        chunks = denoiser(z_t, t, masked)
        ids_at = [forbidden[row].get(position) for row, position in masked.nonzero().tolist()]

        def logit_chunks(which: Tensor) -> Iterator[LogitChunk]:
            wanted = iter(which.tolist())
            for chunk in chunks(which):
                for of_position, index in zip(chunk.logits, wanted, strict=False):
                    if (ids := ids_at[index]) is not None:
                        of_position[ids] = FORBIDDEN_LOGIT
                yield chunk

        return logit_chunks

    return limited


def _batches(
    lengths: Sequence[int], most: int, tokens: int, groups: Sequence[Sequence[int]]
) -> Iterator[list[int]]:
    """Indices of sentences in batches of about so many tokens, at most `most` sentences each; no group is parted.

    The groups of the shortest sentences come first, and in a batch the shortest sentences.
    """
    batch: list[int] = []
    room = tokens
    for group in sorted(groups, key=lambda group: max(lengths[i] for i in group)):
        size = sum(lengths[i] for i in group)
        room -= size
        if batch and (room < 0 or len(batch) + len(group) > most):
            yield sorted(batch, key=lengths.__getitem__)
            batch, room = [], tokens - size
        batch.extend(group)
    if batch:
        yield sorted(batch, key=lengths.__getitem__)


def _unpadded(table: Tensor, lengths: Sequence[int]) -> list[list[int]]:
    return [row[:length] for row, length in zip(table.tolist(), lengths, strict=True)]


def _on_table(
    check: Check, on_step: OnStep | None, indices: Sequence[int], lengths: Sequence[int]
) -> Callable[[int, Tensor, TokenTrace | None], None]:
    def of_rows(step: int, table: Tensor, trace: TokenTrace | None) -> None:
        check()
        if on_step is None:
            return
        traces = None if trace is None else [trace.of_row(row, length) for row, length in enumerate(lengths)]
        on_step(step, indices, _unpadded(table, lengths), traces)

    return of_rows
