"""How a source of text becomes a prepared corpus."""

from dataclasses import dataclass
from typing import Literal

from sgdd_engine.config_fields import check_choices, check_seed, option
from sgdd_engine.errors import require

EmbeddingDtype = Literal["int8", "fp16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Reading, cleaning, filtering, splitting and storing."""

    column: str = option(
        "text",
        "column or key that holds the text; `a.b` for `b` inside `a`; in a table without a header its number, from 1",
    )
    split: str = option("train", "split of a data set from the hub or from save_to_disk")
    revision: str | None = option(None, "commit of a hub data set; empty means the newest, which is recorded")
    limit: int | None = option(None, "read at most this many source lines; empty means all")
    min_words: int = option(
        3, "leave out sentences with fewer words (letters, in a script without spaces between words)"
    )
    max_words: int = option(64, "leave out sentences with more words")
    max_tokens: int = option(64, "leave out sentences with more tokens of the decoder's vocabulary")
    validation_share: float = option(0.01, "share of sentences held out for validation, and again for test")
    shard_sentences: int = option(32_768, "sentences per shard; bounds the memory of preparation")
    embedding_dtype: EmbeddingDtype = option(  # noqa: RUF009 - ruff does not see the Literal behind the name
        "fp16",
        "number format of the stored vectors: fp32, fp16, or int8, half the size of fp16 (each vector has a scale)",
    )
    seed: int = option(0, "seed of the built-in corpus")
    vectors_from: str | None = option(
        None,
        "folder of a prepared corpus; sentences that are in it too get its vectors, and only the others are encoded",
    )

    def __post_init__(self) -> None:
        check_choices(self, "data")
        check_seed(self.seed, "data.seed")
        require(
            1 <= self.min_words <= self.max_words,
            f"data.min_words ({self.min_words}) must lie between 1 and data.max_words ({self.max_words}).",
        )
        require(
            1 <= self.max_tokens <= 512,
            f"data.max_tokens is {self.max_tokens}; it must lie between 1 and 512.",
        )
        require(self.limit is None or self.limit > 0, f"data.limit is {self.limit}; it must be positive.")
        require(
            0 < self.validation_share <= 0.25,
            f"data.validation_share is {self.validation_share}; it must lie above 0 and at most 0.25.",
        )
        require(
            self.shard_sentences >= 256,
            f"data.shard_sentences is {self.shard_sentences}; it must be at least 256.",
        )
