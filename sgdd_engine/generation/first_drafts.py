"""First drafts: which lengths are written for each vector, and the sentences from an all-mask canvas."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sgdd_engine.diffusion.sampler import TokenTrace
from sgdd_engine.events import CanvasChanged, Listener, ignore
from sgdd_engine.generation.config import LengthRange
from sgdd_engine.generation.decode import Decoder, DecodeRequest, OnStep, noise_keys, stream_generator
from sgdd_engine.generation.written import Traces
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.tokenizer import TextTokenizer

# Candidates have the likeliest lengths, one each; beyond so many, lengths repeat with tokens that are drawn. The first
# guess of the length head is right for about a quarter of sentences; eight were tried first, and no other number.
DISTINCT_LENGTHS = 8
# The stream of a seed that draws the length; those below write sentences.
LENGTH_STREAM = 1 << 31

StepListener = Callable[[int, Sequence[int]], OnStep | None]
"""`(steps in all, the vector's index of each canvas, where known) → what is called after each step`."""


def likely_lengths(model: SemanticDecoder, z: Tensor, count: int) -> Tensor:
    """The `count` likeliest lengths in tokens of latents [N, latent_dim], likeliest first: [N, count]."""
    count = min(count, model.config.max_tokens)
    return model.length_logits(z).topk(count, dim=-1).indices.cpu() + 1


def draft_requests(
    model: SemanticDecoder,
    z: Tensor,
    allowed: Sequence[LengthRange] | None,
    count: int,
    num_samples: int,
    seed: int,
    temperature: float,
) -> list[DecodeRequest]:
    """`count` sentences of each latent [N, latent_dim] and seed, of the likeliest lengths among those allowed.

    One sentence that is drawn at a temperature has a length that is drawn at it too: samples of one length hardly
    differ where the decoder is sure of its tokens.
    """
    if count == 1 and temperature > 0:
        logits = _length_logits(model, z, allowed) / temperature
        return [
            DecodeRequest(row, _drawn_length(of_row, seed + k, key), seed + k)
            for row, (of_row, key) in enumerate(zip(logits, noise_keys(z), strict=True))
            for k in range(num_samples)
        ]
    count_of_lengths = min(count, DISTINCT_LENGTHS)
    if allowed is None:
        per_row = likely_lengths(model, z, count_of_lengths).tolist()
    else:
        likely = likely_lengths(model, z, model.config.max_tokens).tolist()
        per_row = [
            [length for length in row if length in lengths][:count_of_lengths]
            for row, lengths in zip(likely, allowed, strict=True)
        ]
    return [
        DecodeRequest(row, row_lengths[number % len(row_lengths)], seed + k, number // len(row_lengths))
        for row, row_lengths in enumerate(per_row)
        for k in range(num_samples)
        for number in range(count)
    ]


def _length_logits(model: SemanticDecoder, z: Tensor, allowed: Sequence[LengthRange] | None) -> Tensor:
    """Logits [N, max_tokens] of the lengths 1 … max_tokens in float64, on the CPU; −inf where one is not allowed."""
    logits = model.length_logits(z).cpu().double()
    if allowed is not None:
        outside = [[n not in lengths for n in range(1, logits.shape[1] + 1)] for lengths in allowed]
        logits = logits.masked_fill(torch.tensor(outside), -torch.inf)
    return logits


def _drawn_length(logits: Tensor, seed: int, key: Sequence[int]) -> int:
    generator = stream_generator(seed, LENGTH_STREAM, key)
    return 1 + int(torch.multinomial(logits.softmax(-1), 1, generator=generator))


def write_drafts(
    decoder: Decoder,
    z: Tensor,
    requests: Sequence[DecodeRequest],
    on_step: StepListener,
    traces: Traces | None,
) -> list[list[int]]:
    """Token ids of each request; where a length repeats, tokens are drawn. Traces are added where they are kept."""
    ids: dict[int, list[int]] = {}
    for repeats, of_length in ((False, decoder), (True, decoder.resampling())):
        indices = [i for i, request in enumerate(requests) if (request.stream > 0) == repeats]
        asked, found = [requests[i] for i in indices], dict[int, TokenTrace]()
        written = of_length.decode(
            z,
            asked,
            on_step(of_length.sampling.steps, [request.row for request in asked]),
            None if traces is None else found.__setitem__,
        )
        ids.update(zip(indices, written, strict=True))
        if traces is not None:
            for number, trace in found.items():
                traces.setdefault((asked[number].row, asked[number].seed, tuple(written[number])), trace)
    return [ids[i] for i in range(len(requests))]


def canvas_listener(tokenizer: TextTokenizer, on_event: Listener) -> StepListener:
    """What reports the canvases of each denoising step to the listener; nothing where nobody listens."""

    def on_step(num_steps: int, rows: Sequence[int] = ()) -> OnStep | None:
        if on_event is ignore:
            return None

        def report(
            step: int,
            indices: Sequence[int],
            canvases: Sequence[list[int]],
            traces: Sequence[TokenTrace] | None,
        ) -> None:
            texts = tuple(tokenizer.show_canvas(tokens) for tokens in canvases)
            tokens = (
                ()
                if traces is None
                else tuple(
                    _sure_tokens(tokenizer, canvas, trace)
                    for canvas, trace in zip(canvases, traces, strict=True)
                )
            )
            of_rows = tuple(rows[i] for i in indices) if rows else ()
            on_event(CanvasChanged(step, num_steps, texts, of_rows, tokens))

        return report

    return on_step


def _sure_tokens(
    tokenizer: TextTokenizer, canvas: Sequence[int], trace: TokenTrace
) -> tuple[tuple[str, float], ...]:
    """Each position's piece and its probability when it was written; an empty piece where it is masked."""
    return tuple(
        ("", 0.0) if token == tokenizer.mask_id else (tokenizer.piece(token), probability)
        for token, probability in zip(canvas, trace.log_prob.exp().tolist(), strict=True)
    )
