"""Checkpoints and encoders of strangers: each attack on a folder is refused in a sentence, and soon."""

import hashlib
import json
import os
import shutil
import signal
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_sgdd import build

from sgdd_engine import SGDD
from sgdd_engine.atomic_files import seal
from sgdd_engine.checkpoint import Checkpoint, load_training_state, read_info, save_checkpoint
from sgdd_engine.errors import SgddError
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder import load_encoder
from sgdd_engine.training.optimizer_step import Ema
from sgdd_engine.training.state import Progress, restore, training_state

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes, nor alarms"),
]
# No attack takes a second to refuse; what is not refused by then hangs.
SECONDS = 10
TEXT = "The baker found a letter near the river."


class Hung(BaseException):
    """Raised by the alarm; no `except Exception` on the way catches it."""


def outcome(act, good) -> str:
    """What comes of a folder: refused, equal to what it was, something else, or no sentence at all."""

    def ring(number, frame):
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        return "harmless" if act() == good else "silent"
    except SgddError as error:
        return "found" if error.message.endswith(".") and len(error.message) < 1000 else "bug"
    except (Exception, Hung):
        return "bug"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --- what is changed in a folder --------------------------------------------------------------------------


def edited(name: str, change):
    """Change the value of a JSON file: `change` does so in place, or returns another one."""

    def act(folder: Path) -> None:
        value = json.loads((folder / name).read_text()) if (folder / name).is_file() else {}
        result = change(value)
        (folder / name).write_text(json.dumps(value if result is None else result))

    return act


def put(name: str, keys: str, value: object):
    """Put a value at `a.b.c` of a JSON file."""

    def change(whole):
        inner = whole
        *path, last = keys.split(".")
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value

    return edited(name, change)


def raw(name: str, content: str | bytes):
    """Replace a file's content."""
    return lambda folder: (folder / name).write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


def without(name: str, *keys: str):
    def change(value):
        for key in keys[:-1]:
            value = value[key]
        del value[keys[-1]]

    return edited(name, change)


def tensors(change, name: str = "model.safetensors"):
    """Change the tensors of a file in place."""

    def act(folder: Path) -> None:
        found = load_file(folder / name)
        change(found)
        save_file(found, folder / name)

    return act


def put_number(number: float, name: str = "denoiser.head.table"):
    def change(found):
        found[name] = found[name].clone()
        found[name].view(-1)[3] = number

    return tensors(change)


def cast(dtype: torch.dtype):
    return tensors(
        lambda found: found.update({name: (tensor * 50).to(dtype) for name, tensor in found.items()})
    )


def header(change):
    """Change the header of the weights' file, as a value or as its text."""

    def act(folder: Path) -> None:
        path = folder / "model.safetensors"
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        value = json.loads(content[8 : 8 + length])
        result = change(value)
        text = (result if isinstance(result, str) else json.dumps(value)).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return act


def overlapping(value) -> None:
    names = [name for name in value if name != "__metadata__"]
    same = next(n for n in names[1:] if value[n]["shape"] == value[names[0]]["shape"])
    value[same]["data_offsets"] = value[names[0]]["data_offsets"]


def negative(value) -> None:
    value["null"]["data_offsets"] = [-4, 0]


def twice(value) -> str:
    text = json.dumps(value)
    return text[:-1] + ', "null": ' + json.dumps(value["null"]) + "}"


def pipe(name: str):
    def act(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return act


def zeros(name: str):
    def act(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")

    return act


def made_a_folder(name: str):
    def act(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return act


def refingerprint(folder: Path) -> None:
    """Say in `tokenizer_meta.json` that the tokenizer is as it should be."""
    meta = json.loads((folder / "tokenizer_meta.json").read_text())
    specials = {name: meta[name] for name in ("mask_id", "bos_id", "eos_id", "pad_id", "unk_id")}
    ids = json.dumps([meta["kind"], specials], sort_keys=True)
    text = (folder / "tokenizer.json").read_text()
    meta["fingerprint"] = hashlib.sha256((ids + text).encode()).hexdigest()
    (folder / "tokenizer_meta.json").write_text(json.dumps(meta))


def tokenizer(change):
    def act(folder: Path) -> None:
        edited("tokenizer.json", change)(folder)
        refingerprint(folder)

    return act


def swap_pieces(value) -> None:
    words = value["model"]["vocab"]
    words["found"], words["sold"] = words["sold"], words["found"]


def fewer_pieces(value) -> None:
    last = max(value["model"]["vocab"].values())
    value["model"]["vocab"] = {
        piece: index for piece, index in value["model"]["vocab"].items() if index < last
    }


def gigantic_id(value) -> None:
    value["model"]["vocab"]["found"] = 4_000_000_000


def slow_expression(value) -> None:
    value["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": r"^(([a-z .])+.)+$"},
        "behavior": "Isolated",
        "invert": False,
    }


def emptied_hashes_of_damaged_weights(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-100] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    (folder / "files.json").write_text("{}")


def first(folder: Path, value: object) -> None:
    hashes = json.loads((folder / "files.json").read_text())
    (folder / "files.json").write_text(json.dumps({**hashes, "config.json": value}))


C, D = "config.json", "model.decoder."
DEEP = "[" * 50_000 + "]" * 50_000
# Each is done to a sound checkpoint; its list of hashes is made anew afterwards, as whoever attacks would do.
RESEALED = {
    "weights: nan": put_number(float("nan")),
    "weights: inf": put_number(float("inf")),
    "weights: -inf in the statistics": put_number(float("-inf"), "standardize.mean"),
    "weights: a standard deviation of 0": put_number(0.0, "standardize.std"),
    "weights: a negative standard deviation": put_number(-1.0, "standardize.std"),
    "weights: int8": cast(torch.int8),
    "weights: int64": cast(torch.int64),
    "weights: truth values": cast(torch.bool),
    "weights: float64": cast(torch.float64),
    "weights: float8": cast(torch.float8_e4m3fn),
    "weights: a tensor is missing": tensors(lambda found: found.pop("null")),
    "weights: a buffer is missing": tensors(lambda found: found.pop("standardize.mean")),
    "weights: one more tensor": tensors(lambda found: found.update(other=torch.zeros(3))),
    "weights: another shape": tensors(lambda found: found.update(null=torch.zeros(3))),
    "weights: the same numbers in another shape": tensors(
        lambda found: found.update({"denoiser.head.table": found["denoiser.head.table"].T.contiguous()})
    ),
    "weights: none": tensors(lambda found: found.clear()),
    "weights: empty": raw("model.safetensors", b""),
    "weights: a header of 2 GB": raw("model.safetensors", struct.pack("<Q", 1 << 31) + b"{}"),
    "weights: a header of 2^63 bytes": raw("model.safetensors", struct.pack("<Q", 1 << 63) + b"{}"),
    "weights: a header that is no JSON": header(lambda value: "{" * 100),
    "weights: a header nested deep": header(lambda value: DEEP),
    "weights: offsets that overlap": header(overlapping),
    "weights: negative offsets": header(negative),
    "weights: a name twice": header(twice),
    "weights: a shape of 2^62": header(lambda value: value["null"].update(shape=[1 << 62])),
    "weights: cut off": lambda folder: os.truncate(folder / "model.safetensors", 5000),
    "weights: a pickle": raw(
        "model.safetensors", b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix"
    ),
    "config: a million layers": put(C, D + "layers", 10**6),
    "config: a thousand layers": put(C, D + "layers", 999),
    "config: layers: true": put(C, D + "layers", True),
    "config: layers: 1.0": put(C, D + "layers", 1.0),
    "config: layers: text": put(C, D + "layers", "1"),
    "config: layers: null": put(C, D + "layers", None),
    "config: layers: a list": put(C, D + "layers", [1]),
    "config: layers: 10^400": put(C, D + "layers", 10**400),
    "config: layers: -1": put(C, D + "layers", -1),
    "config: heads: 0": put(C, D + "heads", 0),
    "config: a width of 10^12": put(C, D + "width", 2 * 10**12),
    "config: memory tokens of 2^62": put(C, D + "memory_tokens", 1 << 62),
    "config: mlp_ratio: nan": put(C, D + "mlp_ratio", float("nan")),
    "config: mlp_ratio: inf": put(C, D + "mlp_ratio", float("inf")),
    "config: mlp_ratio: 10^300": put(C, D + "mlp_ratio", 1e300),
    "config: dropout: text": put(C, D + "dropout", "none"),
    "config: anchors: 1": put(C, D + "anchors", 1),
    "config: modulation: a list": put(C, D + "modulation", ["block"]),
    "config: an extra key": put(C, "extra", 1),
    "config: an extra key of the decoder": put(C, D + "extra", 1),
    "config: an extra key of the encoder": put(C, "encoder.extra", 1),
    "config: no decoder": without(C, "model", "decoder"),
    "config: no part of the model": put(C, "model", {}),
    "config: no encoder": without(C, "encoder"),
    "config: facts: null": put(C, "facts", None),
    "config: the model is a list": put(C, "model", []),
    "config: the vocabulary is 10^12": put(C, "model.vocabulary.size", 10**12),
    "config: another vocabulary": put(C, "model.vocabulary.size", 601),
    "config: the mask is another piece": put(C, "model.vocabulary.mask_id", 7),
    "config: a mask out of range": put(C, "model.vocabulary.mask_id", -1),
    "config: max_tokens: 0": put(C, "model.max_tokens", 0),
    "config: max_tokens: 10^15": put(C, "model.max_tokens", 10**15),
    "config: another embedding_dim": put(C, "model.embedding_dim", 33),
    "config: embedding_dim: null": put(C, "model.embedding_dim", None),
    "config: encoder.dim: text": put(C, "encoder.dim", "32"),
    "config: encoder.name: a number": put(C, "encoder.name", 7),
    "config: encoder.pooling: a list": put(C, "encoder.pooling", ["mean"]),
    "config: encoder.prompt: a number": put(C, "encoder.prompt", 7),
    "config: encoder.max_tokens: -5": put(C, "encoder.max_tokens", "many"),
    "config: the encoder is a list": put(C, "encoder", [1]),
    "config: schedule: a list": put(C, "diffusion.schedule", ["cosine"]),
    "config: schedule: unknown": put(C, "diffusion.schedule", "other"),
    "config: num_steps: true": put(C, "diffusion.num_steps", True),
    "config: format: true": put(C, "format", True),
    "config: format: 99": put(C, "format", 99),
    "config: trained_null: 1": put(C, "trained_null", 1),
    "config: step: text": put(C, "step", "7"),
    "config: step: -1": put(C, "step", -1),
    "config: sampling: a list": put(C, "sampling", [1]),
    "config: sampling.cfg: text": put(C, "sampling.cfg", "2"),
    "config: sampling.cfg: nan": put(C, "sampling.cfg", float("nan")),
    "config: sampling.cfg: true": put(C, "sampling.cfg", True),
    "config: sampling.steps: 10^400": put(C, "sampling.steps", 10**400),
    "config: sampling.position_rule: null": put(C, "sampling.position_rule", None),
    "config: confidence: a list": put(C, "confidence", [1]),
    "config: facts: a list": put(C, "facts", [1]),
    "config: facts.validation: a list": put(C, "facts.validation", [1]),
    "config: facts.validation.loss: text": put(C, "facts.validation.loss", "low"),
    "config: facts.training: text": put(C, "facts.training", "long"),
    "config: facts.training.null_rows: text": put(C, "facts.training.null_rows", "many"),
    "config: facts.settings: a list": put(C, "facts.settings", [1]),
    "config: facts.settings.start_from: a number": put(C, "facts.settings.start_from", 3),
    "config: facts.corpus: text": put(C, "facts.corpus", "tales"),
    "config: facts.corpus.folder: a number": put(C, "facts.corpus.folder", 3),
    "config: a list": raw(C, "[]"),
    "config: nested deep": raw(C, DEEP),
    "config: a key twice": lambda folder: (folder / C).write_text(
        '{"step": 3, ' + (folder / C).read_text().lstrip("{ \n")
    ),
    "config: not UTF-8": raw(C, b'{"format": "\xe9"}'),
    "config: empty": raw(C, ""),
    "config: a pipe": pipe(C),
    "config: an endless device": zeros(C),
    "config: a folder": made_a_folder(C),
    "tokenizer: one piece less": tokenizer(fewer_pieces),
    "tokenizer: pieces swapped": tokenizer(swap_pieces),
    "tokenizer: an id of four billion": tokenizer(gigantic_id),
    "tokenizer: a slow expression": tokenizer(slow_expression),
    "tokenizer: it keeps the case": tokenizer(lambda value: value["normalizer"].update(lowercase=False)),
    "tokenizer: no normalizer": tokenizer(lambda value: value.update(normalizer=None)),
    "tokenizer: of another kind": tokenizer(lambda value: value["model"].update(type="BPE")),
    "tokenizer: nested deep": raw("tokenizer.json", DEEP),
    "tokenizer: empty": raw("tokenizer.json", "{}"),
    "tokenizer: a pipe": pipe("tokenizer.json"),
    "tokenizer: the mask is text": put("tokenizer_meta.json", "mask_id", "5"),
    "tokenizer: the mask is true": put("tokenizer_meta.json", "mask_id", True),
    "tokenizer: the mask is -1": put("tokenizer_meta.json", "mask_id", -1),
    "tokenizer: the mask is 10^30": put("tokenizer_meta.json", "mask_id", 10**30),
    "tokenizer: the padding is a list": put("tokenizer_meta.json", "pad_id", [0]),
    "tokenizer: the unknown is 10^6": put("tokenizer_meta.json", "unk_id", 10**6),
    "tokenizer: an extra key": put("tokenizer_meta.json", "extra", 1),
    "tokenizer: version true": put("tokenizer_meta.json", "version", True),
    "tokenizer: kind a list": put("tokenizer_meta.json", "kind", ["encoder"]),
    "tokenizer: described by a list": raw("tokenizer_meta.json", "[]"),
    "tokenizer: described deep": raw("tokenizer_meta.json", DEEP),
    "training: no weights": lambda folder: (folder / "training" / "weights.safetensors").unlink(),
    "training: no moments": lambda folder: (folder / "training" / "optimizer.safetensors").unlink(),
    "training: weights of nan": tensors(
        lambda found: found.update({"null": found["null"] * float("nan")}), "training/weights.safetensors"
    ),
    "training: moments of inf": tensors(
        lambda found: found.update({"null:exp_avg": found["null:exp_avg"] + float("inf")}),
        "training/optimizer.safetensors",
    ),
    "training: a weight is missing": tensors(lambda found: found.pop("null"), "training/weights.safetensors"),
    "training: a moment of another shape": tensors(
        lambda found: found.update({"null:exp_avg": torch.zeros(3)}), "training/optimizer.safetensors"
    ),
    "training: a moment of nothing": tensors(
        lambda found: found.update({"other:exp_avg": torch.zeros(3)}), "training/optimizer.safetensors"
    ),
    "training: step: text": put("training/progress.json", "step", "3"),
    "training: step: true": put("training/progress.json", "step", True),
    "training: an extra key": put("training/progress.json", "extra", 3),
    "training: no step": without("training/progress.json", "step"),
    "training: progress a list": raw("training/progress.json", "[]"),
}
# These are about the list of hashes itself.
LISTS = {
    "hashes: emptied": raw("files.json", "{}"),
    "hashes: emptied, with damaged weights": emptied_hashes_of_damaged_weights,
    "hashes: a list": raw("files.json", "[]"),
    "hashes: none of the weights": without("files.json", "model.safetensors"),
    "hashes: none of the tokenizer": without("files.json", "tokenizer.json"),
    "hashes: none of the state of training": without("files.json", "training/optimizer.safetensors"),
    "hashes: one is null": lambda folder: first(folder, None),
    "hashes: one is a number": lambda folder: first(folder, 3),
    "hashes: one is an empty list": lambda folder: first(folder, []),
    "hashes: one is a list of lists": lambda folder: first(folder, [[]]),
    "hashes: one is short": lambda folder: first(folder, "00"),
    "hashes: a file outside": put("files.json", "../outside", "0" * 64),
    "hashes: an absolute name": put("files.json", "/etc/hostname", "0" * 64),
    "hashes: a NUL in a name": put("files.json", "model\0", "0" * 64),
    "hashes: a name of 100,000 letters": put("files.json", "model" * 20_000, "0" * 64),
    "hashes: nested deep": raw("files.json", DEEP),
    "hashes: a key twice": raw("files.json", '{"a": "", "a": ""}'),
    "hashes: a pipe": pipe("files.json"),
    "hashes: an endless device": zeros("files.json"),
    "hashes: a folder": made_a_folder("files.json"),
    "hashes: not UTF-8": raw("files.json", b"\xff"),
    "weights: a pipe": pipe("model.safetensors"),
    "weights: an endless device": zeros("model.safetensors"),
    "weights: a folder": made_a_folder("model.safetensors"),
}


@pytest.fixture(scope="module")
def sound(tiny_encoder, sentences, tmp_path_factory) -> Path:
    """A checkpoint with a state of training."""
    model = build(tiny_encoder, sentences[:20], width=16)
    network, state = model.model, model._checkpoint
    optimizer = torch.optim.AdamW(network.parameters())
    sum(parameter.sum() for parameter in network.parameters()).backward()
    optimizer.step()
    folder = tmp_path_factory.mktemp("hostile") / "sound"
    kept = training_state(network, optimizer, Progress(step=1))
    save_checkpoint(folder, Checkpoint(state.info, network, state.tokenizer), kept)
    return folder


def used(folder: Path) -> list[object]:
    """What a checkpoint gives, to write text with and to train on from."""
    info = read_info(folder)
    model = SGDD.from_pretrained(folder)
    vectors = torch.linspace(-1, 1, info.encoder.dim)[None]
    texts = [item.text for item in model.generate(vectors, seed=0)]
    ids = model.tokenizer.encode_batch([TEXT])
    figures = [info.validation_loss, info.null_rows, len(info.evaluations), info.to_dict()]
    state = load_training_state(folder)
    optimizer = torch.optim.AdamW(model.model.parameters())
    restore(state, model.model, optimizer, Ema.of(model.model, 0.9))
    progress = Progress.from_dict(state["progress.json"])
    weights = [float(parameter.detach().double().sum()) for parameter in model.model.parameters()]
    return [texts, ids, info.shareable() == info, figures, progress, weights]


@pytest.fixture(scope="module")
def as_it_was(sound) -> list[object]:
    return used(sound)


@pytest.mark.parametrize("attack", RESEALED)
def test_a_hostile_checkpoint(attack, sound, as_it_was, faults, tmp_path):
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    RESEALED[attack](folder)
    if all(path.is_file() or path.is_dir() for path in folder.iterdir()):
        seal(folder)
    faults.tell(outcome(lambda: used(folder), as_it_was), attack)


@pytest.mark.parametrize("attack", LISTS)
def test_a_hostile_list_of_hashes(attack, sound, as_it_was, faults, tmp_path):
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    LISTS[attack](folder)
    faults.tell(outcome(lambda: used(folder), as_it_was), attack)


# --- encoders ---------------------------------------------------------------------------------------------

T, S, P, L = (
    "tokenizer_config.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
)
ENCODERS = {
    "config: a million layers": put(C, "num_hidden_layers", 10**6),
    "config: a million layers of another kind": lambda folder: (
        put(C, "num_hidden_layers", 10**6)(folder),
        put(C, "model_type", "electra")(folder),
    ),
    "config: layers: true": put(C, "num_hidden_layers", True),
    "config: layers: text": put(C, "num_hidden_layers", "2"),
    "config: layers: -1": put(C, "num_hidden_layers", -1),
    "config: layers: 10^400": put(C, "num_hidden_layers", 10**400),
    "config: a width of 10^12": put(C, "hidden_size", 10**12),
    "config: a width of 0": put(C, "hidden_size", 0),
    "config: 10^12 pieces": put(C, "vocab_size", 10**12),
    "config: 10^12 positions": put(C, "max_position_embeddings", 10**12),
    "config: 10^12 inside": put(C, "intermediate_size", 10**12),
    "config: no heads": put(C, "num_attention_heads", 0),
    "config: heads: a list": put(C, "num_attention_heads", [2]),
    "config: epsilon: nan": put(C, "layer_norm_eps", float("nan")),
    "config: epsilon: text": put(C, "layer_norm_eps", "small"),
    "config: padding: text": put(C, "pad_token_id", "0"),
    "config: padding: -1": put(C, "pad_token_id", -7),
    "config: activation: a number": put(C, "hidden_act", 7),
    "config: activation: unknown": put(C, "hidden_act", "other"),
    "config: model_type: a list": put(C, "model_type", ["bert"]),
    "config: model_type: unknown": put(C, "model_type", "other"),
    "config: code from the hub": put(C, "auto_map", {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}),
    "config: a list": raw(C, "[]"),
    "config: a number": raw(C, "7"),
    "config: nested deep": raw(C, DEEP),
    "config: a key twice": raw(C, '{"model_type": "bert", "model_type": "bert"}'),
    "config: a pipe": pipe(C),
    "config: a folder": made_a_folder(C),
    "modules: an object": raw("modules.json", "{}"),
    "modules: a number": raw("modules.json", "7"),
    "modules: null": raw("modules.json", "null"),
    "modules: a list of numbers": raw("modules.json", "[1, 2]"),
    "modules: nested deep": raw("modules.json", DEEP),
    "modules: no path": edited("modules.json", lambda value: value[1].pop("path")),
    "modules: a path outside": edited("modules.json", lambda value: value[1].update(path="../../1_Pooling")),
    "modules: an absolute path": edited("modules.json", lambda value: value[1].update(path="/etc")),
    "modules: a NUL in a path": edited("modules.json", lambda value: value[1].update(path="\0")),
    "modules: a path that is a list": edited("modules.json", lambda value: value[1].update(path=[1])),
    "modules: foreign code": edited("modules.json", lambda value: value[1].update(type="evil.Pooling")),
    "modules: a pipe": pipe("modules.json"),
    "pooling: a list": raw(P, "[]"),
    "pooling: nested deep": raw(P, DEEP),
    "pooling: mode a number": put(P, "pooling_mode", 7),
    "pooling: mode null": put(P, "pooling_mode", None),
    "pooling: mode a list of lists": put(P, "pooling_mode", [["mean"]]),
    "pooling: mode an object": put(P, "pooling_mode", {"mean": 1}),
    "pooling: a pipe": pipe(P),
    "length: text": put(S, "max_seq_length", "many"),
    "length: a list": put(S, "max_seq_length", [48]),
    "length: true": put(S, "max_seq_length", True),
    "length: inf": put(S, "max_seq_length", float("inf")),
    "length: nan": put(S, "max_seq_length", float("nan")),
    "length: -5": put(S, "max_seq_length", -5),
    "length: 10^30": put(S, "max_seq_length", 10**30),
    "length: 1.5": put(S, "max_seq_length", 1.5),
    "lower case: text": put(S, "do_lower_case", "no"),
    "settings: a list": raw(S, "[1]"),
    "settings: nested deep": raw(S, DEEP),
    "prompts: a list": raw(L, '{"prompts": ["a"], "default_prompt_name": "a"}'),
    "prompts: a number": raw(L, '{"prompts": {"a": 7}, "default_prompt_name": "a"}'),
    "prompts: text": raw(L, '{"prompts": "a", "default_prompt_name": "a"}'),
    "prompts: the name a list": raw(L, '{"prompts": {"a": "b"}, "default_prompt_name": ["a"]}'),
    "prompts: the name an object": raw(L, '{"prompts": {"a": "b"}, "default_prompt_name": {"a": 1}}'),
    "prompts: a million letters": raw(
        L, json.dumps({"prompts": {"a": "b " * 10**6}, "default_prompt_name": "a"})
    ),
    "prompts: a lone surrogate": raw(L, '{"prompts": {"a": "\\ud800"}, "default_prompt_name": "a"}'),
    "dimensions: true": raw(L, '{"truncate_dim": true}'),
    "dimensions: -1": raw(L, '{"truncate_dim": -1}'),
    "dimensions: 1e3": raw(L, '{"truncate_dim": 1e3}'),
    "tokenizer: length text": put(T, "model_max_length", "long"),
    "tokenizer: length a list": put(T, "model_max_length", [64]),
    "tokenizer: length inf": put(T, "model_max_length", float("inf")),
    "tokenizer: length -1": put(T, "model_max_length", -1),
    "tokenizer: length 0": put(T, "model_max_length", 0),
    "tokenizer: length true": put(T, "model_max_length", True),
    "tokenizer: the mask a number": put(T, "mask_token", 7),
    "tokenizer: of a foreign class": put(T, "tokenizer_class", "EvilTokenizer"),
    "tokenizer: code from the hub": put(T, "auto_map", {"AutoTokenizer": ["evil.Tok", "evil.Tok"]}),
    "tokenizer: settings a list": raw(T, "[]"),
    "tokenizer: settings nested deep": raw(T, DEEP),
    "tokenizer: nested deep": raw("tokenizer.json", DEEP),
    "tokenizer: empty": raw("tokenizer.json", "{}"),
    "tokenizer: a list": raw("tokenizer.json", "[]"),
    "tokenizer: an id of four billion": edited("tokenizer.json", gigantic_id),
    "tokenizer: a pipe": pipe("tokenizer.json"),
    "weights: nan": put_number(float("nan"), "embeddings.word_embeddings.weight"),
    "weights: int8": cast(torch.int8),
    "weights: a tensor is missing": tensors(lambda found: found.pop("embeddings.LayerNorm.weight")),
    "weights: another shape": tensors(
        lambda found: found.update({"embeddings.LayerNorm.weight": torch.zeros(3)})
    ),
    "weights: empty": raw("model.safetensors", b""),
    "weights: a header of 2 GB": raw("model.safetensors", struct.pack("<Q", 1 << 31) + b"{}"),
    "weights: a pipe": pipe("model.safetensors"),
    "weights: a folder": made_a_folder("model.safetensors"),
    "weights: an index that names files outside": lambda folder: (
        (folder / "model.safetensors").unlink(),
        raw("model.safetensors.index.json", '{"weight_map": {"a": "../../../etc/passwd"}}')(folder),
    ),
    "weights: a pickle that runs code": lambda folder: (
        (folder / "model.safetensors").unlink(),
        raw("pytorch_model.bin", b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")(folder),
    ),
}


@pytest.fixture(scope="module")
def encoded(tiny_encoder_folder) -> list[list[float]]:
    return load_encoder(EncoderConfig(name=str(tiny_encoder_folder))).encode([TEXT]).tolist()


@pytest.mark.parametrize("attack", ENCODERS)
def test_a_hostile_encoder(attack, tiny_encoder_folder, encoded, faults, tmp_path):
    folder = Path(shutil.copytree(tiny_encoder_folder, tmp_path / "encoder"))
    ENCODERS[attack](folder)
    config = EncoderConfig(name=str(folder))
    faults.tell(outcome(lambda: load_encoder(config).encode([TEXT]).tolist(), encoded), attack)
