"""A Unigram vocabulary trained on a corpus, with bytes for what it cannot spell.

`sentencepiece` trains it (Kudo 2018, arXiv 1804.10959), and starts from the byte-pair merges (Sennrich 2016,
arXiv 1508.07909) of the `tokenizers` library. Its own first pieces are only those that can go on in more than
one way, so that `,"` before a space is none; and cut at punctuation ("didn't" too) or not at all ("him.").
The result is a `tokenizers` model: only training needs `sentencepiece`.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Iterable
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
_MOST_SENTENCES = 1_000_000


def build_unigram(sentences: Iterable[str], vocab_size: int, seed: int = 0) -> Tokenizer:
    """Train the tokenizer: `<s> <pad> </s> <unk>`, 256 bytes (from 1,024 pieces on), pieces, `<mask>` last.

    Characters beyond the most frequent `vocab_size // 4` are left to the bytes, so that any text can be
    written and given back; without the bytes (below 1,024 pieces) they become `<unk>`.

    Raises:
        DataError: If there is no text, or too little to learn a piece from.
    """
    sample = _draw((sentence for sentence in sentences if sentence.strip()), seed)
    if not sample:
        raise DataError("There is no text to train a vocabulary on.")
    kept = _frequent_characters(sample, vocab_size // 4)
    sample = ["".join(c if c in kept else " " for c in sentence) for sentence in sample]
    return _assemble(_pieces(sample, vocab_size - 1), with_bytes=vocab_size >= _WITH_BYTES)


def _draw(sentences: Iterable[str], seed: int) -> list[str]:
    """All sentences, or a uniform sample of a million of them (reservoir sampling)."""
    generator, sample = random.Random(seed), list[str]()
    for index, sentence in enumerate(sentences):
        if index < _MOST_SENTENCES:
            sample.append(sentence)
        elif (place := generator.randrange(index + 1)) < _MOST_SENTENCES:
            sample[place] = sentence
    return sample


def _frequent_characters(sample: list[str], most: int) -> set[str]:
    counts = Counter[str]()
    for sentence in sample:
        counts.update(sentence)
    # By count, then by code point: ties must not depend on the order of the text. The space always stays; tabs
    # and line ends go, which would break the table of candidates.
    solid = (character for character in counts if not character.isspace())
    ranked = sorted(solid, key=lambda character: (-counts[character], character))
    return {" ", *ranked[: most - 1]}


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Split(Regex(_PUNCTUATION), behavior="isolated"),
        ]
    )


def _merges(sample: list[str], size: int) -> list[str]:
    """Every character, and the byte-pair merges in the order in which they were made."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _splitter()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, max_token_length=_LONGEST_PIECE, show_progress=False
    )
    tokenizer.train_from_iterator(sample, trainer)
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _pieces(sample: list[str], size: int) -> list[tuple[str, float]]:
    """The special pieces, the bytes and the trained pieces, `size` or fewer, with log-probabilities."""
    import sentencepiece  # noqa: PLC0415 - whoever only uses a vocabulary does not wait for it

    model = BytesIO()
    with tempfile.TemporaryDirectory(prefix="sgdd-") as folder:
        candidates = Path(folder) / "candidates.tsv"
        # Their counts are only where training starts, so Zipf's law will do: the count falls as the rank rises.
        merges = enumerate(_merges(sample, 2 * size), start=10)
        lines = (f"{piece}\t{max(10_000_000 // rank, 1)}\n" for rank, piece in merges)
        candidates.write_text("".join(lines), encoding="utf-8", newline="\n")
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sample),
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
