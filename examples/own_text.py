"""Your own text and your own encoder, from Python: prepare a corpus, train on it, and write a sentence from its vector.

    python examples/own_text.py tales.txt                        # the vectors of MiniLM
    python examples/own_text.py tales.txt path/to/encoder        # of an encoder in a folder, as Hugging Face saves one
    python examples/own_text.py tales.txt path/to/encoder sgdd.toml

The text has one sentence on each line. The steps are those of `sgdd prepare-data`, `train` and `sample`, and a run can
be looked at with `sgdd eval` and `sgdd doctor` as any other. It trains for an hour, if the settings name no other end
(`train.max_minutes`, `train.max_steps`); stopped with Ctrl-C, the same command goes on.
"""

import sys
from dataclasses import replace
from pathlib import Path

from sgdd_cli.plugin_api import ProgressDisplay
from sgdd_cli.settings import load_settings, to_toml
from sgdd_engine import SGDD
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.text.encoder import load_encoder
from sgdd_engine.training.config import TrainSpec
from sgdd_engine.training.loop import train


def main(text: str, encoder: str = "minilm", *files: str) -> None:
    resolved = load_settings(list(map(Path, files)), [f"encoder.name={encoder}"])
    settings = resolved.settings
    if resolved.given("train").keys().isdisjoint({"max_minutes", "max_steps"}):
        settings = settings.model_copy(update={"train": replace(settings.train, max_minutes=60)})
    corpus, run = Path("data", Path(text).stem), Path("runs", Path(text).stem)

    with ProgressDisplay() as display:
        prepare(
            open_source(text, settings.data),
            corpus,
            encoder=load_encoder(settings.encoder),
            config=settings.data,
            tokenizer=settings.tokenizer,
            on_event=display,
        )
        spec = TrainSpec(
            train=settings.train,
            bottleneck=settings.bottleneck,
            decoder=settings.decoder,
            diffusion=settings.diffusion,
            feedback=settings.feedback,
        )
        train(
            Corpus.open(corpus),
            run,
            spec,
            resume=(run / "checkpoints").is_dir(),
            settings_text=to_toml(settings),
            on_event=display,
        )
    print(Corpus.open(corpus))

    model = SGDD.from_pretrained(run)
    print(model)
    source = Corpus.open(corpus).split("validation").text(0)
    print(f"{source}  →  {model.reconstruct([source])[0].text}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("Usage: python examples/own_text.py TEXT [ENCODER [SETTINGS.toml ...]]")
    main(*sys.argv[1:])
