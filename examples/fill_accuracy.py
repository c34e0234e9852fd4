"""How well blanks are filled: held-out sentences with one to five words blanked, under three meanings.

    python examples/fill_accuracy.py fiction.valid.txt --sentences 200

Of each sentence 1, 2, ... 5 words are blanks of the right number of tokens; of the first 50, one word or phrase is a
blank of open length. The meaning is the sentence's own vector, that of another sentence, or none.
`examples/fill_accuracy.md` has the table that this prints.
"""

import argparse
import random
from dataclasses import replace
from pathlib import Path

from sgdd_engine import SGDD
from sgdd_engine.generation import FilledText

MEANINGS = ("own", "another's", "none")
MOST_BLANKS = 5
# An open blank stands for one to so many words.
LONGEST_PHRASE = 3


def is_word(text: str) -> bool:
    """Whether it is a word without punctuation: a blank may not stand inside a word."""
    return text.isalpha() and text.isascii()


def choose_sentences(model: SGDD, lines: list[str], count: int) -> list[list[str]]:
    """Sentences as lists of words that the model can hold, with room for blanks and for an open blank."""
    chosen = []
    for line in lines:
        words = line.split()
        fits = len(model.tokenizer.encode_batch([line])[0]) <= model.info.model.max_tokens - 4
        if fits and sum(map(is_word, words[1:])) > 2 * MOST_BLANKS:
            chosen.append(words)
        if len(chosen) == count:
            break
    return chosen


def token_ids(model: SGDD, words: list[str]) -> list[list[int]]:
    """The ids of each word where it stands."""
    first, *others = words
    return [
        model.tokenizer.encode_batch([first])[0],
        *(model.tokenizer.encode_behind(f" {word}") for word in others),
    ]


def blanked(words: list[str], ids: list[list[int]], blanks: list[int]) -> str:
    """The sentence with these words as blanks of their length."""
    return " ".join(f"[MASK:{len(ids[i])}]" if i in blanks else word for i, word in enumerate(words))


def right_tokens(filled: FilledText, ids: list[list[int]], blanks: list[int]) -> tuple[int, int]:
    """How many tokens of the blanks are right, and how many there are."""
    right, count, at = 0, 0, 0
    for number, word in enumerate(ids):
        if number in blanks:
            right += sum(a == b for a, b in zip(filled.tokens[at:], word, strict=False))
            count += len(word)
        at += len(word)
    return right, count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path, help="sentences that the model has not seen, one a line")
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--open", type=int, default=50, help="sentences with a blank of open length")
    parser.add_argument("--steps", type=int, help="denoising steps")
    arguments = parser.parse_args()

    model = SGDD.from_pretrained(arguments.checkpoint)
    sampling = model.recommended_sampling
    sampling = replace(sampling, steps=arguments.steps or sampling.steps)
    rng = random.Random(0)
    lines = arguments.texts.read_text(encoding="utf-8").splitlines()
    rng.shuffle(lines)
    sentences = choose_sentences(model, lines, arguments.sentences)
    vectors = model.encode([" ".join(words) for words in sentences])
    given = {"own": vectors, "another's": vectors.roll(1, dims=0), "none": None}

    print(
        f"{arguments.checkpoint}, {len(sentences)} sentences, {sampling.steps} steps, cfg {sampling.cfg:g}\n"
    )
    print("| blanks | tokens | " + " | ".join(f"meaning: {name}" for name in MEANINGS) + " |")
    print("|---|" + "---:|" * (1 + len(MEANINGS)))
    ids = [token_ids(model, words) for words in sentences]
    for count in range(1, MOST_BLANKS + 1):
        blanks = [
            rng.sample([i for i, word in enumerate(words) if i and is_word(word)], count)
            for words in sentences
        ]
        texts = [blanked(*row) for row in zip(sentences, ids, blanks, strict=True)]
        shares, total = [], 0
        for name in MEANINGS:
            filled = model.fill(texts, vectors=given[name], sampling=sampling)
            scores = [right_tokens(*row) for row in zip(filled, ids, blanks, strict=True)]
            total = sum(tokens for _, tokens in scores)
            shares.append(sum(right for right, _ in scores) / total)
        print(f"| {count} | {total} | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)

    sentences, ids = sentences[: arguments.open], ids[: arguments.open]
    phrases = [phrase(rng, words) for words in sentences]
    texts = [
        " ".join([*words[:start], "[MASK]", *words[end:]])
        for words, (start, end) in zip(sentences, phrases, strict=True)
    ]
    lengths, exact = [], []
    for name in MEANINGS:
        vectors_of_open = None if given[name] is None else given[name][: len(texts)]
        filled = model.fill(texts, vectors=vectors_of_open, sampling=sampling)
        rows = list(zip(filled, sentences, ids, phrases, strict=True))
        lengths.append(sum(len(f.tokens) == sum(map(len, row)) for f, _, row, _ in rows) / len(rows))
        exact.append(sum(f.text == " ".join(words) for f, words, _, _ in rows) / len(rows))
    for what, shares in (("length right", lengths), ("text right", exact)):
        print(
            f"| 1 of open length, {len(texts)} sentences: {what} | | "
            + " | ".join(f"{share:.3f}" for share in shares)
            + " |",
            flush=True,
        )


def phrase(rng: random.Random, words: list[str]) -> tuple[int, int]:
    """The beginning and end of one to `LONGEST_PHRASE` words without punctuation."""
    while True:
        start = rng.randrange(1, len(words))
        end = start + rng.randint(1, LONGEST_PHRASE)
        if end <= len(words) and all(map(is_word, words[start:end])):
            return start, end


if __name__ == "__main__":
    main()
