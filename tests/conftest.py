"""Fixtures shared by all parts: tiny encoders of real classes, and some sentences."""

import atexit
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fault_report import faults, pytest_addoption, pytest_configure, pytest_terminal_summary

__all__ = ["faults", "pytest_addoption", "pytest_configure", "pytest_terminal_summary"]

# Tests may run side by side on few cores; the tiny models gain nothing from threads.
torch.set_num_threads(1)
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Under nohup a hangup is ignored, by the programs that a test starts too. A handler of Python's is not handed on.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)
# So is Ctrl-C in what a shell without job control starts in the background.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# What commands remember for a day is not to be found among what the user's own commands remember.
_cache = tempfile.TemporaryDirectory(prefix="sgdd-cache-")
atexit.register(_cache.cleanup)
os.environ["XDG_CACHE_HOME"] = _cache.name
# pytest-xdist gives its workers the width of its own terminal, to which tables would be fitted.
os.environ.pop("COLUMNS", None)

SPECIALS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with most slow tests begin first: otherwise one process runs such a file when the other has finished."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def make_sentences() -> list[str]:
    people = ["Anna", "the baker", "our teacher", "Tom", "a tired farmer", "the old sailor"]
    verbs = ["found", "carried", "sold", "painted", "forgot"]
    things = ["a blue cup", "the heavy map", "two warm coats", "a letter", "the broken clock", "some bread"]
    places = ["in the garden", "near the river", "at night", "before the storm", "by the station"]
    rows = []
    for index, (who, did, what, where) in enumerate(itertools.product(people, verbs, things, places)):
        sentence = f"{who} {did} {what} {where}."
        if index % 7 == 0:
            sentence = f"{who} didn't say, but {did} {what} {where}."
        rows.append(sentence[0].upper() + sentence[1:])
    # A stride that shares no factor with 900 spreads the 400 over the whole grammar.
    return [rows[(index * 7) % len(rows)] for index in range(400)]


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """400 distinct cased sentences of 6 to 14 words."""
    return make_sentences()


@pytest.fixture(scope="session")
def python_steps() -> Callable[[Callable[[], object]], int]:
    """Counts the lines, calls and returns of Python code that a function runs: the same on a busy machine."""

    def count(function: Callable[[], object]) -> int:
        steps = 0

        def trace(frame, event, arg):
            nonlocal steps
            steps += 1
            return trace

        before = sys.gettrace()
        gc.disable()  # so that no collection runs code of its own in between
        sys.settrace(trace)
        try:
            function()
        finally:
            sys.settrace(before)
            gc.enable()
        return steps

    return count


@pytest.fixture(scope="session")
def loaded_python() -> Iterator[str]:
    """A program that does what this interpreter does, with PyTorch loaded already (see `fork_server.py`)."""
    # A short name: the address of a socket has 100 characters at most.
    with tempfile.TemporaryDirectory(prefix="sgdd-") as folder:
        command = [sys.executable, str(Path(__file__).with_name("fork_server.py")), "--serve", folder]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}
        environment |= {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout.readline() == "ready\n"
                yield str(Path(folder) / "python")
            finally:
                server.terminate()


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def write_module_chain(folder: Path, pooling: dict[str, object], max_tokens: int, *extra: str) -> None:
    """The files by which sentence-transformers describes Transformer → Pooling → Normalize."""
    kinds = [
        ("Transformer", ""),
        ("Pooling", "1_Pooling"),
        *((kind, f"{i + 2}_{kind}") for i, kind in enumerate(extra)),
    ]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", pooling)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})


@pytest.fixture(scope="session")
def tiny_encoder_folder(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    """A real BertModel of 2 layers × 32 with an uncased WordPiece vocabulary and mean pooling."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = sorted({w.strip(".,").lower() for s in sentences for w in s.replace("'", " ").split()})
    pieces = [*SPECIALS.values(), *letters, *(f"##{c}" for c in letters), *".,'!?-\"", *words]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **SPECIALS).save_pretrained(
        folder
    )

    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        # Larger than usual, so that untrained vectors of different sentences differ well.
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    write_module_chain(
        folder, {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}, 48, "Normalize"
    )
    return folder


@pytest.fixture(scope="session")
def tiny_xlmr_folder(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    """A real XLMRobertaModel of 1 layer × 32 with a cased Unigram vocabulary and CLS pooling."""
    from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizer

    from sgdd_engine.text.unigram import build_unigram

    folder = tmp_path_factory.mktemp("tiny-xlmr")
    state = json.loads(build_unigram(sentences, 200).to_str())
    pieces = [tuple(row) for row in state["model"]["vocab"]]
    XLMRobertaTokenizer(vocab=[*pieces, ("<mask>", 0.0)], model_max_length=64).save_pretrained(folder)

    torch.manual_seed(8)
    config = XLMRobertaConfig(
        vocab_size=len(pieces) + 1,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        type_vocab_size=1,
        initializer_range=0.2,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    write_module_chain(folder, {"embedding_dimension": 32, "pooling_mode": "cls"}, 64, "Normalize")
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tiny_encoder_folder: Path):
    """The tiny BERT, loaded."""
    from sgdd_engine.text.config import EncoderConfig
    from sgdd_engine.text.encoder import load_encoder

    return load_encoder(EncoderConfig(name=str(tiny_encoder_folder)))


@pytest.fixture(scope="session")
def tiny_xlmr(tiny_xlmr_folder: Path):
    """The tiny XLM-RoBERTa, loaded."""
    from sgdd_engine.text.config import EncoderConfig
    from sgdd_engine.text.encoder import load_encoder

    return load_encoder(EncoderConfig(name=str(tiny_xlmr_folder)))


@pytest.fixture(scope="session")
def tiny_corpus_folder(tmp_path_factory: pytest.TempPathFactory, sentences: list[str], tiny_encoder) -> Path:
    """The 400 sentences, prepared with the tiny BERT and its own vocabulary."""
    from sgdd_engine.data.config import DataConfig
    from sgdd_engine.data.prepare import prepare
    from sgdd_engine.data.sources import open_source
    from sgdd_engine.text.config import TokenizerConfig

    folder = tmp_path_factory.mktemp("tiny-corpus")
    (folder / "book.txt").write_text("\n".join(sentences), encoding="utf-8")
    config = DataConfig(validation_share=0.1)
    prepare(
        open_source(str(folder / "book.txt"), config),
        folder / "corpus",
        encoder=tiny_encoder,
        config=config,
        tokenizer=TokenizerConfig(),
    )
    return folder / "corpus"
