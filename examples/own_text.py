"""Your own text and your own encoder, from Python: prepare a corpus, train on it, and write a sentence from its vector.

    python examples/own_text.py tales.txt                        # the vectors of MiniLM
    python examples/own_text.py tales.txt path/to/encoder        # of an encoder in a folder, as Hugging Face saves one
    python examples/own_text.py tales.txt path/to/encoder sgdd.toml

The text has one sentence on each line. The steps are those of `sgdd prepare-data`, `train` and `sample`, and a run can
be looked at with `sgdd eval` and `sgdd doctor` as any other.
"""

import sys
from pathlib import Path

from sgdd_cli.plugin_api import ProgressDisplay, load_settings
from sgdd_engine import SGDD
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.text.encoder import load_encoder
from sgdd_engine.training.config import TrainSpec
from sgdd_engine.training.loop import train


def main(text: str, encoder: str = "minilm", *files: str) -> None:
    settings = load_settings(list(map(Path, files)), [f"encoder.name={encoder}"]).settings
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
        train(Corpus.open(corpus), run, spec, on_event=display)
    print(Corpus.open(corpus))

    model = SGDD.from_pretrained(run)
    print(model)
    source = Corpus.open(corpus).split("validation").text(0)
    print(f"{source}  →  {model.reconstruct([source])[0].text}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("Usage: python examples/own_text.py TEXT [ENCODER [SETTINGS.toml ...]]")
    main(*sys.argv[1:])
