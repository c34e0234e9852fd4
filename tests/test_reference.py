"""The two reference configurations train: real classes, the real widths, a small vocabulary."""

from pathlib import Path

import pytest

from sgdd_cli.settings import load_settings
from sgdd_engine.checkpoint import load_checkpoint
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.events import TrainingProgress
from sgdd_engine.training.config import TrainSpec
from sgdd_engine.training.loop import train

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, sentences, tiny_xlmr):
    """A corpus of the reference encoder's class: XLM-RoBERTa with CLS pooling."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "book.txt").write_text("\n".join(sentences), encoding="utf-8")
    config = DataConfig(validation_share=0.1, max_tokens=64)
    settings = load_settings([EXAMPLES / "phase1_vib.toml"]).settings
    prepare(
        open_source(str(folder / "book.txt"), config),
        folder / "corpus",
        encoder=tiny_xlmr,
        config=config,
        tokenizer=settings.tokenizer,
    )
    return Corpus.open(folder / "corpus")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phase1_vib", "phase1_whitening"])
def test_a_reference_configuration_trains(corpus, tmp_path, name):
    settings = load_settings(
        [EXAMPLES / f"{name}.toml"],
        # The tiny encoder's words have 32 dimensions; everything else is the reference.
        ["train.max_steps=12", "train.warmup_steps=2", "train.batch_tokens=256", "train.log_every=4"],
    ).settings
    spec = TrainSpec(
        train=settings.train,
        bottleneck=settings.bottleneck,
        decoder=settings.decoder,
        diffusion=settings.diffusion,
    )
    losses = []

    def listen(event):
        if isinstance(event, TrainingProgress):
            losses.append(event.loss)

    result = train(corpus, tmp_path / "run", spec, device="cpu", on_event=listen)
    assert losses[-1] < losses[0]
    loaded = load_checkpoint(result.best)
    assert loaded.info.model.bottleneck == settings.bottleneck
    assert loaded.info.model.decoder == settings.decoder
