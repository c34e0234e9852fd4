"""Filling the blanks of a text under a meaning, or under none: what is given stays, and lengths may be left open.

The decoder is trained to write any masked positions from the others, so a text with blanks is a canvas that is partly
full. Where the length of a blank is open, several lengths are written and the likeliest text is kept.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest

import torch
from torch import Tensor

from sgdd_engine.data.cleaning import clean
from sgdd_engine.diffusion.sampler import TokenTrace
from sgdd_engine.errors import GenerationError
from sgdd_engine.generation.config import LengthRange
from sgdd_engine.generation.decode import Canvas, Check, Decoder, noise_keys, stream_generator, unchecked
from sgdd_engine.generation.first_drafts import StepListener
from sgdd_engine.generation.refinement import encode_written
from sgdd_engine.generation.written import WrittenToken, traced_tokens
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.text.words import touches_word

_BLANK = re.compile(r"\[MASK(.*?)\]")
# Lengths of the open blanks of one text that are written and compared, the likeliest by the length head.
LENGTHS_TRIED = 12


@dataclass(frozen=True, slots=True)
class Template:
    """A text with blanks.

    Attributes:
        pieces: The text before, between and behind the blanks, with its spaces: one more than there are blanks.
        blanks: How many tokens each blank may hold; None where that is open.
    """

    pieces: tuple[str, ...]
    blanks: tuple[LengthRange | None, ...]

    def text(self, written: Sequence[str]) -> str:
        """The text with something written in each blank; what was given is not touched."""
        return "".join(chain.from_iterable(zip_longest(self.pieces, written, fillvalue="")))


@dataclass(frozen=True, slots=True)
class FilledText:
    """A text whose blanks were filled.

    Attributes:
        text: The whole text; what was given is in it as it was cleaned.
        blanks: What was written in each blank.
        tokens: Token ids of the canvas.
        row: Index of the text with blanks.
        seed: The seed that wrote it.
        score: Log-probability of what was written and of the length, in nats, where there were several texts to choose
            from; see `fill_blanks`.
        cosine: Cosine of its vector with that of the meaning; None where it was not encoded.
        encoder_calls: Texts that were encoded to choose it. Encoding the meaning is not counted.
        details: How sure each token was, where that was asked for; what was given has the step 0.
    """

    text: str
    blanks: tuple[str, ...]
    tokens: tuple[int, ...] = field(repr=False)
    row: int
    seed: int
    score: float | None = None
    cosine: float | None = None
    encoder_calls: int = 0
    details: tuple[WrittenToken, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class FillRequest:
    """One text to fill.

    Attributes:
        row: Index of its latent.
        template: The text with its blanks.
        seed: Of its random numbers.
        lengths: The lengths in tokens that the whole text may have.
    """

    row: int
    template: Template
    seed: int
    lengths: LengthRange


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A text laid out with blanks of some lengths.

    Attributes:
        number: Index of its request.
        request: The text.
        tokens: With masks in the blanks.
        blanks: Where these are.
        stream: Of the random numbers; above 0 the same lengths are written again, and tokens are drawn.
    """

    number: int
    request: FillRequest
    tokens: list[int]
    blanks: list[slice]
    stream: int


def parse_blanks(text: str) -> Template:
    """A text in which `[MASK]` stands for a blank, `[MASK:3]` for one of 3 tokens, `[MASK:2-4]` for one of 2 to 4.

    The text is cleaned as texts are before they are encoded: Unicode form NFC, single spaces, nothing invisible.

    A blank inside a word is refused. How a word is cut into pieces depends on the whole word, so the given part of an
    unfinished word would be other tokens than it is in the finished one, which is all that the decoder has learnt.

    Raises:
        GenerationError: there is no blank, or one that cannot be read, stands inside a word or touches another.
    """
    parts = _BLANK.split(clean(text))
    template = Template(tuple(parts[::2]), tuple(map(_length_of_blank, parts[1::2])))
    if not template.blanks:
        raise GenerationError(
            f"There is no blank in {_shortened(text)}.",
            "Write one as [MASK], or as [MASK:3] for three tokens.",
        )
    for before, after in zip(template.pieces, template.pieces[1:], strict=False):
        if touches_word(before, after):
            around = f"{before.rpartition(' ')[2]}[MASK]{after.partition(' ')[0]}"
            raise GenerationError(
                f"A blank stands inside a word: `{around}`; the model writes whole words.",
                "Put a space between the blank and the word, or make the whole word the blank.",
            )
    if "" in template.pieces[1:-1]:
        raise GenerationError(
            f"Two blanks stand side by side in {_shortened(text)}.",
            "Put a space between them, or make them one: [MASK:2-4].",
        )
    return template


def check_blanks(text: str, tokenizer: TextTokenizer, lengths: LengthRange, max_tokens: int) -> None:
    """Check a text with blanks by itself.

    Raises:
        GenerationError: as by `parse_blanks`, or it cannot have any of these lengths in tokens.
    """
    template = parse_blanks(text)
    _check_room(template, sum(map(len, _piece_ids(tokenizer, template))), lengths, max_tokens)


def _length_of_blank(written: str) -> LengthRange | None:
    """The length of the blank `[MASK…]`, of which `written` is what stands behind the word."""
    if not written:
        return None
    found = LengthRange.parse(written[1:]) if written.startswith(":") else None
    if found is None:
        raise GenerationError(
            f"`[MASK{written}]` is not a blank.", "Write [MASK], [MASK:3] for three tokens, or [MASK:2-4]."
        )
    return found


def fill_blanks(
    decoder: Decoder,
    tokenizer: TextTokenizer,
    z: Tensor,
    requests: Sequence[FillRequest],
    candidates: int = 1,
    listen: StepListener | None = None,
    *,
    explain: bool = False,
) -> list[list[FilledText]]:
    """Write the blanks of each text; of several lengths and draws the likeliest texts.

    The score of a text x of n tokens is `Σᵢ log p(xᵢ | the others, z) + log p(n | z)` over the positions i in its
    blanks, estimated with every third token masked (`Decoder.token_log_probs`). It is not divided by the number of
    tokens: on 40 sentences of novels with one open blank (22 of them of one token), `mini` without a meaning then wrote
    blanks that were 1.2 tokens too long on average and right in 10; by the sum 0.8 too short and right in 21. With the
    right meaning: 0.0 and 17, −0.5 and 21.

    Args:
        decoder: The model and its way of sampling.
        tokenizer: Of the model.
        z: Latents [N, latent_dim] of the meanings, or of none.
        requests: The texts.
        candidates: How many texts for each; where there are not so many lengths to try, tokens are drawn.
        listen: Makes what is called after each denoising step, from the number of steps and the row of each canvas.
        explain: Keep how sure each token was.

    Returns:
        For each request up to `candidates` different texts, the likeliest first.

    Raises:
        GenerationError: a text has more tokens than the model writes, or than its `lengths` allow.
    """
    log_p_length = decoder.model.length_logits(z).log_softmax(dim=-1).cpu()
    attempts = [
        attempt
        for number, request in enumerate(requests)
        for attempt in _lay_out(decoder, tokenizer, number, request, log_p_length[request.row], candidates)
    ]
    traces: dict[int, TokenTrace] | None = {} if explain else None
    ids = _write(decoder, tokenizer, z, attempts, listen, traces)
    counts = Counter(attempt.number for attempt in attempts)
    compared = [i for i, attempt in enumerate(attempts) if counts[attempt.number] > 1]
    log_probs = decoder.token_log_probs(
        z, [attempts[i].request.row for i in compared], [ids[i] for i in compared]
    )
    scores: dict[int, float] = {}
    for i, of_tokens in zip(compared, log_probs, strict=True):
        of_blanks = sum(float(of_tokens[blank].sum()) for blank in attempts[i].blanks)
        scores[i] = of_blanks + float(log_p_length[attempts[i].request.row, len(ids[i]) - 1])
    found: list[dict[str, FilledText]] = [{} for _ in requests]
    for i in sorted(range(len(attempts)), key=lambda i: -scores.get(i, 0.0)):
        filled = _filled_text(decoder, tokenizer, attempts[i], ids[i], scores.get(i))
        if traces is not None:
            filled = replace(filled, details=traced_tokens(tokenizer, filled.tokens, traces[i]))
        found[attempts[i].number].setdefault(filled.text, filled)
    return [list(texts.values())[:candidates] for texts in found]


def closest(
    encoder: SentenceEncoder, e: Tensor, ranked: Sequence[Sequence[FilledText]], check: Check = unchecked
) -> list[FilledText]:
    """Of each list the text whose vector is closest to its meaning's, the first among equals.

    Args:
        encoder: The frozen encoder; one call for each text.
        e: Vectors of the meanings [N, D].
        ranked: What `fill_blanks` gave.
        check: Called after each batch of the encoder.
    """
    items = list(chain.from_iterable(ranked))
    vectors = encode_written(encoder, [item.text for item in items], check)
    cosines = iter(torch.cosine_similarity(vectors, e[[item.row for item in items]], dim=-1).tolist())
    scored = [
        [replace(item, cosine=next(cosines), encoder_calls=len(texts)) for item in texts] for texts in ranked
    ]
    return [max(texts, key=lambda item: item.cosine or 0.0) for texts in scored]


def _piece_ids(tokenizer: TextTokenizer, template: Template) -> list[list[int]]:
    """Token ids of each piece of a text, as they are where it stands."""
    first, *others = template.pieces
    return [
        tokenizer.encode_batch([first.strip()])[0],
        *(tokenizer.encode_behind(piece.rstrip()) for piece in others),
    ]


def _lay_out(
    decoder: Decoder,
    tokenizer: TextTokenizer,
    number: int,
    request: FillRequest,
    log_p_length: Tensor,
    candidates: int,
) -> Iterator[_Attempt]:
    """The text with blanks of the likeliest lengths, at least as often as there are candidates."""
    given = _piece_ids(tokenizer, request.template)
    lengths = _lengths_to_try(request, sum(map(len, given)), log_p_length)
    for draw in range(max(len(lengths), candidates)):
        tokens, blanks = list(given[0]), []
        for length, piece in zip(lengths[draw % len(lengths)], given[1:], strict=True):
            blanks.append(slice(len(tokens), len(tokens) + length))
            tokens += [*[decoder.mask_id] * length, *piece]
        yield _Attempt(number, request, tokens, blanks, draw // len(lengths))


def _write(
    decoder: Decoder,
    tokenizer: TextTokenizer,
    z: Tensor,
    attempts: Sequence[_Attempt],
    listen: StepListener | None,
    traces: dict[int, TokenTrace] | None,
) -> list[list[int]]:
    """Token ids of each text with its blanks written; its trace goes to `traces`, where that is given."""
    ids: dict[int, list[int]] = {}
    keys = noise_keys(z)
    for draws, of_kind in ((False, decoder), (True, decoder.resampling())):
        indices = [i for i, attempt in enumerate(attempts) if (attempt.stream > 0) == draws]
        canvases = [
            Canvas(
                attempt.request.row,
                attempt.tokens,
                stream_generator(
                    attempt.request.seed, attempt.stream, (*keys[attempt.request.row], *attempt.tokens)
                ),
                forbidden=_wrong_starts(tokenizer, attempt),
            )
            for attempt in (attempts[i] for i in indices)
        ]
        on_step = None if listen is None else listen(decoder.sampling.steps, [one.row for one in canvases])
        kept: dict[int, TokenTrace] = {}
        written = of_kind.fill(z, canvases, on_step, None if traces is None else kept.__setitem__)
        ids.update(zip(indices, written, strict=True))
        if traces is not None:
            traces.update({indices[number]: trace for number, trace in kept.items()})
    return [ids[i] for i in range(len(attempts))]


def _filled_text(
    decoder: Decoder, tokenizer: TextTokenizer, attempt: _Attempt, ids: Sequence[int], score: float | None
) -> FilledText:
    assert all(old in (decoder.mask_id, new) for old, new in zip(attempt.tokens, ids, strict=True))
    blanks = tuple(tokenizer.decode_batch([ids[blank] for blank in attempt.blanks]))
    request = attempt.request
    return FilledText(request.template.text(blanks), blanks, tuple(ids), request.row, request.seed, score)


def _lengths_to_try(request: FillRequest, given: int, log_p_length: Tensor) -> list[tuple[int, ...]]:
    """Lengths of the blanks of a text, the likeliest first by `log p(n | z)`.

    Where several lengths of the blanks make one length n of the text, each is as likely as the others.

    Args:
        request: The text.
        given: Tokens outside of its blanks.
        log_p_length: log p(n | z) for n = 1 … max_tokens.
    """
    ranges = _check_room(request.template, given, request.lengths, len(log_p_length))
    least, longest = given + sum(blank.shortest for blank in ranges), request.lengths.longest
    of_total = [tuple(blank.shortest for blank in ranges)]
    ways: list[tuple[float, tuple[int, ...]]] = []
    for total in range(least, longest + 1):
        if not of_total:
            break
        if total >= request.lengths.shortest:
            prior = float(log_p_length[total - 1]) - math.log(len(of_total))
            ways += [(prior, lengths) for lengths in of_total]
        longer = {
            (*lengths[:i], lengths[i] + 1, *lengths[i + 1 :])
            for lengths in of_total
            for i, blank in enumerate(ranges)
            if lengths[i] < blank.longest
        }
        # Many blanks have very many lengths; those that are most alike are gone on with.
        of_total = sorted(longer, key=lambda lengths: (sum(n * n for n in lengths), lengths))[:LENGTHS_TRIED]
    ways.sort(key=lambda way: -way[0])
    return [lengths for _, lengths in ways[:LENGTHS_TRIED]]


def _check_room(template: Template, given: int, lengths: LengthRange, max_tokens: int) -> list[LengthRange]:
    """How many tokens each blank may hold, where the text has so many outside of them.

    Raises:
        GenerationError: no length of the whole text is possible.
    """
    ranges = [blank or LengthRange(1, lengths.longest) for blank in template.blanks]
    least, most = (given + sum(blank[end] for blank in ranges) for end in (0, 1))
    if least > lengths.longest or most < lengths.shortest:
        limit = (
            f"this model writes at most {max_tokens}"
            if least > max_tokens
            else f"{lengths.shortest} to {lengths.longest} are allowed (--length)"
        )
        raise GenerationError(
            f"{_shortened(template.text(['[MASK]'] * len(ranges)))} has {given} tokens besides its blanks, "
            f"and with them at {f'least {least}' if least > lengths.longest else f'most {most}'}; {limit}.",
            "Give a shorter text, or blanks of other lengths.",
        )
    return ranges


def _wrong_starts(tokenizer: TextTokenizer, attempt: _Attempt) -> dict[int, Tensor]:
    """Ids that cannot stand first in each blank, by its first position.

    A piece of the vocabulary often begins with its space. The space before a blank is given, or that there is none.
    """
    return {
        blank.start: torch.tensor(tokenizer.wrong_starts(piece[-1:] if piece else None))
        for piece, blank in zip(attempt.request.template.pieces, attempt.blanks, strict=False)
    }


def _shortened(text: str) -> str:
    return f"`{text}`" if len(text) <= 60 else f"`{text[:57]}...`"
