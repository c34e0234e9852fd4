"""The same chain on a CUDA device, where there is one: generators, masks, fused optimiser state, bf16."""

import pytest
import torch
from tiny_training import tiny

from sgdd_engine import SGDD
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.data import from_corpus
from sgdd_engine.evaluation.evaluate import evaluate
from sgdd_engine.training.loop import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_train_resume_evaluate_and_sample_on_a_gpu(tiny_corpus_folder, sentences, tmp_path, precision):
    corpus, run = Corpus.open(tiny_corpus_folder), tmp_path / "run"
    train(corpus, run, tiny(max_steps=4, precision=precision), device="cuda")
    result = train(corpus, run, tiny(max_steps=8, precision=precision), device="cuda", resume=True)
    assert result.step == 8

    model = SGDD.from_pretrained(run, device="cuda")
    hot = SamplingConfig(cfg=2.0, temperature=0.7, position_noise=0.5, top_p=0.9)
    written = model.reconstruct(sentences[:5], sampling=hot, candidates=2, num_samples=2)
    assert len(written) == 10
    on_cpu = SGDD.from_pretrained(run, device="cpu")
    assert torch.allclose(on_cpu.encode(sentences[:5]), model.encode(sentences[:5]), atol=1e-3)
    report = evaluate(
        model, from_corpus(corpus, "test", limit=6), config=EvalConfig(limit=6, nelbo_samples=2)
    )
    assert report.to_dict()["sentences"] == 6


def test_the_head_gives_the_same_loss_and_gradients_on_a_gpu():
    from sgdd_engine.models.head import VocabularyHead

    torch.manual_seed(0)
    head, hidden = VocabularyHead(1000, 32), torch.randn(700, 32)
    targets, weights = torch.randint(0, 1000, (700,)), torch.rand(700)
    results = []
    for device in ("cpu", "cuda"):
        head = head.to(device).requires_grad_()
        head.zero_grad()
        inputs = hidden.detach().to(device, copy=True).requires_grad_()
        scores = head.cross_entropy(inputs, targets.to(device), weights.to(device))
        scores.loss.backward()
        # Copies: moving the head to the other device moves its gradients too.
        results.append(
            [t.detach().cpu().clone() for t in (scores.loss, inputs.grad, head.table.grad, head.bias.grad)]
        )
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
