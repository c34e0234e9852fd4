"""An encoder that is loaded when the first vector is needed is the encoder that is loaded at once."""

import shutil

import pytest
import torch

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder import load_encoder, load_encoder_lazily


@pytest.mark.parametrize("precision", ["auto", "bf16"])
@pytest.mark.parametrize("folder", ["tiny_encoder_folder", "tiny_xlmr_folder"])
def test_it_is_known_as_the_same_and_gives_the_same(request, sentences, folder, precision):
    config = EncoderConfig(name=str(request.getfixturevalue(folder)), max_tokens=20, precision=precision)
    deferred, loaded = load_encoder_lazily(config), load_encoder(config)
    assert deferred.reference == loaded.reference
    assert torch.equal(deferred.encode(sentences[:50]), loaded.encode(sentences[:50]))
    assert torch.equal(deferred.word_embeddings(), loaded.word_embeddings())
    again = load_encoder(loaded.reference.config())
    assert again.reference == loaded.reference


@pytest.mark.offline_encoder
def test_minilm_is_known_as_the_same():
    config = EncoderConfig(name="minilm")
    assert load_encoder_lazily(config).reference == load_encoder(config).reference


def test_text_is_cut_without_the_weights_and_a_vector_needs_them(tiny_encoder_folder, tmp_path, sentences):
    folder = shutil.copytree(tiny_encoder_folder, tmp_path / "encoder")
    encoder = load_encoder_lazily(EncoderConfig(name=str(folder)))
    (folder / "model.safetensors").unlink()
    assert len(encoder.tokenize(sentences)) == 400
    assert list(encoder.encode_parts(encoder.tokenize([]))) == []
    with pytest.raises(EncoderError, match="no weights"):
        encoder.encode(sentences[:1])
    with pytest.raises(EncoderError, match="no weights"):
        load_encoder_lazily(EncoderConfig(name=str(folder)))
