"""The first values of the decoder's token embeddings, made from the encoder's word embeddings."""

import re
from collections.abc import Iterator

import torch

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.encoder_tokenizer import FastTokenizer
from sgdd_engine.text.tokenizer import TextTokenizer

# Rows per step of the float64 sums, so that a table of 250,002 × 1024 is never copied as a whole.
_CHUNK = 8192
_SPACE = "▁"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def initial_embedding(encoder: SentenceEncoder, tokenizer: TextTokenizer, width: int) -> torch.Tensor:
    """Principal components of the encoder's word embeddings, one row for each piece of the decoder.

    A piece of a trained vocabulary starts from the mean of the encoder pieces that spell it. The rows are
    centred, projected on their leading `width` directions (float64) and scaled to a mean norm of 1. A piece
    without a counterpart (a byte, an added mask) starts at the centre, which is zero.

    Args:
        encoder: The frozen encoder.
        tokenizer: The decoder's vocabulary of V pieces.
        width: Columns wanted; those beyond the encoder's own width are zero.

    Returns:
        `[V, width]` float32 on the CPU.

    Raises:
        EncoderError: If `tokenizer` is an encoder's own vocabulary, but not that of this encoder.
    """
    rows, known = spelled_embeddings(encoder, tokenizer)
    return _principal_components(rows, known, width)


def spelled_embeddings(
    encoder: SentenceEncoder, tokenizer: TextTokenizer
) -> tuple[torch.Tensor, torch.Tensor]:
    """The encoder's word embedding of each piece of the decoder [V, d_word], and which pieces have one [V]."""
    table = encoder.word_embeddings()
    if tokenizer.kind == "encoder":
        return _own_rows(table, encoder, tokenizer)
    return _spelled_rows(table, encoder, tokenizer)


def _own_rows(
    table: torch.Tensor, encoder: SentenceEncoder, tokenizer: TextTokenizer
) -> tuple[torch.Tensor, torch.Tensor]:
    if TextTokenizer.from_encoder(encoder).fingerprint() != tokenizer.fingerprint():
        raise EncoderError(
            f"The vocabulary of the corpus is not that of the encoder {encoder.reference.name}.",
            "Prepare the data again with this encoder.",
        )
    rows = torch.zeros(tokenizer.vocab_size, table.shape[1])
    shared = min(len(rows), len(table))
    rows[:shared] = table[:shared]
    return rows, torch.arange(len(rows)) < shared


def _spelled_rows(
    table: torch.Tensor, encoder: SentenceEncoder, tokenizer: TextTokenizer
) -> tuple[torch.Tensor, torch.Tensor]:
    spellings = spell_pieces(encoder.tokenizer, tokenizer)
    owners = torch.tensor(
        [index for index, spelling in enumerate(spellings) for _ in spelling], dtype=torch.long
    )
    pieces = torch.tensor([piece for spelling in spellings for piece in spelling], dtype=torch.long)
    counts = torch.bincount(owners, minlength=len(spellings))
    sums = torch.zeros(len(spellings), table.shape[1]).index_add_(0, owners, table[pieces])
    return sums / counts.clamp(min=1).unsqueeze(1), counts > 0


def spell_pieces(encoder_tokenizer: FastTokenizer, tokenizer: TextTokenizer) -> list[list[int]]:
    """For each piece of a trained vocabulary the ids of the encoder pieces that spell it; empty if none do.

    Special pieces go to the encoder's own: mask to mask, bos to cls, eos to sep, pad to pad, unk to unk.
    """
    own = TextTokenizer.from_fast(encoder_tokenizer)
    vocabulary = encoder_tokenizer.get_vocab()
    model = type(encoder_tokenizer.backend_tokenizer.model).__name__
    spellings: list[list[int]] = []
    to_tokenise: dict[int, str] = {}
    for index in range(tokenizer.vocab_size):
        piece = tokenizer.piece(index)
        found = _look_up(piece, model, vocabulary)
        spellings.append([] if found is None else [found])
        surface = piece.removeprefix(_SPACE)
        if found is None and surface and not _BYTE.fullmatch(piece):
            to_tokenise[index] = f" {surface}" if model == "BPE" and piece.startswith(_SPACE) else surface
    for index, ids in zip(to_tokenise, own.encode_batch(list(to_tokenise.values())), strict=True):
        spellings[index] = [token for token in ids if token != own.unk_id]
    for name in ("mask_id", "bos_id", "eos_id", "pad_id", "unk_id"):
        counterpart = getattr(own, name)
        # A piece that was added to the encoder's vocabulary has no row in its table.
        inside = counterpart < len(vocabulary)
        spellings[getattr(tokenizer, name)] = [counterpart] if inside else []
    return spellings


def _look_up(piece: str, model: str, vocabulary: dict[str, int]) -> int | None:
    """The encoder's own piece with the same text in the same place (start or inside of a word), if any."""
    inside = not piece.startswith(_SPACE)
    if model == "Unigram":
        return vocabulary.get(piece)
    # WordPiece marks what continues a word; punctuation is always a word of its own there.
    if model == "WordPiece" and inside and piece[:1].isalnum():
        return vocabulary.get(f"##{piece}", vocabulary.get(f"##{piece.lower()}"))
    return None


def _principal_components(rows: torch.Tensor, known: torch.Tensor, width: int) -> torch.Tensor:
    """Centre, rotate to the leading directions, scale; unknown rows become zero."""
    count = max(int(known.sum()), 1)
    mean = torch.zeros(rows.shape[1], dtype=torch.float64)
    for chunk, valid in _chunks(rows, known):
        mean += chunk[valid].sum(dim=0) / count
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for chunk, valid in _chunks(rows, known):
        centred = chunk[valid] - mean
        covariance += centred.T @ centred / count
    _, directions = torch.linalg.eigh(covariance)
    # eigh sorts upward and leaves the sign open; a fixed sign makes runs on different machines comparable.
    directions = directions.flip(1)[:, :width]
    largest = directions.abs().argmax(dim=0, keepdim=True)
    directions = directions * directions.gather(0, largest).sign()
    table = torch.zeros(len(rows), width, dtype=torch.float32)
    start = 0
    for chunk, valid in _chunks(rows, known):
        projected = (chunk - mean) @ directions * valid.unsqueeze(1)
        table[start : start + len(chunk), : directions.shape[1]] = projected.float()
        start += len(chunk)
    norm = table[known].norm(dim=1).mean() if bool(known.any()) else torch.tensor(0.0)
    return table / norm if norm > 0 else table


def _chunks(rows: torch.Tensor, known: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK].double(), known[start : start + _CHUNK]
