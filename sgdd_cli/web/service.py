"""What the HTTP API does, without HTTP: checks a body, has its rows computed, and makes the answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from anyio import to_thread
from torch import Tensor

from sgdd_cli.certainty import FAIR, SURE
from sgdd_cli.decoding_options import Writing
from sgdd_cli.models import checkpoint_name
from sgdd_cli.web.batching import Batcher, Encode, Fill, OnRow, RowEvent, Write
from sgdd_cli.web.bodies import (
    Alternative,
    BlendBody,
    Defaults,
    EncodeBody,
    EncodedAnswer,
    FillBody,
    GenerateBody,
    InterpolateBody,
    ModelAnswer,
    Options,
    RefinedOptions,
    Token,
    Written,
    WrittenAnswer,
)
from sgdd_cli.web.uploaded_file import messages_of, read_file
from sgdd_engine import __version__
from sgdd_engine.errors import GenerationError
from sgdd_engine.events import Event
from sgdd_engine.generation import (
    FilledText,
    Generation,
    WrittenToken,
    blend_vectors,
    check_blanks,
    interpolate_vectors,
    interpolation_shares,
    validate_lengths,
    validate_search,
    validate_shortlist,
    validate_texts,
    validate_weights,
)
from sgdd_engine.generation.config import LengthRange

# No token of any vocabulary here is longer on average, not even in a language of long words; longer texts are refused
# before they are cut into tokens, which takes time.
_CHARACTERS_PER_TOKEN = 16


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        body_bytes: Of a request's body; 256 vectors of 1,024 numbers are 3 to 5 MB of JSON.
        texts: Texts or vectors of a request.
        tokens: Of one text, in the model's vocabulary.
        seconds: That a request may take.
        waiting: Requests that may wait for their turn.
        send_seconds: That a client may leave an event of a stream unread.
    """

    body_bytes: int = 8 << 20
    texts: int = 256
    tokens: int = 512
    seconds: float = 60.0
    waiting: int = 64
    send_seconds: float = 20.0


class Service:
    """One model with its worker.

    Args:
        writing: The model, and how it writes where a request says nothing.
        limits: What one request may ask for.
    """

    def __init__(self, writing: Writing, limits: Limits) -> None:
        self.limits = limits
        self._writing = writing
        self._model, self._info = writing.model, writing.model.info
        self._batcher = Batcher(writing.model, max_waiting=limits.waiting)

    def close(self) -> None:
        """End the worker."""
        self._batcher.close()

    def model(self) -> ModelAnswer:
        """What is loaded."""
        config, sampling = self._writing.config, self._writing.sampling
        return ModelAnswer(
            checkpoint=checkpoint_name(self._writing.folder),
            encoder=self._info.encoder.name,
            dim=self._info.model.embedding_dim,
            max_tokens=self._info.model.max_tokens,
            guidance=self._info.trained_null,
            defaults=Defaults(
                cfg=sampling.cfg,
                steps=sampling.steps,
                temperature=sampling.temperature,
                candidates=config.candidates,
                refine=config.refine,
                search=config.search or 0,
                seed=config.seed,
            ),
            sure=SURE,
            fair=FAIR,
            limits={
                "body_bytes": self.limits.body_bytes,
                "texts": self.limits.texts,
                "tokens": self.limits.tokens,
                "seconds": self.limits.seconds,
            },
            version=__version__,
        )

    async def encode(self, body: EncodeBody) -> EncodedAnswer:
        """Vectors of texts."""
        texts, notes = await self._texts(body.texts)
        vectors = await self._batcher.compute(Encode(), texts)
        return EncodedAnswer(
            vectors=[vector.tolist() for vector in vectors],
            dim=self._info.model.embedding_dim,
            encoder=self._info.encoder.name,
            notes=notes,
        )

    async def generate(self, body: GenerateBody, on_row: OnRow | None) -> WrittenAnswer:
        """Texts or vectors, written again."""
        if body.texts is not None and body.vectors is None:
            texts, notes = await self._texts(body.texts)
            return WrittenAnswer(results=await self._write(texts, body, on_row), notes=notes)
        vectors, notes = await self._vectors(body.texts, body.vectors)
        return WrittenAnswer(results=await self._write(vectors, body, on_row), notes=notes)

    async def blend(self, body: BlendBody, on_row: OnRow | None) -> WrittenAnswer:
        """A weighted sum, and how close the text is to each part."""
        parts, notes = await self._vectors(body.texts, body.vectors)
        blended = blend_vectors(parts, validate_weights(body.weights, len(parts)))
        results = await self._write(blended[None], body, on_row)
        return WrittenAnswer(results=await self._with_cosines(results, parts), notes=notes)

    async def interpolate(self, body: InterpolateBody, on_row: OnRow | None) -> WrittenAnswer:
        """Points between two ends, and how close the texts are to both."""
        ends, notes = await self._vectors(body.texts, body.vectors)
        if len(ends) != 2:
            raise GenerationError(f"Two texts or vectors are needed, and {len(ends)} were given.")
        points, shares = interpolate_vectors(ends[0], ends[1], body.points), interpolation_shares(body.points)
        results = await self._write(points, body, on_row)
        results = [item.model_copy(update={"share": shares[item.row]}) for item in results]
        return WrittenAnswer(results=await self._with_cosines(results, ends), notes=notes)

    async def fill(self, body: FillBody, on_row: OnRow | None) -> WrittenAnswer:
        """Texts whose blanks are filled."""
        texts, _ = await self._texts(body.texts)
        meant = body.meanings is not None or body.vectors is not None
        notes: list[str] = []
        meanings: Sequence[Tensor | None] = [None] * len(texts)
        if meant:
            vectors, notes = await self._vectors(body.meanings, body.vectors)
            if len(vectors) not in (1, len(texts)):
                raise GenerationError(
                    f"{len(vectors)} meanings were given for {len(texts)} texts.",
                    "Give one for all, or one for each.",
                )
            meanings = list(vectors.expand(len(texts), -1))
        config = self._writing.config
        candidates = body.candidates or (config.candidates if meant else 1)
        if not meant and candidates > 1:
            raise GenerationError(
                "Candidates compare with a meaning, and none was given.", "Give one in `meanings`."
            )
        (allowed,) = validate_lengths(self._lengths(body), 1, 1, self._info)
        for text in texts:
            check_blanks(text, self._model.tokenizer, allowed, self._info.model.max_tokens)
        work = Fill(
            replace(self._sampling(body), **({} if meant else {"cfg": 1.0})),
            meant,
            candidates,
            self._num_samples(body),
            config.seed if body.seed is None else body.seed,
            body.explain,
        )
        lengths = f"{allowed.shortest}-{allowed.longest}"
        rows = [(text, meaning, lengths) for text, meaning in zip(texts, meanings, strict=True)]
        found = await self._batcher.compute(work, rows, on_row)
        results = [_filled(row, item) for row, items in enumerate(found) for item in items]
        return WrittenAnswer(results=results, notes=notes)

    async def read(
        self, name: str, content: bytes, options: RefinedOptions, on_row: OnRow | None
    ) -> WrittenAnswer:
        """The vectors or the lines of text of a file, written again.

        Raises:
            SgddError: the file is of no kind that is read here, damaged, too long, or holds other vectors.
        """
        found = await to_thread.run_sync(read_file, self._model, name, content, self._check_count)
        sources, notes = found.sources, found.notes
        if isinstance(sources, list):
            sources, notes = await self._texts(sources)

        def of_file(row: int, event: RowEvent) -> None:
            assert on_row is not None
            on_row(found.numbers[row], event)

        results = await self._write(sources, options, None if on_row is None else of_file)
        return WrittenAnswer(
            results=[
                item.model_copy(update={"row": found.numbers[item.row], "id": found.ids[item.row]})
                for item in results
            ],
            notes=notes,
        )

    # --- what is asked ----------------------------------------------------------------------------------

    def _check_count(self, count: int) -> None:
        if count > self.limits.texts:
            raise GenerationError(
                f"{count:,} texts or vectors were given; a request may hold {self.limits.texts:,}.",
                "Send them in several requests.",
            )
        if not count:
            raise GenerationError("No text and no vector was given.", "Give at least one.")

    async def _texts(self, texts: Sequence[str]) -> tuple[list[str], list[str]]:
        """Cleaned texts, and notes about them.

        Raises:
            GenerationError: too many, too long, or one holds nothing.
        """
        self._check_count(len(texts))
        limit, longest = self.limits.tokens, max(map(len, texts))
        if longest > limit * _CHARACTERS_PER_TOKEN:
            raise GenerationError(f"A text has {longest:,} characters; at most {limit:,} tokens are read.")
        cleaned = validate_texts(texts)
        tokens = await to_thread.run_sync(self._model.tokenizer.encode_batch, cleaned)
        lengths = list(map(len, tokens))
        if max(lengths) > limit:
            raise GenerationError(
                f"A text has {max(lengths):,} tokens; at most {limit:,} are read.",
                "Give one sentence per text.",
            )
        most = self._info.model.max_tokens
        beyond = [length for length in lengths if length > most]
        if not beyond:
            return cleaned, []
        which = "The text has" if len(texts) == 1 else f"{len(beyond)} of the texts have up to"
        return cleaned, [
            f"{which} {max(beyond)} tokens, and this model writes at most {most}: what it writes is shorter."
        ]

    async def _vectors(
        self, texts: Sequence[str] | None, vectors: Sequence[Sequence[float]] | None
    ) -> tuple[Tensor, list[str]]:
        """Vectors [N, D] of texts or as given, and notes.

        Raises:
            GenerationError: not exactly one of the two, or it does not fit.
        """
        if (texts is None) == (vectors is None):
            raise GenerationError("Give either texts or vectors, and not both.")
        if vectors is not None:
            self._check_count(len(vectors))
            events: list[Event] = []
            e = self._model.check_vectors(vectors, events.append)
            if not e.any(dim=1).all():
                raise GenerationError("A vector of zeros has no meaning.", "Give the vector of a text.")
            return e, messages_of(events)
        cleaned, notes = await self._texts(texts or ())
        return torch.stack(await self._batcher.compute(Encode(), cleaned)), notes

    def _sampling(self, options: Options) -> Any:  # noqa: ANN401 - SamplingConfig
        given = {name: getattr(options, name) for name in ("cfg", "steps", "temperature")}
        config = replace(self._writing.config, num_samples=self._num_samples(options))
        writing = replace(self._writing, config=config)
        sampling = writing.with_sampling(**{k: v for k, v in given.items() if v is not None}).sampling
        if sampling.cfg != 1 and not self._info.trained_null:
            raise GenerationError(
                "This model was trained without a null condition; it has no guidance.", "cfg: 1"
            )
        return sampling

    def _num_samples(self, options: Options) -> int:
        return options.num_samples or self._writing.config.num_samples

    def _lengths(self, options: Options) -> int | str:
        given = self._writing.config.length if options.length is None else options.length
        return f"1-{self._info.model.max_tokens}" if given is None else given

    async def _write(
        self, sources: Iterable[Tensor | str], options: RefinedOptions, on_row: OnRow | None
    ) -> list[Written]:
        config = self._writing.config
        lengths = self._lengths(options)
        exact = (found := LengthRange.parse(str(lengths))) is not None and found.exact
        default = 1 if exact and self._info.model.max_tokens > 1 else config.candidates
        candidates = options.candidates or default
        refine = (0 if options.search else config.refine) if options.refine is None else options.refine
        search = (0 if refine else config.search or 0) if options.search is None else options.search
        shortlist = None if search else config.shortlist
        validate_search(search, candidates, refine, shortlist, unconditional=False)
        (allowed,) = validate_lengths(lengths, 1, candidates, self._info)
        work = Write(
            self._sampling(options),
            candidates,
            refine,
            1 if search else validate_shortlist(shortlist, self._info, candidates > 1 or refine > 0),
            search,
            self._num_samples(options),
            config.seed if options.seed is None else options.seed,
            options.explain,
            config.gradient,
        )
        span = f"{allowed.shortest}-{allowed.longest}"
        found_texts = await self._batcher.compute(work, [(source, span) for source in sources], on_row)
        return [_written(row, item) for row, items in enumerate(found_texts) for item in items]

    async def _with_cosines(self, results: list[Written], parts: Tensor) -> list[Written]:
        vectors = torch.stack(await self._batcher.compute(Encode(), [item.text or "." for item in results]))
        cosines = torch.cosine_similarity(vectors[:, None], parts[None], dim=-1).tolist()
        return [
            item.model_copy(update={"cosines": to_parts})
            for item, to_parts in zip(results, cosines, strict=True)
        ]


def _tokens(details: Iterable[WrittenToken]) -> list[Token] | None:
    """The answer's form of what is known of each token; None where nothing was asked."""
    tokens = [
        Token(piece=token.piece, probability=token.probability, entropy=token.entropy, step=token.step)
        for token in details
    ]
    return tokens or None


def _written(row: int, item: Generation) -> Written:
    return Written(
        row=row,
        text=item.text,
        cosine=item.cosine,
        seed=item.seed,
        encoder_calls=item.encoder_calls,
        alternatives=[Alternative(text=text, cosine=cosine) for text, cosine in item.alternatives],
        tokens=_tokens(item.details),
    )


def _filled(row: int, item: FilledText) -> Written:
    return Written(
        row=row,
        text=item.text,
        cosine=item.cosine,
        seed=item.seed,
        encoder_calls=item.encoder_calls,
        blanks=list(item.blanks),
        tokens=_tokens(item.details),
    )
