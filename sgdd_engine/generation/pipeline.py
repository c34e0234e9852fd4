"""`SGDD`: a trained model and some text or vectors in, text out; the one door for Python and the command line."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sgdd_engine.counted import counted
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import GenerationError
from sgdd_engine.events import Listener, ignore
from sgdd_engine.generation import correct, remask  # noqa: F401 - they register their kinds of proposals
from sgdd_engine.generation.arguments import (
    LengthsLike,
    TextsLike,
    VectorsLike,
    check_latents,
    complete_sampling,
    texts_or_vectors,
    validate_count,
    validate_lengths,
    validate_names,
    validate_sampling,
    validate_search,
    validate_seed,
    validate_shortlist,
    validate_strength,
    validate_texts,
    validate_weights,
)
from sgdd_engine.generation.decode import Check, Decoder, unchecked
from sgdd_engine.generation.distinct import DRAWS, distinct_samples
from sgdd_engine.generation.fill import FilledText, FillRequest, closest, fill_blanks, parse_blanks
from sgdd_engine.generation.first_drafts import (
    DISTINCT_LENGTHS,
    canvas_listener,
    likely_lengths,
)
from sgdd_engine.generation.pretrained import PretrainedModel
from sgdd_engine.generation.refinement import (
    PROPOSERS,
    usable_proposers,
)
from sgdd_engine.generation.semantics import (
    DEFAULT_POINTS,
    DEFAULT_VARIATIONS,
    blend_vectors,
    default_strength,
    interpolate_vectors,
    vary,
)
from sgdd_engine.generation.vector_words import Word, WordFinder
from sgdd_engine.generation.writing import GenerationRequest, write_texts
from sgdd_engine.generation.written import Generation


class SGDD(PretrainedModel):
    """A trained decoder with its tokenizer and, on first use, its frozen encoder.

    Example:
        >>> model = SGDD.from_pretrained("runs/my-run")
        >>> model.reconstruct(["The dog ran home."])[0].text
    """

    def reconstruct(self, texts: TextsLike, **options: Any) -> list[Generation]:  # noqa: ANN401 - passed on to generate
        """Encode texts and write them again from their vectors alone; scored by re-encoding.

        Args:
            texts: N sentences, or one.
            **options: As for `generate`.

        Returns:
            `num_samples` generations per text, in order.
        """
        sentences = validate_texts(texts)
        if not sentences:
            return []
        vectors = self.encode(sentences, options.get("check", unchecked))
        return self.generate(vectors, **{"score": True, **options})

    @torch.inference_mode()
    def generate(
        self,
        vectors: VectorsLike,
        *,
        sampling: SamplingConfig | None = None,
        lengths: LengthsLike | None = None,
        candidates: int = 1,
        refine: int = 0,
        shortlist: int | None = None,
        proposals: Sequence[str] | None = None,
        search: int = 0,
        gradient: bool = True,
        stops: Sequence[int] = (),
        num_samples: int = 1,
        seed: int = 0,
        score: bool = False,
        unconditional: bool = False,
        explain: bool = False,
        confidence: bool = False,
        latents: Tensor | None = None,
        distinct: bool = True,
        on_event: Listener = ignore,
        check: Check = unchecked,
    ) -> list[Generation]:
        """Write sentences from vectors, starting from an all-mask canvas.

        Args:
            vectors: [N, D] made by the model's own encoder, or one [D]; a tensor, an array or nested sequences. Where
                the encoder makes vectors of length 1, others are scaled to it.
            sampling: Steps, guidance, position rule, temperature; by default as the checkpoint recommends.
            lengths: Tokens to write, a number or a range such as "6-9" of which the length head chooses, once or for
                each vector; by default it chooses among all lengths. At a temperature the length of one sentence is
                drawn, and the likeliest is taken otherwise.
            candidates: Sentences that are written and encoded for each vector; the one whose vector is closest to the
                given one is kept. They have the likeliest lengths, then lengths repeat with tokens that are drawn.
                Costs one encoder call each.
            refine: Rounds in which another sentence is proposed and kept if its cosine is higher: the least likely
                tokens written anew, or the whole sentence where the decoder was trained to correct drafts. Costs one
                encoder call each.
            shortlist: For each candidate and each round so many sentences are written, and the encoder reads those
                that are best by the cosine that the model's surrogate of it predicts, and by how likely they are
                (`refinement.score_of`), always with the one of the likeliest length where candidates are more than
                one; what is not read stays on the list. 1 for no such choice. Costs no
                encoder call, and so many times the writing. By default 4 where the encoder reads more than one
                sentence and the model has a surrogate.
            proposals: Kinds of proposals of refining, by their names in `PROPOSERS`; by default all that the model can
                make. Without a shortlist the first kind alone is used.
            search: Encoder calls for each vector and sample, spent on a search (see `search.search`) from one or more
                drafts (`default_drafts`, unless `candidates` says how many); 0 for none. Not together with `refine` and
                `shortlist`.
            gradient: Whether a search uses the encoder's gradient; the gradient of a text counts as one call.
            stops: Numbers of encoder calls below that of the search, rising, for each of which `Generation.earlier`
                has what the same search had found by then.
            num_samples: Sentences per vector, different where so many are found: drawn at temperature 0.7 where no
                sampling is given; sample k uses seed `seed + k`, and one that repeats another is replaced by that of a
                further seed, up to four times as many seeds.
            seed: A sentence depends on its vector, the settings and its seed, not on its batch.
            score: Re-encode what was written and report the cosine.
            unconditional: Ignore the vectors and write under the null condition (a control).
            explain: Say how sure each token was (`Generation.details`).
            confidence: Say how likely each sentence is close to the source of its vector (`Generation.confidence`),
                where the checkpoint records it; not for the null condition and `latents`, which have no source.
            latents: [N, latent_dim] to write from in the place of those of the vectors; cosines stay those with the
                vectors, and refining goes towards them.
            distinct: Replace samples that repeat another; without it they are independent draws.
            on_event: Told of each denoising step (`CanvasChanged`), of the rounds (`StageProgress`), and where vectors
                were scaled (`Notice`).
            check: Called after each denoising step, those of changes that a search tries too, and after each batch of
                the encoder; what it raises ends the call.

        Returns:
            N · num_samples generations, all samples of the first vector first.

        Raises:
            GenerationError: vectors of another size, not finite or too large, lengths out of range, one length given
                together with candidates, a seed out of range, guidance without a trained null condition, refining or
                searching without a condition.
            ConfigError: no such kind of proposal.
        """
        e = self.check_vectors(vectors, on_event)
        candidates = validate_count(candidates, "candidates", 1)
        num_samples = validate_count(num_samples, "num_samples", 1)
        sampling = sampling or complete_sampling({}, self.info, num_samples=num_samples)
        sampling = validate_sampling(sampling, unconditional, self.info)
        refine = validate_count(refine, "refine", 0)
        distinct = distinct and num_samples > 1 and sampling.stochastic
        seed = validate_seed(seed, num_samples * (DRAWS if distinct else 1))
        search = validate_search(
            search, candidates, refine, shortlist, unconditional=unconditional, stops=stops
        )
        shortlist = 1 if search else validate_shortlist(shortlist, self.info, candidates > 1 or refine > 0)
        kinds = usable_proposers(self.model, validate_names(proposals, "proposals", PROPOSERS))
        allowed = None if lengths is None else validate_lengths(lengths, len(e), candidates, self.info)
        if not len(e):
            return []
        asked = GenerationRequest(
            sampling=sampling,
            lengths=allowed,
            candidates=candidates,
            refine=refine,
            shortlist=shortlist,
            proposals=kinds,
            search=search,
            gradient=gradient,
            stops=tuple(stops),
            num_samples=num_samples,
            seed=seed,
            score=score,
            unconditional=unconditional,
            explain=explain,
            confidence=confidence,
            latents=latents,
        )
        if distinct:
            return distinct_samples(
                lambda rows, first, listener: write_texts(
                    self, e[list(rows)], asked.of(rows, first), listener, check
                ),
                len(e),
                num_samples,
                seed,
                on_event,
            )
        return write_texts(self, e, asked, on_event, check)

    @torch.inference_mode()
    def fill(
        self,
        texts: TextsLike,
        meanings: TextsLike | None = None,
        *,
        vectors: VectorsLike | None = None,
        sampling: SamplingConfig | None = None,
        lengths: LengthsLike | None = None,
        candidates: int = 1,
        num_samples: int = 1,
        seed: int = 0,
        score: bool = False,
        explain: bool = False,
        on_event: Listener = ignore,
        check: Check = unchecked,
    ) -> list[FilledText]:
        """Write the blanks of texts under meanings, or under none (the null condition); what is given stays.

        Args:
            texts: N texts, or one, with blanks `[MASK]`, `[MASK:3]` of 3 tokens, `[MASK:2-4]`; see `parse_blanks`.
            meanings: A text for each, or one for all, whose vector is what the whole text shall say.
            vectors: The same as vectors of the model's encoder, [N, D] or [D]; not together with `meanings`.
            sampling: As for `generate`.
            lengths: Tokens of the whole text, a number or a range such as "9-12", once or for each text.
            candidates: Of the texts of so many lengths and draws that the decoder finds likeliest, the one whose vector
                is closest to the meaning's is kept. Costs one encoder call each. 1 keeps the likeliest.
            num_samples: Texts for each, different where so many are found, as for `generate`.
            seed: A text depends on its blanks, its meaning, the settings and its seed, not on its batch.
            score: Encode what was written and report the cosine with the meaning.
            explain: Report how sure each token was (`FilledText.details`).
            on_event: Told of each denoising step (`CanvasChanged`).
            check: As for `generate`.

        Returns:
            N · num_samples texts, all samples of the first first.

        Raises:
            GenerationError: a text without blanks or with one that cannot be, of more tokens than the model writes;
                candidates or a score without a meaning; what `generate` refuses.
        """
        templates = [parse_blanks(text) for text in validate_texts(texts)]
        e = self._meanings(meanings, vectors, len(templates), on_event, check)
        candidates = validate_count(candidates, "candidates", 1)
        num_samples = validate_count(num_samples, "num_samples", 1)
        sampling = sampling or complete_sampling({}, self.info, num_samples=num_samples)
        sampling = validate_sampling(sampling, e is None, self.info)
        distinct = num_samples > 1 and sampling.stochastic
        seed = validate_seed(seed, num_samples * (DRAWS if distinct else 1))
        if e is None and (candidates > 1 or score):
            raise GenerationError(
                "Candidates and scores compare with a meaning, and none was given.",
                'Give one, as in --meaning "a thief enters a house", or leave out --candidates.',
            )
        any_length = f"1-{self.info.model.max_tokens}"
        allowed = validate_lengths(any_length if lengths is None else lengths, len(templates), 1, self.info)
        if not templates:
            return []
        # What fits a blank may be none of the tokens that the whole text would be written with, and what is given is to
        # be read anew beside what was written.
        sampling = replace(sampling, vocabulary=0, kv_cache=False)
        decoder = Decoder(self.model, self.schedule, self.tokenizer.special_ids, sampling, check)
        if e is None or sampling.cfg == 0:
            z = self.model.null_latent(len(templates))
        else:
            z = check_latents(decoder.latents(e))

        def write(rows: Sequence[int], first: int, listener: Listener) -> list[FilledText]:
            requests = [
                FillRequest(number, templates[row], first + k, allowed[row])
                for number, row in enumerate(rows)
                for k in range(num_samples)
            ]
            listen = canvas_listener(self.tokenizer, listener)
            ranked = fill_blanks(
                decoder, self.tokenizer, z[list(rows)], requests, candidates, listen, explain=explain
            )
            if e is None or (candidates == 1 and not score):
                return [texts[0] for texts in ranked]
            return closest(self.encoder, e[list(rows)], ranked, check)

        rows = range(len(templates))
        if distinct:
            return distinct_samples(write, len(rows), num_samples, seed, on_event)
        return write(rows, seed, on_event)

    def _meanings(
        self,
        meanings: TextsLike | None,
        vectors: VectorsLike | None,
        rows: int,
        on_event: Listener,
        check: Check,
    ) -> Tensor | None:
        """The vectors of what so many texts shall say [rows, D], one for all or one for each; None where none is."""
        if meanings is not None and vectors is not None:
            raise GenerationError("Meanings were given as texts and as vectors.", "Leave out one of the two.")
        if meanings is not None:
            e = self.encode(meanings, check)
        elif vectors is not None:
            e = self.check_vectors(vectors, on_event)
        else:
            return None
        if len(e) == 1:
            e = e.expand(rows, -1)
        if len(e) != rows:
            raise GenerationError(
                f"{counted(len(e), 'meaning')} were given for {counted(rows, 'text')}.",
                "Give one for all, or one for each.",
            )
        return e

    def blend(
        self,
        parts: TextsLike | VectorsLike,
        weights: Sequence[float] | None = None,
        **options: Any,  # noqa: ANN401 - passed on to generate
    ) -> list[Generation]:
        """Write what a weighted sum of texts or vectors says; a negative weight subtracts.

        The sum's direction counts; it is given the mean length of what went in, which is read as `generate`
        reads it. One part alone is written as `reconstruct` writes it.

        Args:
            parts: N texts or vectors [N, D].
            weights: One for each; by default all are 1.
            **options: As for `generate`.

        Returns:
            `num_samples` generations.

        Raises:
            GenerationError: not one weight for each part, all are 0, or the parts cancel each other out.
        """
        e = self._vectors(parts)
        return self.generate(blend_vectors(e, validate_weights(weights, len(e))), **options)

    def interpolate(
        self,
        start: str | VectorsLike,
        end: str | VectorsLike,
        points: int = DEFAULT_POINTS,
        **options: Any,  # noqa: ANN401 - as above
    ) -> list[Generation]:
        """Write what lies at equal angles between two texts or vectors; the ends are their plain reconstructions.

        Args:
            start: A text or a vector [D].
            end: As `start`.
            points: At least 2, both ends included.
            **options: As for `generate`.

        Returns:
            `num_samples` generations for each point; `row` counts points.

        Raises:
            GenerationError: fewer than two points, or not one text or vector for each end.
        """
        ends = self._one_vector(start), self._one_vector(end)
        return self.generate(interpolate_vectors(*ends, points), **options)

    def vary(
        self,
        text: str | VectorsLike,
        count: int = DEFAULT_VARIATIONS,
        *,
        strength: float | None = None,
        seed: int = 0,
        **options: Any,  # noqa: ANN401 - as above
    ) -> list[Generation]:
        """Write variations of one text or vector: texts of latents near its own; see `varied_latents`.

        Args:
            text: A text or a vector [D].
            count: Texts; each once where so many different ones are found.
            strength: How far the latents lie, in standard deviations; 0 writes the text itself. By default 1 under a
                VIB, a draw from its posterior, else 0.5.
            seed: Of the first latent; the k-th one is drawn with `seed + k`.
            **options: As for `generate`, but not `num_samples` and `latents`.

        Returns:
            `count` generations; cosines are with the vector of `text`.

        Raises:
            GenerationError: the strength is negative or not finite.
        """
        strength = default_strength(self.model) if strength is None else validate_strength(strength)
        return vary(self, self._one_vector(text), count, strength, seed, options)

    def words(self, vectors: TextsLike | VectorsLike, count: int = 10) -> list[list[Word]]:
        """The words that vectors ask for, also where they are of texts longer than the model writes; see `WordFinder`.

        Args:
            vectors: Vectors [N, D], or texts.
            count: Words for each.

        Returns:
            For each vector its words with their scores in nats, the highest first.

        Raises:
            GenerationError: the model was trained without a null condition.
        """
        e, count = self._vectors(vectors), validate_count(count, "count", 1)
        decoder = Decoder(self.model, self.schedule, self.tokenizer.special_ids, self.recommended_sampling)
        finder = WordFinder(decoder, self.tokenizer, trained_null=self.info.trained_null)
        return [finder.words(row, count) for row in e]

    def _vectors(self, given: TextsLike | VectorsLike) -> Tensor:
        """Vectors [N, D] as they are, and those of texts."""
        given, texts = texts_or_vectors(given)
        return self.encode(given) if texts else self.check_vectors(given)

    def _one_vector(self, given: str | VectorsLike) -> Tensor:
        e = self._vectors(given)
        if len(e) != 1:
            raise GenerationError(f"One text or vector is needed, and {len(e)} were given.")
        return e[0]

    def draws_candidates(self, candidates: int, shortlist: int | None = None) -> bool:
        """Whether so many candidates are more than there are lengths to try, so that tokens of some are drawn."""
        return candidates * validate_shortlist(shortlist, self.info, candidates > 1) > DISTINCT_LENGTHS

    def likely_lengths(self, z: Tensor, count: int) -> Tensor:
        """The `count` likeliest lengths in tokens of latents [N, latent_dim], likeliest first: [N, count]."""
        return likely_lengths(self.model, z, count)
