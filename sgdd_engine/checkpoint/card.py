"""The model card of a checkpoint: metadata that the hub reads, what the model is, how it scored, how to use it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sgdd_engine.checkpoint.info import CheckpointInfo
from sgdd_engine.counted import counted
from sgdd_engine.errors import CheckpointError
from sgdd_engine.paths_and_shells import last_part
from sgdd_engine.text.config import MINILM
from sgdd_engine.visible_text import visible

# The encoder of the `offline` extra, as the hub names it.
MINILM_ON_HUB = "sentence-transformers/all-MiniLM-L6-v2"
LIBRARY = "sgdd"
PIPELINE_TAG = "text-generation"
TAGS = ("discrete-diffusion", "masked-diffusion", "sentence-embeddings", "embedding-inversion")
# What the hub calls a metric of the same meaning; the others keep their names.
METRIC_TYPES = {"exact_match": "exact_match", "bleu": "bleu", "chrf": "chrf", "token_f1": "f1"}
# In a card that was made here and may be made again, such as when scores were recorded meanwhile.
MARK = "<!-- Made by sgdd from config.json, and made again on `sgdd push`. Without this line the text is kept. -->"
_METADATA = re.compile(r"\s*---[ \t]*\r?\n(?P<block>.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
# How the cards of older versions begin, which had no such line.
_OLDER = "# A semantic-guided discrete diffusion decoder\n"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a checkpoint does not know of itself.

    Attributes:
        name: What `SGDD.from_pretrained` and `--checkpoint` are given, such as `owner/name`.
        license: As the hub abbreviates it, such as `mit`; None where nobody said.
        language: Codes such as `en`; empty where nobody said.
    """

    name: str = "THIS_FOLDER"
    license: str | None = None
    language: Sequence[str] = ()


def is_generated(card: str) -> bool:
    """Whether a card was made by `model_card`, so that nothing is lost where it is made again."""
    return MARK in card or card.startswith(_OLDER)


def model_card(info: CheckpointInfo, facts: CardFacts | None = None) -> str:
    """The README.md of a checkpoint, with the hub's metadata in front of it."""
    facts = facts or CardFacts()
    return visible(f"---\n{metadata(info, facts)}\n---\n{MARK}\n\n{_text(info, facts)}", keep="\n")


def with_metadata(card: str, info: CheckpointInfo, facts: CardFacts) -> str:
    """A card of the user's own, with the model's name where the one that was made here had none yet.

    Where it has metadata, the licence and the languages that are known are put into it, and all else stays as it is
    written; otherwise the metadata of the checkpoint is put in front.

    Raises:
        CheckpointError: its metadata cannot be read.
    """
    card = card.replace(CardFacts.name, facts.name)
    found = _own_metadata(card)
    if found is None:
        return f"---\n{metadata(info, facts)}\n---\n{card}"
    block = found["block"]
    if facts.license is not None:
        block = _with_entry(block, "license", facts.license)
    if facts.language:
        block = _with_entry(block, "language", list(facts.language))
    return card[: found.start("block")] + block + card[found.end("block") :]


def states_license(card: str) -> bool:
    """Whether a card has a licence in its metadata.

    Raises:
        CheckpointError: the metadata cannot be read.
    """
    found = _own_metadata(card)
    return found is not None and _parsed(found["block"]).get("license") is not None


def _own_metadata(card: str) -> re.Match[str] | None:
    """The metadata that a card begins with; None where it has none, as where it begins with a rule.

    Raises:
        CheckpointError: it cannot be read.
    """
    found = _METADATA.match(card)
    return found if found is not None and isinstance(_parsed(found["block"]), dict) else None


def _parsed(block: str) -> Any:  # noqa: ANN401 - any YAML value
    import yaml  # noqa: PLC0415 - what is read needs no card

    try:
        return yaml.safe_load(block)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"The metadata at the beginning of the card cannot be read: {reason}",
            "Mend README.md, or remove it, and one is made.",
        ) from error


def _with_entry(block: str, key: str, value: object) -> str:
    """YAML with another value of a key at its top; the lines of the others stay, comments too."""
    import yaml  # noqa: PLC0415 - as above

    entry = yaml.safe_dump({key: value}, allow_unicode=True)
    lines = re.compile(rf"^{key}:.*\n(?:(?:[ \t]+|- ).*\n)*", re.MULTILINE)
    changed, count = lines.subn(lambda _: entry, block, count=1)
    return changed if count else block + entry


def metadata(info: CheckpointInfo, facts: CardFacts) -> str:
    """The card's metadata as YAML: what is not known is left out, and scores stand in the hub's `model-index`."""
    from huggingface_hub import ModelCardData  # noqa: PLC0415 - what is read needs no card

    source = _source(info)
    language = list(facts.language) or (["en"] if source.get("kind") == "builtin" else [])
    results = _results(info)
    return ModelCardData(
        language=language or None,
        license=facts.license,
        library_name=LIBRARY,
        pipeline_tag=PIPELINE_TAG,
        tags=list(TAGS),
        base_model=_encoder_on_hub(info),
        datasets=[str(source["dataset"])] if source.get("kind") == "hub" and "dataset" in source else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        eval_results=results or None,
        model_name=facts.name.rpartition("/")[2],
    ).to_yaml()


def _source(info: CheckpointInfo) -> Mapping[str, Any]:
    corpus = info.facts.get("corpus")
    source = corpus.get("source") if isinstance(corpus, dict) else None
    return source if isinstance(source, dict) else {}


def _encoder_on_hub(info: CheckpointInfo) -> str | None:
    if info.encoder.name == MINILM:
        return MINILM_ON_HUB
    return None if info.encoder.is_folder else info.encoder.name


def _results(info: CheckpointInfo) -> list[Any]:
    """The scores from a sentence's own vector as the hub's `EvalResult`, of every recorded evaluation."""
    from huggingface_hub import EvalResult  # noqa: PLC0415 - as above

    return [
        EvalResult(
            task_type=PIPELINE_TAG,
            task_name="reconstruction of sentences from their vectors",
            dataset_type="text",
            dataset_name=_data_name(evaluation),
            dataset_split=evaluation["settings"].get("data", {}).get("split"),
            metric_type=METRIC_TYPES.get(name, name),
            metric_name=evaluation["metrics"][name],
            metric_value=round(score["mean"], 4),
            metric_args=_asked(evaluation),
        )
        for evaluation in info.evaluations
        for name, score in _own(evaluation)["scores"].items()
    ]


def _own(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(one for one in evaluation["conditions"] if one["name"] == "true")
    return found


def _data_name(evaluation: Mapping[str, Any]) -> str:
    """What was scored: the name of the corpus or file, without its folder."""
    path = str(evaluation["settings"].get("data", {}).get("path", "unnamed sentences"))
    return last_part(path)


def _asked(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a score depends on, those that were given."""
    settings = evaluation["settings"]
    sampling, asked = settings.get("sampling", {}), settings.get("eval", {})
    found = {
        "sentences": evaluation["sentences"],
        "steps": sampling.get("steps"),
        "cfg": sampling.get("cfg"),
        "candidates": asked.get("candidates"),
        "refine": asked.get("refine"),
        "shortlist": asked.get("shortlist"),
        "search": asked.get("search"),
    }
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _text(info: CheckpointInfo, facts: CardFacts) -> str:
    title = (
        facts.name.rpartition("/")[2] if "/" in facts.name else "A semantic-guided discrete diffusion decoder"
    )
    encoder = info.encoder
    return "\n\n".join(
        [
            f"# {title}",
            f"Writes a sentence from one vector of `{encoder.name}` ({encoder.dim} dimensions, {encoder.pooling} "
            "pooling) by masked discrete diffusion, all positions in parallel.",
            _use(facts.name),
            "\n".join(["## What it is", "", *(f"- {line}" for line in _facts(info, facts))]),
            "\n\n".join(["## Scores", *_scores(info)]),
            "\n".join(["## Limits", "", *(f"- {line}" for line in _limits(info))]),
        ]
    )


def _use(name: str) -> str:
    return f"""## Use it

```sh
sgdd sample "The old man opened the door." --checkpoint {name}
```

```python
from sgdd_engine import SGDD

model = SGDD.from_pretrained("{name}")
vectors = model.encode(["The old man opened the door."])
print(model.generate(vectors)[0].text)
```"""


def sampling_as_text(sampling: Mapping[str, Any]) -> str:
    """Settings of the denoising loop in a line, such as `steps 10, cfg 1.75, kv_cache on`."""
    spelled = {True: "on", False: "off"}
    return ", ".join(
        f"{name} {spelled[value] if isinstance(value, bool) else value if isinstance(value, str) else f'{value:g}'}"
        for name, value in sampling.items()
    )


def _facts(info: CheckpointInfo, facts: CardFacts) -> Iterator[str]:
    decoder, known = info.model.decoder, info.facts
    corpus = known["corpus"] if isinstance(known.get("corpus"), dict) else {}
    yield f"decoder: {decoder.layers} layers × {decoder.width}, {decoder.memory_tokens} memory tokens"
    yield f"vocabulary: {info.model.vocabulary.size:,} pieces; up to {info.model.max_tokens} tokens"
    yield f"bottleneck: {info.model.bottleneck.kind}"
    sentences = corpus.get("train_sentences")
    amount = f", {sentences:,} sentences" if isinstance(sentences, int) else ""
    yield f"trained for {counted(info.step, 'step')} on {corpus.get('name', 'an unnamed corpus')}{amount}"
    if origin := known.get("hub"):
        yield f"taken from `{origin}` on the hub"
    validation = known.get("validation")
    if isinstance(validation, dict) and {"nelbo_nats_per_token", "loss"} <= validation.keys():
        nelbo, loss = validation["nelbo_nats_per_token"], validation["loss"]
        yield f"held out: {nelbo:.3f} nats per token (NELBO), loss {loss:.3f}"
    if info.sampling:
        yield f"sampled best with {sampling_as_text(info.sampling)}"
    if info.token_temperature != 1:
        yield f"logits divided by {info.token_temperature:.3f}, which calibrates the probabilities of tokens"
    yield f"licence of the weights: {facts.license or 'not stated'}"


def _scores(info: CheckpointInfo) -> Iterator[str]:
    """Each recorded evaluation as a table with its controls, and its verdicts."""
    if not info.evaluations:
        yield (
            "No scores were measured of these weights, or none were recorded. `sgdd eval` measures them, beside their "
            "controls."
        )
        return
    yield (
        "Sentences are written again from their vectors alone, from a full mask, at a predicted length. Each score is "
        "a mean with its 95 % bootstrap interval; the controls show what is reached without the sentence's own vector."
    )
    for evaluation in info.evaluations:
        asked = _asked(evaluation)
        sentences = asked.pop("sentences")
        settings = ", ".join(f"{name} {value:g}" for name, value in asked.items())
        yield f"### {_data_name(evaluation)}, {sentences:,} sentence{'s' if sentences != 1 else ''}\n\n{settings}"
        yield "\n".join(_table(evaluation))
        said = [verdict["sentence"] for verdict in evaluation["verdicts"]]
        yield "\n".join(f"- {sentence}" for sentence in said)


def _table(evaluation: Mapping[str, Any]) -> Iterator[str]:
    names = list(_own(evaluation)["scores"])
    yield _row("decoded from", [str(evaluation["metrics"][name]) for name in names])
    yield _row("---", ["---:"] * len(names))
    for condition in evaluation["conditions"]:
        label = f"*control:* {condition['label']}" if condition.get("control") else condition["label"]
        yield _row(label, [_interval(condition["scores"].get(name)) for name in names])


def _row(first: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def _interval(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return "–"
    digits = 3 if abs(score["mean"]) <= 1 else 1
    numbers = [score["mean"], score.get("low"), score.get("high")]
    mean, *ends = (f"{value:.{digits}f}" for value in numbers if value is not None)
    return f"{mean} ({'–'.join(ends)})" if len(ends) == 2 else mean


def _limits(info: CheckpointInfo) -> Iterator[str]:
    yield "One vector holds the meaning of a sentence and not its exact words: expect paraphrases."
    yield (
        f"It reads vectors of this encoder and of no other. The encoder is not part of it; its weights have the "
        f"SHA-256 `{info.encoder.weights_sha256}`, which is checked when it is loaded."
    )
    if info.encoder.is_folder:
        yield "The encoder was a folder on the machine of training: whoever uses the model needs it too (`--encoder`)."
