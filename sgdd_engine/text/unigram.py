"""A Unigram vocabulary trained on a corpus, with bytes for what it cannot spell.

`sentencepiece` trains it (Kudo 2018, arXiv 1804.10959), and starts from the byte-pair merges (Sennrich 2016,
arXiv 1508.07909) of the `tokenizers` library. Its own first pieces are only those that can go on in more than
one way, so that `,"` before a space is none; and cut at punctuation ("didn't" too) or not at all ("him.").
The result is a `tokenizers` model: only training needs `sentencepiece`.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from sgdd_engine.errors import DataError

MASK = "<mask>"
_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
_WITH_BYTES = 1024
# Punctuation is a piece of its own, so that "said" and "said." share what is learnt; "don't" stays one word.
_PUNCTUATION = r"▁?(?:[^\p{L}\p{M}\p{N}▁'’]|(?<!\p{L})['’]|['’](?!\p{L}))+"
_LONGEST_PIECE = 24
_LONGEST_SENTENCE = 1 << 20
_MOST_WORDS = 1_000_000
_MERGED_WORDS = 4_000_000
_WORDS_PER_LINE = 1000

# How often each distinct word stands in the text.
Words = dict[str, int]


def build_unigram(sentences: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train the tokenizer: `<s> <pad> </s> <unk>`, 256 bytes (from 1,024 pieces on), pieces, `<mask>` last.

    Characters beyond the most frequent `vocab_size // 4` are left to the bytes, so that any text can be
    written and given back; without the bytes (below 1,024 pieces) they become `<unk>`.

    Args:
        sentences: The text to learn from; only its distinct words and their counts are held in memory.
        vocab_size: Pieces wanted, special ones included; a small text may give fewer.

    Raises:
        DataError: If there is no text, or too little to learn a piece from.
    """
    words = _count_words(sentences)
    if not words:
        raise DataError("There is no text to train a vocabulary on.")
    words = _spelled_with(_frequent_characters(words, vocab_size // 4), words)
    return _assemble(_pieces(words, vocab_size - 1), with_bytes=vocab_size >= _WITH_BYTES)


def _count_words(sentences: Iterable[str]) -> Words:
    """How often each word stands in the text, as white space divides it; the rarest may be forgotten."""
    counts = Counter[str]()
    least = 1
    for sentence in sentences:
        counts.update(sentence.split())
        if len(counts) > _MOST_WORDS:
            least += 1
            counts = Counter({word: count for word, count in counts.items() if count >= least})
    return dict(counts)


def _frequent_characters(words: Words, most: int) -> set[str]:
    counts = Counter[str]()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    # By count, then by code point: ties must not depend on the order of the text.
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    return set(ranked[: most - 1])


def _spelled_with(characters: set[str], words: Words) -> Words:
    """The words where all other characters are spaces, in an order that does not depend on the text's."""
    counts = Counter[str]()
    for word, count in words.items():
        if characters.issuperset(word):
            counts[word] += count
        else:
            for part in "".join(c if c in characters else " " for c in word).split():
                counts[part] += count
    return dict(sorted(counts.items()))


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Split(Regex(_PUNCTUATION), behavior="isolated"),
        ]
    )


def _merges(words: Words, size: int) -> list[str]:
    """Every character, and the byte-pair merges in the order in which they were made."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _splitter()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, max_token_length=_LONGEST_PIECE, show_progress=False
    )
    tokenizer.train_from_iterator(_written_out(words), trainer)
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _written_out(words: Words) -> Iterator[str]:
    """The words as often as they stand in the text, or as a text of four million words would have them."""
    share = min(1.0, _MERGED_WORDS / max(1, sum(words.values())))
    for word, count in words.items():
        # A word that was seen twice may still become a merge.
        often = max(min(count, 2), round(count * share))
        while often > 0:
            yield " ".join([word] * min(often, _WORDS_PER_LINE))
            often -= _WORDS_PER_LINE


def _pieces(words: Words, size: int) -> list[tuple[str, float]]:
    """The special pieces, the bytes and the trained pieces, `size` or fewer, with log-probabilities."""
    import sentencepiece  # noqa: PLC0415 - whoever only uses a vocabulary does not wait for it

    model = BytesIO()
    with tempfile.TemporaryDirectory(prefix="sgdd-") as folder:
        candidates = Path(folder) / "candidates.tsv"
        # Their counts are only where training starts, so Zipf's law will do: the count falls as the rank rises.
        merges = enumerate(_merges(words, 2 * size), start=10)
        lines = (f"{piece}\t{max(10_000_000 // rank, 1)}\n" for rank, piece in merges)
        candidates.write_text("".join(lines), encoding="utf-8", newline="\n")
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(f"{word}\t{count}" for word, count in words.items()),
                input_format="tsv",
                model_writer=model,
                model_type="unigram",
                vocab_size=size,
                hard_vocab_limit=False,
                seed_sentencepieces_file=str(candidates),
                max_sentencepiece_length=_LONGEST_PIECE,
                max_sentence_length=_LONGEST_SENTENCE,
                character_coverage=1.0,
                byte_fallback=size + 1 >= _WITH_BYTES,
                # The text is cleaned already; the candidates do not cross punctuation.
                split_by_unicode_script=False,
                normalization_rule_name="identity",
                bos_id=0,
                pad_id=1,
                eos_id=2,
                unk_id=3,
                # Sums of floats depend on how many threads share them.
                num_threads=1,
                minloglevel=3,
            )
        except RuntimeError as problem:
            raise DataError(
                f"There is too little text to train a vocabulary of {size + 1} pieces on.",
                "Give more text, or keep the encoder's own vocabulary: tokenizer.kind = encoder",
            ) from problem
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [(trained.id_to_piece(index), trained.get_score(index)) for index in range(len(trained))]


def _assemble(pieces: list[tuple[str, float]], *, with_bytes: bool) -> Tokenizer:
    # Neither special pieces nor bytes may win over text that happens to spell them.
    fixed = len(_SPECIALS) + (256 if with_bytes else 0)
    lowest = min(score for _, score in pieces) - 10.0
    pieces = [(piece, lowest) for piece, _ in pieces[:fixed]] + pieces[fixed:]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=with_bytes))
    tokenizer.pre_tokenizer = _splitter()
    steps = [decoders.ByteFallback()] if with_bytes else []
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Metaspace(prepend_scheme="always")])
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in (*_SPECIALS, MASK)]
    )
    return tokenizer
