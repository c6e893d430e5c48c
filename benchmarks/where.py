"""Where the time of a step goes, by kind of operation: the classic loop's, and ours."""

from collections.abc import Iterator

from baselines import Step, classic_step, textbook
from steps import batch, ours_step, spec_of
from torch.profiler import ProfilerActivity, profile

KINDS = {
    "convolutions": ("convolution", "mkldnn", "conv"),
    "batch norm": ("batch_norm",),
    "ReLU": ("relu", "threshold", "clamp_min"),
    "optimiser": ("Optimizer", "_fused", "_foreach", "AdamW", "SGD", "addcdiv", "lerp", "sqrt"),
    "products and sums": (
        "aten::mul",
        "aten::add",
        "aten::sub",
        "aten::sum",
        "aten::mean",
        "aten::div",
        "max",
        "eq",
        "mm",
    ),
    "moves": ("copy", "cat", "pad", "pixel", "stack", "fill", "zero", "clone", "empty", "slice", "narrow"),
}
"""What an operation's name holds; the first that fits counts."""
STEPS = 10


def rows() -> Iterator[dict[str, object]]:
    """Milliseconds of a step of ResNet-20, batch 32, by kind, for the classic loop and for ours."""
    images, labels = batch(32)
    plain = images.contiguous()
    for attention in ("none", "se", "cbam"):
        yield {
            "what": f"{attention}, classic loop",
            **_kinds(classic_step(textbook("resnet20", attention), plain, labels)),
        }
        yield {"what": f"{attention}, ours", **_kinds(ours_step(spec_of("resnet20", attention), images, labels))}


def _kinds(step: Step) -> dict[str, float]:
    for _ in range(3):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(STEPS):
            step()
    found = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in seen.key_averages():
        kind = next((kind for kind, names in KINDS.items() if any(name in event.key for name in names)), "other")
        found[kind] += event.self_cpu_time_total / 1000 / STEPS
    return {kind: round(value, 2) for kind, value in found.items()}
