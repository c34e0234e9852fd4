"""A Unigram vocabulary trained on a corpus, with bytes for what it cannot spell.

The method is that of Kudo 2018 (arXiv 1804.10959) in its hard form: start from more pieces than wanted; then,
by turns, estimate each piece's probability from the best segmentation and drop the pieces whose loss costs the
corpus least likelihood. The first pieces are those of byte-pair merges (Sennrich 2016, arXiv 1508.07909). The
trainer of the `tokenizers` library is not used: it takes its first pieces from the list of *distinct* words,
so a common word that is part of no other ("because") never becomes a piece, and two runs on one text differ.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from sgdd_engine.errors import DataError

MASK = "<mask>"
_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
_WITH_BYTES = 1024
# Punctuation is a piece of its own, so that "said" and "said." share what is learnt; "don't" stays one word.
_PUNCTUATION = r"▁?(?:[^\p{L}\p{M}\p{N}▁'’]|(?<!\p{L})['’]|['’](?!\p{L}))+"
# From twice the wanted size down, in four rounds.
_ROUNDS = (1.6, 1.3, 1.1, 1.0)
_LONGEST_PIECE = 24
_MOST_SENTENCES = 1_000_000


def build_unigram(sentences: Iterable[str], vocab_size: int, seed: int = 0) -> Tokenizer:
    """Train the tokenizer: `<s> <pad> </s> <unk>`, 256 bytes (from 1,024 pieces on), pieces, `<mask>` last.

    Characters beyond the most frequent `vocab_size // 4` are left to the bytes, so that any text can be
    written and given back; without the bytes (below 1,024 pieces) they become `<unk>`.

    Raises:
        DataError: If the sample is empty.
    """
    sample = _draw((sentence for sentence in sentences if sentence.strip()), seed)
    if not sample:
        raise DataError("There is no text to train a vocabulary on.")
    kept = _frequent_characters(sample, vocab_size // 4)
    sample = ["".join(c if c in kept else " " for c in sentence) for sentence in sample]
    with_bytes = vocab_size >= _WITH_BYTES
    room = vocab_size - len(_SPECIALS) - 1 - (len(_BYTES) if with_bytes else 0)
    chunks = _count_chunks(sample)
    pieces = _prune(_merges(sample, 2 * room), chunks, room)
    return _assemble(pieces, with_bytes=with_bytes)


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
    # By count, then by code point: ties must not depend on the order of the text. The space always stays.
    ranked = sorted(counts.keys() - {" "}, key=lambda character: (-counts[character], character))
    return {" ", *ranked[: most - 1]}


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Split(Regex(_PUNCTUATION), behavior="isolated"),
        ]
    )


def _count_chunks(sample: list[str]) -> dict[str, int]:
    """How often each stretch of text occurs that no piece may cross."""
    words = Counter[str]()
    for sentence in sample:
        words.update(sentence.split())
    splitter, chunks = _splitter(), Counter[str]()
    for word, count in words.items():
        for chunk, _ in splitter.pre_tokenize_str(word):
            chunks[chunk] += count
    # In a fixed order, so that sums of floats do not depend on the order of the sample.
    return dict(sorted(chunks.items()))


def _merges(sample: list[str], size: int) -> list[str]:
    """Candidate pieces: every character, and the most frequent byte-pair merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _splitter()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, max_token_length=_LONGEST_PIECE, show_progress=False
    )
    tokenizer.train_from_iterator(sample, trainer)
    return sorted(tokenizer.get_vocab())


def _prune(candidates: list[str], chunks: Mapping[str, int], room: int) -> list[tuple[str, float]]:
    """The `room` pieces that the corpus misses least to lose, with log-probabilities, likeliest first."""
    # Before anything is known all pieces are about equally likely: the first cut takes few, long ones.
    scores = {piece: -10.0 + 0.001 * len(piece) for piece in candidates}
    for factor in _ROUNDS:
        for _ in range(2):
            scores = _estimate(scores, chunks)
        scores = _drop(scores, chunks, max(room, 1) if factor == 1.0 else int(room * factor))
    scores = _estimate(scores, chunks)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def _estimate(scores: Mapping[str, float], chunks: Mapping[str, int]) -> dict[str, float]:
    """Log-probabilities from the best segmentation of every chunk; characters never vanish."""
    counts = _use(scores, chunks)
    total = sum(counts.values())
    return {
        piece: math.log(max(counts[piece], 0.5 if len(piece) == 1 else 0.1) / total)
        for piece in scores
        if counts[piece] > 0 or len(piece) == 1
    }


def _use(scores: Mapping[str, float], chunks: Mapping[str, int]) -> Counter[str]:
    """How often each piece stands in the best segmentation of the corpus."""
    model = Tokenizer(models.Unigram([("<unk>", -100.0), *scores.items()], unk_id=0))
    counts = Counter[str]()
    for row, count in zip(model.encode_batch(list(chunks)), chunks.values(), strict=True):
        for piece in row.tokens:
            counts[piece] += count
    return counts


def _drop(scores: Mapping[str, float], chunks: Mapping[str, int], size: int) -> dict[str, float]:
    """Keep every character and the pieces that save the most log-likelihood over their next best spelling."""
    counts = _use(scores, chunks)
    single = {piece: score for piece, score in scores.items() if len(piece) == 1}
    gain = {
        piece: counts[piece] * (score - _next_best(piece, scores))
        for piece, score in scores.items()
        if len(piece) > 1
    }
    best = sorted(gain, key=lambda piece: (-gain[piece], piece))[: max(size - len(single), 0)]
    return single | {piece: scores[piece] for piece in best}


def _next_best(piece: str, scores: Mapping[str, float]) -> float:
    """Log-probability of the best segmentation of a piece into shorter ones (Viterbi)."""
    best = [0.0] + [-math.inf] * len(piece)
    for end in range(1, len(piece) + 1):
        for start in range(end):
            score = scores.get(piece[start:end])
            if score is not None and end - start < len(piece):
                best[end] = max(best[end], best[start] + score)
    return best[-1]


def _assemble(pieces: list[tuple[str, float]], *, with_bytes: bool) -> Tokenizer:
    # Neither special pieces nor bytes may win over text that happens to spell them.
    lowest = min(score for _, score in pieces) - 10.0
    fixed = [(piece, lowest) for piece in (*_SPECIALS, *(_BYTES if with_bytes else ()))]
    tokenizer = Tokenizer(models.Unigram([*fixed, *pieces], unk_id=3, byte_fallback=with_bytes))
    tokenizer.pre_tokenizer = _splitter()
    steps = [decoders.ByteFallback()] if with_bytes else []
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Metaspace(prepend_scheme="always")])
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in (*_SPECIALS, MASK)]
    )
    return tokenizer
