"""What a preparation was asked for, and whether two of them ask for the same corpus."""

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

# A request is kept as JSON gives it back, so that a stored one and a new one compare as equals.
Request = dict[str, Any]


def make_request(
    source: Mapping[str, Any], encoder: EncoderReference, tokenizer: TokenizerConfig, config: DataConfig
) -> Request:
    """All that shapes a corpus; equal requests give equal shards.

    `data.vectors_from` is no part of it: it changes what a corpus costs, and not what it holds.
    """
    pieces: dict[str, Any] = {"kind": tokenizer.kind}
    if tokenizer.kind == "unigram":
        pieces["vocab_size"] = tokenizer.vocab_size
    data = asdict(config)
    del data["vectors_from"]
    request: Request = json.loads(
        json.dumps({"source": source, "encoder": encoder.to_dict(), "tokenizer": pieces, "data": data})
    )
    return request


def request_of(manifest: Manifest) -> Request:
    """What a finished corpus was asked for."""
    return {
        "source": manifest.source,
        "encoder": manifest.encoder,
        "tokenizer": manifest.tokenizer["asked"],
        "data": manifest.settings,
    }


def refuse_differences(out: Path, recorded: Request, request: Request) -> None:
    """Raise `DataError`, naming what differs, unless both requests ask for the same corpus."""
    differences = [
        *_differences_of_encoders(recorded.get("encoder", {}), request["encoder"]),
        *_differences(_comparable(recorded), _comparable(request)),
    ]
    if differences:
        raise DataError(
            f"`{out}` was prepared in another way: {'; '.join(differences[:4])}.",
            "Repeat the earlier settings, choose another folder with --out, or start anew with --overwrite.",
        )


def _comparable(request: Request) -> Request:
    parts = identity({key: request.get(key, {}) for key in ("source", "encoder", "tokenizer", "data")})
    del parts["encoder"]
    return parts


def _differences_of_encoders(old: Request, new: Request) -> Iterator[str]:
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
