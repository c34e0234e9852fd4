"""The specification of a preparation: everything that determines the content of a corpus."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.manifest import Manifest, identity
from sgdd_engine.errors import DataError
from sgdd_engine.text.config import TokenizerConfig
from sgdd_engine.text.reference import EncoderReference

# Held as JSON values, so that a stored specification compares equal to a new one.
PreparationSpec = dict[str, Any]


def make_spec(
    source: Mapping[str, Any], encoder: EncoderReference, tokenizer: TokenizerConfig, config: DataConfig
) -> PreparationSpec:
    """Everything that determines the content of a corpus; equal specifications give equal shards.

    `data.vectors_from` is no part of it: it changes the time that preparation takes, not the content.
    """
    pieces: dict[str, Any] = {"kind": tokenizer.kind}
    if tokenizer.kind == "unigram":
        pieces["vocab_size"] = tokenizer.vocab_size
    data = asdict(config)
    del data["vectors_from"]
    spec: PreparationSpec = json.loads(
        json.dumps({"source": source, "encoder": encoder.to_dict(), "tokenizer": pieces, "data": data})
    )
    return spec


def spec_of(manifest: Manifest) -> PreparationSpec:
    """The specification of a finished corpus."""
    return {
        "source": manifest.source,
        "encoder": manifest.encoder,
        "tokenizer": manifest.tokenizer["asked"],
        "data": manifest.settings,
    }


def refuse_differences(out: Path, recorded: PreparationSpec, spec: PreparationSpec) -> None:
    """Raise `DataError`, naming what differs, unless both specifications give the same corpus."""
    differences = [
        *_differences_of_encoders(recorded.get("encoder", {}), spec["encoder"]),
        *_differences(_comparable(recorded), _comparable(spec)),
    ]
    if differences:
        raise DataError(
            f"`{out}` was prepared in another way: {'; '.join(differences[:4])}.",
            "Repeat the earlier settings, choose another folder with --out, or start anew with --overwrite.",
        )


def _comparable(spec: PreparationSpec) -> PreparationSpec:
    parts = identity({key: spec.get(key, {}) for key in ("source", "encoder", "tokenizer", "data")})
    del parts["encoder"]
    return parts


def _differences_of_encoders(old: PreparationSpec, new: PreparationSpec) -> Iterator[str]:
    before, now = EncoderReference.from_dict(old), EncoderReference.from_dict(new)
    if different := now.differences(before):
        yield f"with the encoder {before.name}, and {now.name} is another: {'; '.join(different)}"
    yield from _differences(before.dtype, now.dtype, "encoder.dtype")


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON values
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, now) in enumerate(zip(old, new, strict=True)):
            label = before.get("path", number) if isinstance(before, dict) else number
            yield from _differences(before, now, f"{name} {label}")
    elif old != new:
        yield f"{name} was {_short(old)} and is now {_short(new)}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:36] + "…"
