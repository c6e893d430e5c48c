"""The answer of `attnbench advise` in words: a sentence with its strength, or the plain word that nothing is known."""

from collections.abc import Mapping, Sequence

from attnbench.analysis.findings import Advised, Finding, Regime
from attnbench.console import joined
from attnbench.report.text import signed


def sentence(found: Advised, like: str | None, limits: Mapping[str, float], train_images: int | None) -> str:
    """What to take, or why nothing can be advised."""
    if found.regime is None:
        where = f" on {like}" if like else ""
        near = f" with about {train_images:,} training images" if train_images else ""
        return f"Nothing is known: no committed study compared mechanisms{where}{near}."
    beyond = f" within {_limits(limits)}" if limits else ""
    studies = sorted({each.regime.study for each in found.fitting} or {found.regime.study})
    baseline, where = found.regime.baseline, _words(found.regime, studies)
    if not found.fitting:
        return f"{baseline}: of the mechanisms that were tried on {where}, none is known to be{beyond}{_left(found)}."
    if not found.better:
        told = joined([f"{each.attention} ({each.verdict}): {_gain(each, baseline)}" for each in found.fitting])
        return f"{baseline}: no mechanism{beyond} was shown to be better on {where}: {told}{_left(found)}."
    first, *others = found.better
    also = f"; {joined([f'{each.attention} {signed(each.gain)}' for each in others])} better too" if others else ""
    where = _words(first.regime, [first.regime.study])
    return f"{first.attention}: {_gain(first, baseline)}{beyond} on {where}, at {_costs(first)}{also}{_left(found)}."


def strength(found: Advised) -> str:
    """How far the evidence reaches."""
    if found.regime is None:
        return "The study below would tell."
    if not found.better:
        return (
            "Strength: that nothing was shown is no proof that nothing helps, unless a mechanism is called equivalent."
        )
    told = [
        f"{each.verdict} on {each.regime.dataset}, {each.regime.backbone}: {_gain(each, each.regime.baseline)}"
        for each in found.elsewhere
    ]
    if not told:
        return "Strength: one study; other networks, longer training and other images were not tried."
    return f"Strength: {1 + len(told)} studies; besides this one it was {joined(told)}."


def _left(found: Advised) -> str:
    """What the limits left out, and why."""
    left = [(found.beyond, "beyond that"), (found.unmeasured, "not measured for it")]
    told = joined([f"{number} {'is' if number == 1 else 'are'} {why}" for number, why in left if number])
    return f"; of the rest {told}" if told else ""


def _words(regime: Regime, studies: Sequence[str]) -> str:
    """A regime, and where it was tried."""
    named = f"{'study' if len(studies) == 1 else 'studies'} {joined(studies)}"
    return (
        f"{regime.dataset} ({regime.train_images:,} training images of {regime.image_size} px, {regime.backbone}, "
        f"recipe {regime.recipe}, {regime.epochs} epochs; {named})"
    )


def _gain(finding: Finding, baseline: str) -> str:
    ends, seeds = (
        f"[{signed(finding.low)}, {signed(finding.high)}]",
        f"{finding.seeds} + {finding.baseline_seeds} seeds",
    )
    return f"{signed(finding.gain)} points over {baseline} (95 % interval {ends}, {seeds})"


def _costs(finding: Finding) -> str:
    latency = "" if finding.latency is None else f", x{finding.latency:.2f} latency"
    return f"x{finding.parameters:.2f} parameters, x{finding.training:.2f} training time{latency}"


def _limits(limits: Mapping[str, float]) -> str:
    return joined([f"{name} x{most:g}" for name, most in limits.items()])


def study_file(like: str | None, limits: Mapping[str, float]) -> str:
    """A file for `attnbench choose` that answers the same question by training."""
    asked = f"\nlimits: {{{', '.join(f'{name}: {most:g}' for name, most in limits.items())}}}" if limits else ""
    dataset = 'imagefolder(path="my-images")' if like in (None, "imagefolder") else like
    dataset = "'" + dataset.replace("'", "''") + "'" if "(" in dataset else dataset
    return f"""name: advise
recipe: fast
base: {{dataset: {dataset}, backbone: speednet(stride=2), epochs: 10, precision: bf16}}
grid: {{attention: all}}
budget: {{cpu_hours: 4}}{asked}
confirm: 3
margin: 0.5
baseline: none
"""
