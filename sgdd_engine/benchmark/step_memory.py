"""Peak memory of a training step, ours and the plain reference's."""

from functools import partial

from sgdd_engine.benchmark.context import Workbench
from sgdd_engine.benchmark.machine import dtype_name
from sgdd_engine.benchmark.measurement import Row
from sgdd_engine.benchmark.memory import peak_bytes
from sgdd_engine.benchmark.training_step import sentences_that_fit, shrunk
from sgdd_engine.events import StageFinished, StageStarted

_STAGE = "peak memory of a training step"
_NOTE = (
    "Above parameters, optimiser state and average, as PyTorch allocates; the gradients, which both need alike, are "
    "counted in the value and left out in the details. A matrix library's own scratch space is in neither."
)


def measure_step_memory(bench: Workbench, _: frozenset[str]) -> list[Row]:
    """The row `step-memory`: our peak over the plain reference's."""
    bench.on_event(StageStarted(_STAGE, 1, "steps"))
    trainee = bench.trainee(bench.reference_config)
    rows = sentences_that_fit(bench, trainee)
    batches = bench.batches(rows)
    # The moments are allocated at the first step.
    trainee.our_step(batches[0])
    ours = max(peak_bytes(partial(trainee.our_step, batch), bench.device) for batch in batches)
    longest = batches[-1]
    plain = peak_bytes(
        partial(trainee.plain_step, longest, longest.padded(bench.shapes.padded)), bench.device
    )
    gradients = sum(p.numel() * p.element_size() for p in trainee.model.parameters())
    bench.on_event(StageFinished(_STAGE))
    return [
        Row(
            measure="step-memory",
            title="same: peak memory above parameters and optimiser state, over the plain reference's",
            value=ours / plain,
            unit="×",
            goal=bench.goal(1 / 8),
            at_most=True,
            details={
                "dtype": dtype_name(bench.dtype),
                "batch_sentences": rows,
                "batch_lengths": [batch.x.shape[1] for batch in batches],
                "ours_peak_bytes": ours,
                "plain_reference_peak_bytes": plain,
                "gradient_bytes": gradients,
                "value_without_gradients": max(0, ours - gradients) / max(1, plain - gradients),
            },
            note=" ".join(filter(None, [_NOTE, shrunk(bench, rows)])),
        )
    ]
