import pytest
import torch
from test_tokenizer import byte_level

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.embedding_init import initial_embedding, spell_pieces
from sgdd_engine.text.tokenizer import TextTokenizer, train_unigram


@pytest.fixture(scope="module")
def trained(sentences):
    return train_unigram(iter(sentences), 1500)


def test_the_table_is_the_principal_components_of_the_word_table(tiny_encoder):
    tokenizer = TextTokenizer.from_encoder(tiny_encoder)
    words = tiny_encoder.word_embeddings().double()
    full = initial_embedding(tiny_encoder, tokenizer, words.shape[1]).double()
    centred = words - words.mean(dim=0)
    # A rotation and one scale keep all angles and all ratios of lengths.
    scale = centred.norm() / full.norm()
    torch.testing.assert_close(full @ full.T * scale**2, centred @ centred.T, rtol=1e-4, atol=1e-5)
    assert full.norm(dim=1).mean() == pytest.approx(1, abs=1e-5)
    assert full.mean(dim=0).abs().max() < 1e-5
    # Each direction holds at most the variance of the one before, and they are uncorrelated.
    covariance = full.T @ full
    assert (covariance.diagonal().diff() <= 1e-9).all()
    off = covariance - covariance.diagonal().diag()
    assert off.abs().max() < 1e-4 * covariance.max()
    narrow = initial_embedding(tiny_encoder, tokenizer, 8).double()
    torch.testing.assert_close(narrow / narrow.norm(), full[:, :8] / full[:, :8].norm(), rtol=1e-4, atol=1e-6)
    wide = initial_embedding(tiny_encoder, tokenizer, 48)
    assert wide.shape == (tokenizer.vocab_size, 48)
    assert wide.dtype == torch.float32
    assert not wide[:, 32:].any()


def test_pieces_start_from_the_mean_of_what_spells_them(tiny_encoder, trained):
    spellings = spell_pieces(tiny_encoder.tokenizer, trained)
    vocabulary = tiny_encoder.tokenizer.get_vocab()
    ids = {trained.piece(index): index for index in range(trained.vocab_size)}
    assert spellings[ids["▁garden"]] == [vocabulary["garden"]]
    assert spellings[ids["▁Anna"]] == [vocabulary["anna"]]
    assert spellings[ids["."]] == [vocabulary["."]]
    assert spellings[ids["▁didn't"]] == [vocabulary["didn"], vocabulary["'"], vocabulary["t"]]
    assert spellings[ids["g"]] == [vocabulary["##g"]]
    assert spellings[ids["<0x41>"]] == spellings[ids["▁"]] == []
    for name, word in (
        ("mask", "[MASK]"),
        ("bos", "[CLS]"),
        ("eos", "[SEP]"),
        ("pad", "[PAD]"),
        ("unk", "[UNK]"),
    ):
        assert spellings[getattr(trained, f"{name}_id")] == [vocabulary[word]]

    words = tiny_encoder.word_embeddings().double()
    known = [index for index, spelling in enumerate(spellings) if spelling]
    rows = torch.stack([words[spellings[index]].mean(dim=0) for index in known])
    centred = rows - rows.mean(dim=0)
    table = initial_embedding(tiny_encoder, trained, 32)
    found = table[known].double()
    scale = centred.norm() / found.norm()
    torch.testing.assert_close(found @ found.T * scale**2, centred @ centred.T, rtol=1e-3, atol=1e-5)
    assert not table[ids["<0x41>"]].any()


def test_unigram_and_byte_level_encoders_spell_pieces_too(tiny_xlmr, trained, sentences):
    ids = {trained.piece(index): index for index in range(trained.vocab_size)}
    xlmr = spell_pieces(tiny_xlmr.tokenizer, trained)
    vocabulary = tiny_xlmr.tokenizer.get_vocab()
    assert xlmr[ids["▁the"]] == [vocabulary["▁the"]]
    assert xlmr[trained.mask_id] == [vocabulary["<mask>"]]
    assert initial_embedding(tiny_xlmr, trained, 16).isfinite().all()
    bare = byte_level(sentences)
    spelt = spell_pieces(bare, trained)
    assert bare.decode(spelt[ids["▁garden"]]) == " garden"
    assert bare.decode(spelt[ids["."]]) == "."
    assert spelt[trained.mask_id] == []


def test_another_encoders_vocabulary_is_refused(tiny_encoder, tiny_xlmr):
    with pytest.raises(EncoderError, match="not that of the encoder"):
        initial_embedding(tiny_encoder, TextTokenizer.from_encoder(tiny_xlmr), 16)
