"""An encoder that is loaded when the first vector is needed is the encoder that is loaded at once."""

import shutil

import pytest
import torch

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.deferred import config_like, defer_encoder
from sgdd_engine.text.encoder import load_encoder


@pytest.mark.parametrize("precision", ["auto", "bf16"])
@pytest.mark.parametrize("folder", ["tiny_encoder_folder", "tiny_xlmr_folder"])
def test_it_is_known_as_the_same_and_gives_the_same(request, sentences, folder, precision):
    config = EncoderConfig(name=str(request.getfixturevalue(folder)), max_tokens=20, precision=precision)
    deferred, loaded = defer_encoder(config), load_encoder(config)
    assert deferred.reference == loaded.reference
    assert torch.equal(deferred.encode(sentences[:50]), loaded.encode(sentences[:50]))
    assert torch.equal(deferred.word_table(), loaded.word_table())
    again = load_encoder(config_like(loaded.reference))
    assert again.reference == loaded.reference


@pytest.mark.offline_encoder
def test_minilm_is_known_as_the_same():
    config = EncoderConfig(name="minilm")
    assert defer_encoder(config).reference == load_encoder(config).reference


def test_text_is_cut_without_the_weights_and_a_vector_needs_them(tiny_encoder_folder, tmp_path, sentences):
    folder = shutil.copytree(tiny_encoder_folder, tmp_path / "encoder")
    encoder = defer_encoder(EncoderConfig(name=str(folder)))
    (folder / "model.safetensors").unlink()
    assert len(encoder.cut(sentences)) == 400
    assert list(encoder.encode_parts(encoder.cut([]))) == []
    with pytest.raises(EncoderError, match="no weights"):
        encoder.encode(sentences[:1])
    with pytest.raises(EncoderError, match="no weights"):
        defer_encoder(EncoderConfig(name=str(folder)))
