"""A trained model as one object: loaded, described, saved and shared, with its tokenizer and its frozen encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from torch import Tensor

from sgdd_engine.checkpoint import (
    CardFacts,
    Checkpoint,
    CheckpointInfo,
    Dtype,
    HubName,
    Upload,
    load_checkpoint,
    model_card,
    push,
    resolve_checkpoint,
    save_checkpoint,
    upload_of,
    with_metadata,
)
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.events import Listener, ignore
from sgdd_engine.generation.arguments import (
    TextsLike,
    VectorsLike,
    complete_sampling,
    scale_to_unit,
    validate_texts,
    validate_vectors,
)
from sgdd_engine.generation.decode import Check, unchecked
from sgdd_engine.models.device import resolve_device
from sgdd_engine.text.encoder import SentenceEncoder, load_encoder_like
from sgdd_engine.text.reference import LATER_FIELDS, EncoderReference
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.text.vocabulary_fit import VocabularyFit

# Least mean squared length of the training vectors where all have length 1: what was measured of them is rounded.
_LEAST_UNIT = 0.98


class PretrainedModel:
    """A trained decoder with its tokenizer and, on first use, its frozen encoder; `SGDD` writes texts with it.

    Attributes:
        model: The networks.
        info: What the checkpoint says of them.
        tokenizer: Of the decoder.
        schedule: Of the masks in its training.
        device: Where it computes.
        encoder_batch_tokens: Tokens that the encoder computes at once; None for as many as by default.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, encoder: SentenceEncoder | None = None
    ) -> None:
        self._checkpoint = checkpoint
        self._encoder = encoder
        self._name: str | None = None
        self.encoder_batch_tokens: int | None = None
        self.device = device
        self.model = checkpoint.model
        self.info = checkpoint.info
        self.tokenizer: TextTokenizer = checkpoint.tokenizer
        self.schedule = build_schedule(checkpoint.info.diffusion.schedule)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str = "auto",
        encoder: str | Path | None = None,
        *,
        revision: str | None = None,
    ) -> Self:
        """Load a checkpoint folder, a run folder's best, `mini`, which comes with sgdd, or a model on the hub.

        Args:
            folder: Its path; the text `mini` is a name, `./mini` a folder. `owner/name` is a model on the hub unless
                there is such a folder, `hf:owner/name` always is.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
            encoder: Where its encoder is, if not where it was when the model was trained: a folder or a name. That it
                is the same encoder is checked when the first text is encoded.
            revision: Commit, branch or tag of a model on the hub; by default the newest commit.

        Raises:
            CheckpointError: nothing there, or damaged; or the hub is needed and out of reach.
            ConfigError: no such device.
        """
        target = resolve_device(device)
        place = resolve_checkpoint(folder, revision)
        checkpoint = load_checkpoint(place, target)
        if (origin := HubName.of_folder(place)) is not None:
            info = replace(checkpoint.info, facts={**checkpoint.info.facts, "hub": str(origin)})
            checkpoint = replace(checkpoint, info=info)
        if encoder is not None:
            info = replace(checkpoint.info, encoder=checkpoint.info.encoder.at(encoder))
            checkpoint = replace(checkpoint, info=info)
        loaded = cls(checkpoint, target)
        loaded._name = str(folder)
        return loaded

    def __repr__(self) -> str:
        name = "" if self._name is None else f"{self._name!r}, "
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return (
            f"{type(self).__name__}({name}parameters={parameters}, encoder={self.info.encoder.name!r}, "
            f"step={self.info.step}, device={str(self.device)!r})"
        )

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        dtype: Dtype = "fp32",
        card: str | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the model, its tokenizer and its card into a folder that loads on its own.

        Args:
            folder: The final name; what stands there is replaced.
            dtype: `fp16` halves the file and is read back as float32.
            card: The text of README.md; by default one made of what the model knows of itself.
            sampling: Fields of `SamplingConfig` that hold for this model where none are given; they are added to those
                that are recorded.

        Raises:
            CheckpointError: the folder cannot be written.
            ConfigError: the sampling cannot be.
        """
        info = self._completed().shareable()
        info = replace(
            info,
            sampling={**info.sampling, **(sampling or {})},
            token_temperature=self.model.head.temperature,
        )
        shared = replace(self._checkpoint, info=info)
        save_checkpoint(Path(folder), shared, dtype=dtype, card=card)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        dtype: Dtype = "fp16",
        card: str | None = None,
        license: str | None = None,
        language: Sequence[str] = (),
        dry_run: bool = False,
        on_event: Listener = ignore,
    ) -> Upload:
        """Share the model on the Hugging Face hub: weights, tokenizer and card, and no state of its training.

        Args:
            name: `owner/name`; made there if it does not exist.
            private: Only those who may read it see it; None leaves it to the owner's default.
            dtype: Of the matrices, as for `save_pretrained`.
            card: The text of README.md; metadata is put in front where it has none. By default one made of what the
                model knows of itself.
            license: What others may do with the weights, as the hub abbreviates it, such as `mit`.
            language: Codes of the languages it writes, such as `en`.
            dry_run: Send nothing, and tell what would be sent.
            on_event: Told of the beginning and the end.

        Raises:
            CheckpointError: nobody is logged in, writing there is not allowed, or the hub cannot be reached.
        """
        facts = CardFacts(name=name, license=license, language=language)
        info = self.info.shareable()
        text = model_card(info, facts) if card is None else with_metadata(card, info, facts)
        with TemporaryDirectory() as aside:
            folder = Path(aside) / "checkpoint"
            self.save_pretrained(folder, dtype=dtype, card=text)
            if dry_run:
                return upload_of(folder, name)
            return push(folder, name, private=private, on_event=on_event)

    def _completed(self) -> CheckpointInfo:
        """The description with what checkpoints of earlier versions lack of their encoder, where it is loaded here."""
        recorded, encoder = self.info.encoder, self._encoder
        if encoder is None or encoder.reference.differences(recorded):
            return self.info
        found = encoder.reference if recorded.probes is not None else encoder.probe()
        lacks = {name: getattr(found, name) for name in LATER_FIELDS if getattr(recorded, name) is None}
        return replace(self.info, encoder=replace(recorded, **lacks))

    @property
    def recommended_sampling(self) -> SamplingConfig:
        """The sampling that is used where none is given; see `complete_sampling`."""
        return complete_sampling({}, self.info)

    @property
    def encoder_reference(self) -> EncoderReference:
        """Which encoder made the vectors that this model reads."""
        return self.info.encoder

    @property
    def encoder(self) -> SentenceEncoder:
        """The frozen encoder, loaded and verified on first use.

        Raises:
            EncoderError: it cannot be loaded, or it would make other vectors than those the model was trained with.
        """
        if self._encoder is None:
            self._encoder = load_encoder_like(self.info.encoder, self.device, self.encoder_batch_tokens)
        return self._encoder

    @property
    def unit_vectors(self) -> bool:
        """Whether the vectors that this model reads have length 1.

        An encoder that normalises may keep some of the coordinates only; vectors are then shorter, as the model's
        statistics of them tell.
        """
        statistics = self.model.standardize
        mean_square = statistics.mean.double().square().sum() + statistics.std.double().square().sum()
        return self.info.encoder.normalize and float(mean_square) >= _LEAST_UNIT

    def check_vectors(self, vectors: VectorsLike, on_event: Listener = ignore) -> Tensor:
        """Vectors as a table [N, D] in float32 on the CPU, of length 1 where the encoder makes such.

        Args:
            vectors: [N, D] or one [D].
            on_event: Told if vectors had another length and were scaled.

        Raises:
            GenerationError: they are no such table, of another size than the model's encoder makes, or not finite.
        """
        e = validate_vectors(vectors, self.info)
        return scale_to_unit(e, on_event) if self.unit_vectors else e

    def vocabulary_fit(self) -> VocabularyFit:
        """A count of what this model's vocabulary and length leave of texts; it holds none yet."""
        return VocabularyFit(self.info.model.max_tokens, self.tokenizer.unk_id)

    def encode(self, texts: TextsLike, check: Check = unchecked) -> Tensor:
        """Sentence vectors of texts, as the frozen encoder gives them.

        Args:
            texts: One text, or any iterable of them.
            check: Called after each batch of the encoder; what it raises ends the call.

        Returns:
            [N, D] float32 on the CPU, of unit length where the encoder normalises.

        Raises:
            GenerationError: an item is not a text, or holds nothing.
        """
        return self.encoder.encode(validate_texts(texts), lambda _: check())
