"""What a configuration costs before anything is trained: parameters, arithmetic, memory, and about how much time.

Parameters are counted from the real modules, built on the meta device: nothing is allocated or downloaded.
"""

import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sgdd_engine.checkpoint import CheckpointInfo
from sgdd_engine.counted import about, counted
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.diffusion.times import TIMES
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig, VocabularyConfig
from sgdd_engine.models.cross_entropy import rows_at_once
from sgdd_engine.models.model import SemanticDecoder, outline
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.text.encoder_network import read_encoder_spec
from sgdd_engine.training.config import TrainConfig

# Arithmetic per token depends on the sentence's length through what is done once per sentence.
TYPICAL_TOKENS = 20
# Of the shortest sentences, which there are many of in a batch: each takes memory besides that of its tokens.
SHORT_TOKENS = 4
# Weights, gradients, two moments and the average, each in fp32.
BYTES_PER_PARAMETER = 20
# On a CPU: Python, PyTorch and what they load (PyTorch 2.13 on x86), and how much larger than what is in use the heap
# of the C library gets: batches of all lengths leave holes that fit no others.
PROGRAM_BYTES = 206 << 20
HEAP = 1.6
BACKWARD = 3  # a backward pass does twice the forward's products
# Products that are timed to learn the rate of a device: large enough to fill it, a few milliseconds on two cores.
PROBED_SIZE = 512
# Seconds from which on a run says how it is made shorter.
LONG = 3600
PROBES = 4
# Share of that rate that a step reaches: .45, .59, .83 and .78 with decoders of 2 x 64, 4 x 192, 4 x 256 and 6 x 384,
# in fp32 on one core of an AVX2 x86, by processor time.
USED_RATE = 0.7
FIRST_LOOKS = 0.5  # forward passes of a step, on average, with self-conditioning


@dataclass(frozen=True, slots=True)
class Component:
    """A named part of the model with its number of parameters."""

    name: str
    parameters: int
    trainable: bool


@dataclass(frozen=True)
class Cost:
    """What a model is made of, and what training it takes.

    Attributes:
        components: Every part; their parameters add up to `total`.
        buffers: Numbers that are fitted and saved, but not trained (normalisation, whitening).
        flops_per_token: Arithmetic of a training step per token of a sentence of `tokens_per_sentence` tokens.
        head_flops_share: The vocabulary head's share of it.
        training_bytes: Estimate for weights, gradients, moments and average, plus one batch's activations.
        batch_tokens: The batch that the estimate is for.
    """

    components: tuple[Component, ...]
    buffers: int
    flops_per_token: float
    head_flops_share: float
    tokens_per_sentence: int
    training_bytes: int
    batch_tokens: int

    @property
    def process_bytes(self) -> int:
        """What a process that trains on a CPU holds, Python and PyTorch included."""
        return round(PROGRAM_BYTES + HEAP * self.training_bytes)

    @property
    def trainable(self) -> int:
        """Trainable parameters."""
        return sum(part.parameters for part in self.components if part.trainable)

    @property
    def frozen(self) -> int:
        """Frozen parameters."""
        return sum(part.parameters for part in self.components if not part.trainable)

    @property
    def total(self) -> int:
        """All parameters."""
        return self.trainable + self.frozen


def planned_model(
    encoder: EncoderConfig,
    tokenizer: TokenizerConfig,
    bottleneck: BottleneckConfig,
    decoder: DecoderConfig,
    max_tokens: int,
) -> tuple[ModelConfig, Component]:
    """The shapes that settings would give, and the encoder's row, before any corpus is prepared.

    Raises:
        EncoderError: the encoder's own configuration cannot be read.
    """
    spec = read_encoder_spec(encoder)
    vocabulary = spec.vocabulary
    if tokenizer.kind == "unigram":
        size = tokenizer.vocab_size
        vocabulary = VocabularyConfig(size=size, mask_id=size - 1, bos_id=0, eos_id=2)
    model = ModelConfig(
        embedding_dim=spec.dim,
        max_tokens=max_tokens,
        vocabulary=vocabulary,
        bottleneck=bottleneck,
        decoder=decoder,
    )
    return model, Component(f"encoder ({encoder.name})", spec.parameters, trainable=False)


def encoder_component(info: CheckpointInfo) -> Component:
    """The encoder's row of a checkpoint."""
    return Component(f"encoder ({info.encoder.name})", info.encoder.parameters, trainable=False)


def cost_of(
    config: ModelConfig, encoder: Component | None, train: TrainConfig, diffusion: DiffusionConfig
) -> Cost:
    """Count a model's parameters, and its encoder's where it is given; estimate what a training step takes."""
    model = outline(config)
    head, trunk = flops_per_token(config, diffusion)
    parts = (*([] if encoder is None else [encoder]), *_components(model))
    trainable = sum(part.parameters for part in parts if part.trainable)
    return Cost(
        components=parts,
        buffers=sum(buffer.numel() for buffer in model.buffers()),
        flops_per_token=head + trunk,
        head_flops_share=head / (head + trunk),
        tokens_per_sentence=_tokens_per_sentence(config),
        training_bytes=BYTES_PER_PARAMETER * trainable
        + _activation_bytes(model, train, mean_mask_share(diffusion)),
        batch_tokens=train.batch_tokens,
    )


@lru_cache(maxsize=16)  # a fifth of a second; a process may train several models of one shape
def flops_per_token(config: ModelConfig, diffusion: DiffusionConfig) -> tuple[float, float]:
    """Arithmetic of a training step per token of a typical sentence: of the vocabulary head, and of all else."""
    tokens, masked = _tokens_per_sentence(config), mean_mask_share(diffusion)
    model, per_position = outline(config), 2.0 * config.vocabulary.size * config.decoder.width
    head = BACKWARD * masked * per_position
    passes = BACKWARD + FIRST_LOOKS * config.decoder.self_conditioning
    trunk = passes * _forward_flops(model, tokens, round(masked * tokens)) / tokens
    if diffusion.masks == "decoding_order":
        # A forward pass over the full mask says which tokens stay visible.
        head += per_position
        trunk += _forward_flops(model, tokens, tokens) / tokens
    return head, trunk


def surrogate_flops_per_token(config: ModelConfig) -> float:
    """Arithmetic of a step that trains the surrogate alone, per token of a typical sentence."""
    tokens = _tokens_per_sentence(config)
    model = outline(config)
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        model.predict_embedding(torch.zeros(1, tokens, dtype=torch.long))
    return float(BACKWARD * counter.get_total_flops()) / tokens


def _tokens_per_sentence(config: ModelConfig) -> int:
    return min(TYPICAL_TOKENS, config.max_tokens)


def mean_mask_share(diffusion: DiffusionConfig) -> float:
    """Mean share of masked tokens in training, rows at t = 1 included."""
    # Evenly spread times have the mean of those that are each drawn by themselves, without their noise.
    times = TIMES.build("stratified" if diffusion.times == "uniform" else diffusion.times)
    t = times(10_000, diffusion.num_steps, torch.Generator().manual_seed(0))
    drawn = float((1 - build_schedule(diffusion.schedule).alpha(t)).mean())
    return diffusion.share_at_one + (1 - diffusion.share_at_one) * drawn


def _components(model: SemanticDecoder) -> list[Component]:
    denoiser = model.denoiser
    shared = [module for module in (denoiser.shared_modulation, denoiser.before) if module is not None]
    parts: list[tuple[str, list[nn.Module | nn.Parameter]]] = [
        ("token table (tied with the head)", [denoiser.head.table]),
        ("vocabulary bias", [denoiser.head.bias]),
        ("trunk", [denoiser.blocks, denoiser.final_modulation, *shared]),
        ("time and length embeddings", [denoiser.time, denoiser.length]),
        (f"bottleneck ({model.config.bottleneck.kind})", [model.bottleneck]),
        ("condition (projector, memory tokens, null)", [model.conditioner, model.null]),
        ("length head", [model.length_head]),
    ]
    if model.draft_reader is not None:
        parts.append(("reader of drafts", [model.draft_reader]))
    if model.surrogate is not None:
        parts.append(("surrogate of the encoder", [model.surrogate]))
    return [Component(name, sum(map(_size, modules)), trainable=True) for name, modules in parts]


def _size(part: nn.Module | nn.Parameter) -> int:
    return part.numel() if isinstance(part, nn.Parameter) else sum(p.numel() for p in part.parameters())


def _forward_flops(model: SemanticDecoder, tokens: int, masked: int) -> float:
    """Products of one sentence's forward pass without the head, counted by PyTorch as they are dispatched."""
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        z = torch.empty(1, model.bottleneck.output_dim)
        model.length_logits(z)
        text = torch.zeros(1, tokens, dtype=torch.long)
        model.hidden(text, torch.ones(1), model.condition(z), positions=torch.arange(masked))
        if model.surrogate is not None:
            model.predict_embedding(text)
    # The bottleneck is made of linear maps alone: two operations per weight.
    linear = sum(w.numel() for w in (*model.bottleneck.parameters(), *model.bottleneck.buffers()))
    return float(counter.get_total_flops() + 2 * linear)


def _activation_bytes(model: SemanticDecoder, train: TrainConfig, masked: float) -> int:
    """What one piece of a batch of short sentences keeps for its backward pass, and the head's working memory.

    What is kept for the backward pass is counted by PyTorch as the real modules keep it; the head holds the
    exponentials of some rows, and the table's copy and gradient.
    """
    vocabulary, width = model.config.vocabulary.size, model.config.decoder.width
    tokens = train.batch_tokens // (train.micro_batches or 1)
    length = min(SHORT_TOKENS, model.config.max_tokens)
    rows = max(1, tokens // length)
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.device("meta"):
        z = torch.empty(rows, model.bottleneck.output_dim)
        text = torch.zeros(rows, length, dtype=torch.long)
        positions = torch.arange(round(masked * tokens))
        # Held until they were counted, as the graph would hold them.
        held = [
            model.length_logits(z),
            model.hidden(text, torch.ones(rows), model.condition(z), positions=positions),
        ]
        if model.surrogate is not None:
            held.append(model.predict_embedding(text))
    saved = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    chunk = rows_at_once(round(masked * tokens), vocabulary, 4) * vocabulary * 4
    table = 2 * vocabulary * width * 4
    return saved + chunk + table


def seconds_per_step(flops: float, device: torch.device, dtype: torch.dtype) -> float:
    """About how long an optimiser step takes: its arithmetic at the rate of the device's own matrix products.

    The rate is measured now; a step reaches `USED_RATE` of it. Good to a factor of about two.

    Args:
        flops: Arithmetic of the step on this device.
        device: Where it is trained.
        dtype: Of the products.
    """
    return flops / (USED_RATE * _products_per_second(device, dtype))


def describe_time(config: TrainConfig, per_step: float, step: int, seconds: float) -> str:
    """How long a run will take that has taken `step` steps in `seconds`, and how it is made shorter where that is long.

    Args:
        config: Its ends.
        per_step: Seconds of one step, estimated.
        step: Steps taken.
        seconds: Time taken.
    """
    by_steps = None if config.max_steps is None else max(0, config.max_steps - step) * per_step
    by_clock = None if config.max_minutes is None else max(0.0, 60 * config.max_minutes - seconds)
    if by_steps is not None and (by_clock is None or by_steps < by_clock):
        time_left = by_steps
        text = f"Training will take {about(by_steps)}, by the arithmetic of {counted(config.max_steps or 0, 'step')}"
    else:
        assert by_clock is not None, "one of the two ends is set"
        time_left = by_clock
        text = f"Training ends in {about(by_clock)}, after about {counted(_rounded(by_clock / per_step), 'step')}"
    if time_left <= LONG:
        return f"{text}."
    return (
        f"{text}. For an end after an hour: --max-minutes 60. Stopped with Ctrl-C, it goes on with --resume."
    )


def _rounded(count: float) -> int:
    """An estimate in two digits, since it is not better than that."""
    return int(float(f"{count:.2g}"))


def _products_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of square matrix products, the best of a few."""
    matrix = torch.ones(PROBED_SIZE, PROBED_SIZE, dtype=dtype, device=device)
    best = 0.0
    for _ in range(PROBES):
        began = time.perf_counter()
        # Reading a number waits for the device.
        float((matrix @ matrix)[0, 0])
        best = max(best, 2.0 * PROBED_SIZE**3 / (time.perf_counter() - began))
    return best
