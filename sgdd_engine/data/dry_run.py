"""A dry run of preparation: what would be done, estimated from the first lines of the source."""

from dataclasses import dataclass
from itertools import islice

from sgdd_engine.data.cleaning import (
    Rejection,
    Rejections,
    clean,
    describe_rejections,
    rejection,
    token_rejection,
)
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.deduplicate import MIN_SENTENCES, too_few
from sgdd_engine.data.source_registry import Source
from sgdd_engine.data.vectors import vector_bytes
from sgdd_engine.errors import SgddError
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.text.encoder_network import encoder_vocabulary, read_encoder_spec
from sgdd_engine.text.tokenizer import TextTokenizer, train_unigram
from sgdd_engine.text.vocabulary_fit import JUDGED_SENTENCES, loss_warnings
from sgdd_engine.text.words import count_words

SAMPLE_LINES = 10_000

# Pieces per word in English prose by the vocabularies of BGE-M3 and MiniLM, where no vocabulary can be had.
_TOKENS_PER_WORD = 1.4
# Two 32-bit offsets per sentence, into the texts and into the tokens.
_OFFSET_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The estimated result of a preparation.

    Attributes:
        source: The source as the user named it.
        notices: What the source itself has to say, one sentence each.
        sampled_lines: Lines that were read.
        complete: Whether these were all lines of the source.
        kept: Distinct sentences among them that would be kept.
        left_out: Lines left out, by reason.
        left_out_examples: One of them for each reason, where it holds anything.
        lossy: What of the text vocabulary, length and encoder will lose, one sentence each.
        words_per_sentence: Mean of the kept ones.
        tokens: Tokens of the kept ones by the decoder's vocabulary; None where that cannot be had.
        unknown_tokens: Those among them that the vocabulary does not know.
        examples: The first kept sentences.
        estimated_lines: Lines in all, if the source tells; at most `data.limit`.
        estimated_sentences: Sentences in all, if the rest is like the sample.
        estimated_bytes: Size of the corpus on disk, where the size of a vector is known.
        missing: Why something could not be estimated, one sentence each.
    """

    source: str
    notices: tuple[str, ...]
    sampled_lines: int
    complete: bool
    kept: int
    left_out: dict[str, int]
    left_out_examples: dict[str, str]
    lossy: tuple[str, ...]
    words_per_sentence: float
    tokens: int | None
    unknown_tokens: int | None
    examples: tuple[str, ...]
    estimated_lines: int | None
    estimated_sentences: int | None
    estimated_bytes: int | None
    missing: tuple[str, ...]


def dry_run(
    source: Source,
    *,
    config: DataConfig,
    encoder: EncoderConfig,
    tokenizer: TokenizerConfig,
    sample_lines: int = SAMPLE_LINES,
) -> DryRun:
    """Read the first lines of a source and estimate what preparation would make of it all.

    Length in tokens is that by the encoder's vocabulary, or by one trained on these lines, which is a little shorter
    than that by one trained on more.

    Args:
        source: The source of the text.
        config: Filters and storage.
        encoder: Gives the size of a vector and, without its weights, the vocabulary.
        tokenizer: Whose vocabulary the decoder has.
        sample_lines: Lines read at most.

    Raises:
        DataError: If the source is unreadable, or it was read whole and leaves too little.
    """
    rejected = Rejections()
    kept, read, complete = _sample(source, config, sample_lines, rejected)
    missing: list[str] = []
    lossy: list[str] = []
    tokens = unknown_tokens = dim = None
    try:
        vocabulary = _vocabulary(kept, encoder, tokenizer)
        lossy = loss_warnings(kept[:JUDGED_SENTENCES], vocabulary, _encoders_own(encoder), config.max_tokens)
        kept, tokens, unknown_tokens = _short_enough(kept, vocabulary, config, rejected)
    except SgddError as error:
        missing.append(f"Sentences above data.max_tokens are not counted. {error.message}")
    try:
        dim = read_encoder_spec(encoder).dim
    except SgddError as error:
        missing.append(f"The size on disk is not estimated. {error.message}")
    if complete and len(kept) < MIN_SENTENCES:
        raise too_few(source.title, len(kept), read, describe_rejections(rejected.counts, config))
    total = read if complete else source.estimated_lines()
    if total is not None and config.limit is not None:
        total = min(total, config.limit)
    words = sum(map(count_words, kept))
    sentences = estimated_bytes = None
    if total is not None:
        sentences = round(total * len(kept) / max(read, 1))
    if sentences is not None and dim is not None and kept:
        text = sum(len(sentence.encode()) for sentence in kept)
        ids = 4 * (_TOKENS_PER_WORD * words if tokens is None else tokens)
        vector = vector_bytes(dim, config.embedding_dtype)
        estimated_bytes = round(sentences * ((text + ids) / len(kept) + vector + _OFFSET_BYTES))
    return DryRun(
        source=source.name,
        notices=tuple(source.notices()),
        sampled_lines=read,
        complete=complete,
        kept=len(kept),
        left_out=dict(rejected.counts),
        left_out_examples=rejected.examples,
        lossy=tuple(lossy),
        words_per_sentence=words / max(len(kept), 1),
        tokens=tokens,
        unknown_tokens=unknown_tokens,
        examples=tuple(kept[:3]),
        estimated_lines=total,
        estimated_sentences=sentences,
        estimated_bytes=estimated_bytes,
        missing=tuple(missing),
    )


def _sample(
    source: Source, config: DataConfig, sample_lines: int, rejected: Rejections
) -> tuple[list[str], int, bool]:
    """Distinct clean sentences of the first lines, the lines read, and whether these were all; counts the others."""
    wanted = min(sample_lines, config.limit or sample_lines)
    lines = source.lines()
    distinct: dict[str, None] = {}
    read = 0
    for line in islice(lines, wanted):
        read += 1
        sentence = clean(line)
        reason = Rejection.DUPLICATE if sentence in distinct else rejection(sentence, config)
        if reason is None:
            distinct[sentence] = None
        else:
            rejected.add(reason, sentence)
    return list(distinct), read, wanted == config.limit or next(lines, None) is None


def _vocabulary(sentences: list[str], encoder: EncoderConfig, tokenizer: TokenizerConfig) -> TextTokenizer:
    """The encoder's own, or one trained on these sentences."""
    if tokenizer.kind == "encoder":
        return encoder_vocabulary(encoder)
    return train_unigram(sentences, tokenizer.vocab_size)


def _encoders_own(encoder: EncoderConfig) -> TextTokenizer | None:
    """The vocabulary of the encoder, which tells whether it knows the language; None where it cannot be had."""
    try:
        return encoder_vocabulary(encoder)
    except SgddError:
        return None


def _short_enough(
    sentences: list[str],
    vocabulary: TextTokenizer,
    config: DataConfig,
    rejected: Rejections,
) -> tuple[list[str], int, int]:
    """The sentences that are short enough in tokens, with all their tokens and unknown tokens; counts the others."""
    kept: list[str] = []
    tokens = unknown = 0
    for sentence, ids in zip(sentences, vocabulary.encode_batch(sentences), strict=True):
        if reason := token_rejection(len(ids), config.max_tokens):
            rejected.add(reason, sentence)
            continue
        kept.append(sentence)
        tokens += len(ids)
        unknown += ids.count(vocabulary.unk_id)
    return kept, tokens, unknown
