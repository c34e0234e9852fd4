"""What a vocabulary leaves of texts is said, with its share."""

import pytest

from sgdd_engine.generation import SGDD
from sgdd_engine.mini import MINI
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.text.vocabulary_fit import VocabularyFit, loss_warnings

GERMAN = "Der alte Bauer verkaufte zwei braune Pferde auf dem Markt."
ENGLISH = "The old farmer sold two brown horses at the market."


@pytest.fixture(scope="module")
def mini():
    return SGDD.from_pretrained(MINI, "cpu")


def warnings(model, *texts):
    fit = model.vocabulary_fit()
    fit.add(texts, model.tokenizer.encode_batch(texts))
    return fit.warnings()


def test_plain_english_is_carried(mini):
    assert warnings(mini, ENGLISH, "He ran home.") == []


def test_german_for_an_english_model_is_said(mini):
    (message,) = warnings(mini, GERMAN)
    assert message.startswith("1 of 1 text (100%) is hardly in the language of the model's vocabulary")
    (message,) = warnings(mini, *[ENGLISH] * 3, GERMAN)
    assert message.startswith("1 of 4 texts (25%) is")
    assert warnings(mini, *[ENGLISH] * 30, GERMAN) == [], "one of many may be a name"


def test_the_share_of_tokens_beyond_the_length_is_said(mini):
    four = " ".join([ENGLISH] * 4)
    count = len(mini.tokenizer.encode_batch([four])[0])
    (message,) = warnings(mini, four)
    assert message.startswith(f"1 text has {count} tokens, and this model writes at most 32: ")
    assert f"{(count - 32) / count:.0%} of all tokens are lost" in message


def test_pieces_the_vocabulary_does_not_know_are_counted():
    fit = VocabularyFit(max_tokens=8, unk_id=3)
    fit.add(["He saw a gnu."], [[5, 6, 7, 3]])
    (message,) = fit.warnings()
    assert message.startswith("25% of the tokens (1 of 4) are unknown to the model's vocabulary")


def test_a_language_the_encoder_does_not_know_is_said_before_it_is_encoded(mini):
    minilm = TextTokenizer.from_encoder(mini.encoder)
    (message,) = loss_warnings([GERMAN] * 20, minilm, minilm, 64)
    assert message.startswith("The encoder breaks a word into 2.")
    assert loss_warnings([ENGLISH] * 20, minilm, minilm, 64) == []
    assert loss_warnings([GERMAN] * 20, minilm, None, 64) == []
