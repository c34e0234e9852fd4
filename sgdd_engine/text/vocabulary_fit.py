"""How much of texts a vocabulary carries: texts of too many tokens, pieces it does not know, words it breaks up.

A vocabulary breaks the words of a language that it was not made for into many pieces. Pieces per word, mean and 5th to
95th percentile of 400 sentences of each text:

| text | vocabulary of `mini` (12,000 pieces, English novels) | MiniLM (30,522, English) |
|---|---|---|
| English novels | 1.35, 1.09 to 1.82 | 1.32, 1.08 to 1.80 |
| English stories for children | 1.27, 1.09 to 1.62 | 1.23, 1.09 to 1.63 |
| English Wikipedia | 1.57, 1.15 to 2.09 | 1.21, 1.06 to 1.50 |
| French | 2.56, 2.00 to 3.29 | 2.00, 1.53 to 2.56 |
| Italian, Portuguese, Spanish | 2.76 to 2.86, 2.10 to 4.25 | 2.09 to 2.23, 1.57 to 2.86 |
| German | 3.05, 2.20 to 4.05 | 2.29, 1.73 to 3.00 |
| Polish | 4.39, 3.12 to 5.73 | 2.87, 2.11 to 3.73 |
"""

from collections.abc import Sequence

from sgdd_engine.counted import counted
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.text.words import count_words

# From here on a text, or the mean of many, is hardly of the vocabulary's language; see the table above.
BROKEN_TEXT = 2.2
BROKEN_MEAN = 1.8
# One rare name makes a shorter text look foreign.
LEAST_WORDS = 4
# Of many texts, some have names and numbers; a share below is not worth a warning.
FEW = 0.05
# A share of sentences or tokens that is worth a warning before they are left out or written as unknown.
LARGE_SHARE = 0.01
# Sentences that tell before a preparation what it will leave out: a share of 1 % is known to within 0.4 %.
JUDGED_SENTENCES = 2000
# Vocabularies of one language have 30,000 to 50,000 pieces, those of a hundred (XLM-R, mBERT) 119,547 and more; these
# break words of rarer languages up without harm.
ONE_LANGUAGE = 100_000


class VocabularyFit:
    """Counts over texts, to say what a model's vocabulary and its longest text leave of them.

    Args:
        max_tokens: Tokens of the longest text that the model writes.
        unk_id: The piece for what the vocabulary does not know.
    """

    def __init__(self, max_tokens: int, unk_id: int) -> None:
        self._max_tokens, self._unk_id = max_tokens, unk_id
        self._texts = self._too_long = self._longest = self._lost = 0
        self._tokens = self._unknown = self._broken = 0

    def add(self, texts: Sequence[str], token_ids: Sequence[Sequence[int]]) -> None:
        """Count cleaned texts with their token ids."""
        for text, ids in zip(texts, token_ids, strict=True):
            count, words = len(ids), count_words(text)
            self._texts += 1
            self._tokens += count
            self._unknown += list(ids).count(self._unk_id)
            self._broken += words >= LEAST_WORDS and count > BROKEN_TEXT * words
            if count > self._max_tokens:
                self._too_long += 1
                self._longest = max(self._longest, count)
                self._lost += count - self._max_tokens

    def warnings(self) -> list[str]:
        """What is lost, one sentence each; none where all is carried."""
        found = []
        if self._too_long:
            verb = "has" if self._too_long == 1 else "have up to"
            found.append(
                f"{counted(self._too_long, 'text')} {verb} {counted(self._longest, 'token')}, and this model writes at "
                f"most {self._max_tokens}: {self._lost / self._tokens:.0%} of all tokens are lost. "
                "Give it one sentence per text."
            )
        if self._unknown:
            found.append(
                f"{self._unknown / self._tokens:.0%} of the tokens ({self._unknown:,} of {self._tokens:,}) are unknown "
                "to the model's vocabulary; it cannot write them."
            )
        if self._broken > FEW * self._texts:
            found.append(
                f"{self._broken:,} of {counted(self._texts, 'text')} ({self._broken / self._texts:.0%}) "
                f"{'is' if self._broken == 1 else 'are'} hardly in the language of the model's vocabulary, which "
                f"breaks a word into more than {BROKEN_TEXT:g} pieces there: little will come back. Use a model that "
                "was trained on this language."
            )
        return found


def loss_warnings(
    sentences: Sequence[str], vocabulary: TextTokenizer, encoders_own: TextTokenizer | None, max_tokens: int
) -> list[str]:
    """What preparation will lose of sentences like these, one sentence for each; none where all is carried.

    Args:
        sentences: A random sample.
        vocabulary: The decoder's.
        encoders_own: The encoder's, where it is known.
        max_tokens: Longer sentences are left out.
    """
    found = []
    lengths = sorted(map(len, vocabulary.encode_batch(sentences)))
    share = sum(length > max_tokens for length in lengths) / max(1, len(lengths))
    if share > LARGE_SHARE:
        enough = lengths[int((1 - LARGE_SHARE) * (len(lengths) - 1))]
        found.append(
            f"About {share:.1%} of the sentences have more than {max_tokens} tokens and are left out; to keep all but "
            f"{LARGE_SHARE:.0%}: --max-tokens {enough}, or give one sentence per line."
        )
    if encoders_own is None or encoders_own.vocab_size >= ONE_LANGUAGE:
        return found
    broken = sum(map(len, encoders_own.encode_batch(sentences))) / max(1, sum(map(count_words, sentences)))
    if broken > BROKEN_MEAN:
        found.append(
            f"The encoder breaks a word into {broken:.1f} pieces on average, and one of its own language into 1.2 to "
            "1.4: its vectors will carry little of this text. For another language: --encoder BAAI/bge-m3"
        )
    return found
