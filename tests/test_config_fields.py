import pytest

from sgdd_engine.data.config import DataConfig
from sgdd_engine.diffusion.config import DiffusionConfig, SamplingConfig
from sgdd_engine.errors import ConfigError
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.training.config import TrainConfig


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: DiffusionConfig(schedule="foo"), "diffusion.schedule"),
        (lambda: DiffusionConfig(num_steps=1), "diffusion.num_steps"),
        (lambda: SamplingConfig(guidance="strong"), "sample.guidance"),
        (lambda: SamplingConfig(top_p=0.0), "sample.top_p"),
        (lambda: BottleneckConfig(kind="tight"), "bottleneck.kind"),
        (lambda: TrainConfig(beta=-1.0), "train.beta"),
        (lambda: DecoderConfig(width=100, heads=3), "decoder.width"),
        (lambda: DecoderConfig(width=12, heads=4), "rotary"),
        (lambda: DecoderConfig(width=0), "decoder.width"),
        (lambda: DecoderConfig(mlp_ratio=0.001), "decoder.mlp_ratio"),
        (lambda: EncoderConfig(pooling="max"), "encoder.pooling"),
        (lambda: EncoderConfig(name=" "), "encoder.name"),
        (lambda: TokenizerConfig(vocab_size=3), "tokenizer.vocab_size"),
        (lambda: DataConfig(min_words=9, max_words=8), "data.min_words"),
        (lambda: DataConfig(limit=0), "data.limit"),
        (lambda: TrainConfig(max_steps=None), "train.max_steps"),
        (lambda: TrainConfig(learning_rate=0.0), "train.learning_rate"),
        (lambda: TrainConfig(ema_decay=1.0), "train.ema_decay"),
        (lambda: TrainConfig(seed=-1), "train.seed"),
        (lambda: DataConfig(seed=-1), "data.seed"),
        (lambda: EvalConfig(seed=1 << 63), "eval.seed"),
        (lambda: EvalConfig(limit=1), "eval.limit"),
    ],
)
def test_a_value_that_cannot_work_is_named_in_a_sentence(make, key):
    with pytest.raises(ConfigError, match=key) as caught:
        make()
    assert caught.value.message.endswith(".")
