"""Our own BERT and its tokenizer give what transformers gives, and leave to it what they do not know."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import write_json
from safetensors.torch import load_file, save_file

from sgdd_engine.errors import EncoderError
from sgdd_engine.mini import SENTENCES
from sgdd_engine.text.bert import BertEncoder, load_bert, read_bert_config
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder import load_encoder, load_encoder_lazily
from sgdd_engine.text.encoder_files import minilm_folder
from sgdd_engine.text.encoder_network import NetworkSize, load_network, outline_network, read_encoder_spec
from sgdd_engine.text.encoder_tokenizer import (
    FastTokenizer,
    hash_tokenizer,
    read_bert_tokenizer,
    untruncated_copy,
)
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.text.transformers_loading import load_auto_model, load_auto_tokenizer, outline_auto_model

CPU = torch.device("cpu")
ODD = [
    "",
    " ",
    "🙂 👩‍👩‍👧 ❤️",
    "Crème brûlée, Ångström, İstanbul, straße, cafe\u0301",
    "今日は良い天気です。你好，世界！",
    "ภาษาไทย हिन्दी में लिखो مرحبا Привет",
    "ﬁ ① ＡＢＣ ½ x² ™",
    "\u200b\u00ad\u0000 zero\u200dwidth\ttab\nline",
    "[MASK] [CLS] [SEP] [PAD] </s> <mask> ##ing",
    "Antidisestablishmentarianism" * 5,
    "word " * 400,
]


def varied(sentences: list[str]) -> list[str]:
    """More than 200 texts: short, odd, and some of more than 100 tokens."""
    long = [" ".join(sentences[start : start + 12]) for start in range(0, 120, 12)]
    return [*sentences[:180], *long, *ODD]


@pytest.fixture(scope="module")
def tiny_roberta_folder(tiny_encoder_folder, tmp_path_factory):
    """A RobertaModel in BERT's clothes: the tokenizer does not matter to the network."""
    from transformers import RobertaConfig, RobertaModel

    folder = Path(shutil.copytree(tiny_encoder_folder, tmp_path_factory.mktemp("roberta") / "encoder"))
    torch.manual_seed(9)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = RobertaConfig(
        vocab_size=200, max_position_embeddings=70, type_vocab_size=1, initializer_range=0.2, **sizes
    )
    RobertaModel(config).save_pretrained(folder)
    return folder


def hash_of(tokenizer) -> str:
    return hash_tokenizer(tokenizer, untruncated_copy(tokenizer))


FOLDERS = ["tiny_encoder_folder", "tiny_xlmr_folder", "tiny_roberta_folder"]


def compared(config: EncoderConfig, folder: Path, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors by our network, together and one by one, and by that of transformers."""
    encoder = load_encoder(config)
    assert isinstance(encoder._network, BertEncoder)
    both = []
    for network in (encoder._network, load_auto_model(folder, getattr(torch, encoder.reference.dtype), CPU)):
        encoder._network = network
        both.append(torch.cat([encoder.encode(texts), *(encoder.encode([text]) for text in texts[::4])]))
    return both[0], both[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", FOLDERS)
def test_vectors_are_those_of_transformers(kind, precision, request, sentences):
    folder = request.getfixturevalue(kind)
    ours, theirs = compared(EncoderConfig(name=str(folder), precision=precision), folder, varied(sentences))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.offline_encoder
def test_vectors_of_minilm_are_those_of_transformers(sentences):
    folder = minilm_folder()
    written = SENTENCES.read_text(encoding="utf-8").splitlines()
    texts = [*varied(written)[:150], *ODD, *varied(sentences)[180:190]]
    encoder = load_encoder(EncoderConfig(name="minilm"))
    assert isinstance(encoder.tokenizer, FastTokenizer)
    assert sum(encoder.tokenize(texts).lengths > 100) >= 5
    ours, theirs = compared(EncoderConfig(name="minilm"), folder, texts)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert load_encoder_lazily(EncoderConfig(name="minilm")).reference == encoder.reference
    assert NetworkSize.of(outline_auto_model(folder)) == NetworkSize.of(outline_network(folder))
    # A corpus is given the same tokenizer, to the byte.
    read, asked = encoder.tokenizer, load_auto_tokenizer(folder)
    assert hash_of(read) == hash_of(asked)
    assert TextTokenizer.from_fast(read).fingerprint() == TextTokenizer.from_fast(asked).fingerprint()
    for name in ("mask", "cls", "sep", "bos", "eos", "unk", "pad"):
        assert getattr(read, f"{name}_token_id") == getattr(asked, f"{name}_token_id")
    assert read.model_max_length == asked.model_max_length
    assert read.get_vocab() == asked.get_vocab()


@pytest.mark.parametrize("kind", FOLDERS)
def test_sizes_are_those_of_transformers(kind, request):
    folder = request.getfixturevalue(kind)
    loaded = NetworkSize.of(load_network(folder, torch.float32, CPU))
    assert loaded == NetworkSize.of(outline_network(folder)) == NetworkSize.of(outline_auto_model(folder))
    assert loaded == NetworkSize.of(load_auto_model(folder, torch.float32, CPU))


def test_the_reference_encoder_has_the_sizes_that_transformers_gives_it(tmp_path):
    described = {
        "model_type": "xlm-roberta",
        "vocab_size": 250_002,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "max_position_embeddings": 8194,
        "type_vocab_size": 1,
    }
    write_json(tmp_path / "config.json", described)
    theirs = NetworkSize.of(outline_auto_model(tmp_path))
    assert read_encoder_spec(EncoderConfig()).parameters == theirs.parameters
    assert (theirs.positions, theirs.pieces) == (8192, 250_002)


def test_the_network_has_gradients(tiny_encoder_folder):
    network = load_network(tiny_encoder_folder, torch.float32, CPU).requires_grad_()
    network(input_ids=torch.tensor([[2, 9, 3]]))[0].square().sum().backward()
    unused = {name for name, weights in network.named_parameters() if weights.grad is None}
    assert unused == set()


@pytest.fixture
def copied(tiny_encoder_folder, tmp_path):
    """A copy of the tiny BERT's folder that a test may change."""
    return Path(shutil.copytree(tiny_encoder_folder, tmp_path / "encoder"))


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "gelu_new"},
        {"position_embedding_type": "relative_key"},
        {"model_type": "distilbert"},
        {"is_decoder": True},
        {"a_key_of_tomorrow": 1},
        {"quantization_config": {"quant_method": "x"}},
        {"num_hidden_layers": None},
        {"layer_norm_eps": None},
        {"num_attention_heads": 5},
        {"num_attention_heads": "2"},
        {"hidden_size": 0},
        {"pad_token_id": 10_000},
    ],
)
def test_a_configuration_that_is_not_known_whole_is_left_to_transformers(copied, change):
    values = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    assert read_bert_config(copied) is not None
    write_json(copied / "config.json", values | change)
    assert read_bert_config(copied) is None


def test_what_another_reader_makes_of_a_configuration_is_what_is_used(copied, tiny_encoder, sentences):
    values = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    write_json(copied / "config.json", values | {"hidden_act": "relu"})
    encoder = load_encoder(EncoderConfig(name=str(copied)))
    assert type(encoder._network).__name__ == "BertModel"
    assert not torch.allclose(encoder.encode(sentences[:3]), tiny_encoder.encode(sentences[:3]), atol=1e-3)
    lazy = load_encoder_lazily(EncoderConfig(name=str(copied)))
    assert lazy.reference == encoder.reference
    assert torch.equal(lazy.encode(sentences[:3]), encoder.encode(sentences[:3]))


def resave(folder: Path, change) -> None:
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def test_a_file_of_weights_that_does_not_fit_is_left_to_transformers(copied, tiny_encoder, sentences):
    config, name = read_bert_config(copied), "encoder.layer.1.output.dense.weight"

    def own() -> BertEncoder | None:
        return load_bert(copied, config, torch.float32, CPU)

    whole = load_file(copied / "model.safetensors")
    for change in (
        lambda w: {k: v for k, v in w.items() if k != name},
        lambda w: w | {name: w[name][:, :5].contiguous()},
        lambda w: w | {name: w[name].long()},
        lambda w: w | {"encoder.layer.2.output.dense.weight": w[name].clone()},
    ):
        resave(copied, lambda _, change=change: change(whole))
        assert own() is None
    resave(copied, lambda _: {f"bert.{k}": v for k, v in whole.items()} | {"cls.bias": torch.zeros(3)})
    assert own() is not None
    encoder = load_encoder(EncoderConfig(name=str(copied)))
    assert torch.equal(encoder.encode(sentences[:5]), tiny_encoder.encode(sentences[:5]))
    (copied / "model.safetensors").write_bytes(b"not a weight file")
    assert own() is None
    (copied / "config.json").write_text("[]")
    with pytest.raises(EncoderError, match="JSON object"):
        read_bert_config(copied)


@pytest.fixture
def plain(tmp_path):
    """The folder of a BERT whose tokenizer `transformers` saved, with nothing unusual."""
    from transformers import BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cafe", "letter", "##s", "A", "café", "愛"]
    vocabulary = {piece: number for number, piece in enumerate(words)}
    BertTokenizer(vocab=vocabulary, model_max_length=64).save_pretrained(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "bert"})
    return tmp_path


def test_a_plain_tokenizer_is_read_without_transformers(plain):
    read, asked = read_bert_tokenizer(plain), load_auto_tokenizer(plain)
    assert read is not None
    assert hash_of(read) == hash_of(asked)
    assert TextTokenizer.from_fast(read).fingerprint() == TextTokenizer.from_fast(asked).fingerprint()


@pytest.mark.parametrize(
    ("file", "change"),
    [
        # transformers takes these from tokenizer_config.json, whatever tokenizer.json says.
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"strip_accents": False}),
        ("tokenizer_config.json", {"tokenize_chinese_chars": False}),
        ("tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"}),
        ("tokenizer_config.json", {"mask_token": "a"}),
        ("tokenizer_config.json", {"a_key_of_tomorrow": 1}),
        ("tokenizer_config.json", {"model_max_length": None}),
        ("tokenizer.json", {"normalizer": None}),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}),
        ("tokenizer.json", {"post_processor": None}),
        ("tokenizer.json", {"added_tokens": []}),
        ("special_tokens_map.json", {"cls_token": "a"}),
        ("added_tokens.json", {"<new>": 12}),
        ("config.json", {"model_type": "mpnet"}),
    ],
)
def test_a_tokenizer_that_is_not_surely_the_same_is_left_to_transformers(plain, file, change):
    path = plain / file
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, values | change)
    assert read_bert_tokenizer(plain) is None
    path.write_text("{")
    assert read_bert_tokenizer(plain) is None
