"""Studies whose truth is known, as records that `attnbench.compare` reads.

A run's answer to an image is right where ability + seed effect + image effect + noise > 0, all of them normal, the
noise of unit variance (a probit with crossed effects).
"""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from attnbench import compare
from attnbench.analysis.cells import Cell
from attnbench.analysis.plan import Plan
from attnbench.analysis.recorded import LIMITS
from attnbench.analysis.resampling import Pairing
from attnbench.analysis.verdicts import Verdict
from attnbench.store.runs import RunRecord

WIDE = 50.0
"""A margin that every comparison passes, where equivalence is not what is counted."""
BOOTSTRAPS = 2_000
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)


@dataclass(frozen=True)
class World:
    """Spreads of the effects, in standard deviations of the noise, and how they go together."""

    seeds: float
    images: float = 1.5
    rho: float = 0.0
    """Correlation of an arm's seed effects with the baseline's, at equal seeds."""
    shared: float = 0.8
    """The share of the variance of the image effects that all arms have in common."""
    size: int = 500

    def image_effects(self, arms: int, rng: np.random.Generator) -> np.ndarray:
        """Arms x N."""
        common, own = rng.standard_normal(self.size), rng.standard_normal((arms, self.size))
        return self.images * (np.sqrt(self.shared) * common + np.sqrt(1 - self.shared) * own)

    def right(self, ability: np.ndarray, effects: np.ndarray, runs: int, rng: np.random.Generator) -> np.ndarray:
        """Whether the run of each arm and seed is right about each image: arms x S x N."""
        seed = rng.standard_normal((len(ability), runs))
        seed[1:] = self.rho * seed[0] + np.sqrt(1 - self.rho**2) * seed[1:]
        noise = rng.standard_normal((len(ability), runs, self.size), np.float32)
        known = ability[:, None] + self.seeds * seed
        found: np.ndarray = noise > -(known[..., None] + effects[:, None])
        return found

    def on_these(self, ability: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """Truth of *this test set*: each arm's expected accuracy over seeds on images of these effects, in percent."""
        return 100 * ndtr((ability[:, None] + effects) / np.hypot(1, self.seeds)).mean(1)

    def on_new(self, ability: np.ndarray) -> np.ndarray:
        """Truth of *new images*: the same over images too."""
        return 100 * ndtr(ability / self._spread)

    def ability_on_new(self, levels: Sequence[float]) -> np.ndarray:
        """The abilities whose accuracies on new images are these."""
        return ndtri(np.asarray(levels) / 100) * self._spread

    def ability_on_these(self, levels: Sequence[float], effects: np.ndarray) -> np.ndarray:
        """The abilities whose expected accuracies on these very images are these, by Newton's method."""
        ability, scale = self.ability_on_new(levels), np.hypot(1, self.seeds)
        for _ in range(5):
            slope = (
                100 * np.exp(-(((ability[:, None] + effects) / scale) ** 2) / 2).mean(1) / np.sqrt(2 * np.pi) / scale
            )
            ability = ability + (np.asarray(levels) - self.on_these(ability, effects)) / slope
        return ability

    def run_spread(self, level: float) -> float:
        """Standard deviation of accuracy between seeds on one test set, in points, the binomial part included."""
        chance = self._chances(level)  # seeds x images
        by_seed = _mean(chance.T)
        return 100 * float(np.sqrt(_variance(by_seed) + _mean(_mean((chance * (1 - chance)).T)) / self.size))

    def image_spread(self, level: float) -> float:
        """Standard deviation of expected accuracy between test sets, in points."""
        return 100 * float(np.sqrt(_variance(_mean(self._chances(level))) / self.size))

    @property
    def _spread(self) -> float:
        return float(np.sqrt(1 + self.seeds**2 + self.images**2))

    def _chances(self, level: float) -> np.ndarray:
        """Chance to be right, by seed effect and image effect, at the nodes of a quadrature."""
        return ndtr(self.ability_on_new([level]) + self.seeds * NODES[:, None] + self.images * NODES)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over a normal effect, whose nodes are the first axis."""
    return WEIGHTS @ values / WEIGHTS.sum()


def _variance(values: np.ndarray) -> float:
    return float(_mean(values**2) - _mean(values) ** 2)


@dataclass(frozen=True, kw_only=True)
class Simulated(RunRecord):
    """A record whose predictions lie in memory."""

    said: SimpleNamespace | None = None

    @property
    def predictions(self) -> SimpleNamespace | None:  # type: ignore[override]
        """What it said of each image; None where only accuracies are analysed."""
        return self.said


@functools.cache
def _template(arm: int, seed: int) -> Simulated:
    form: dict[str, Any] = {
        "dataset": "simulated",
        "backbone": "probit",
        "attention": f"arm{arm:02}" if arm else "none",
    }
    form |= {"site": None, "stages": None, "seed": seed, "versions": {"attention": 1, "backbone": 1, "dataset": 1}}
    spec = {"seed": seed, "epochs": 1, **dict.fromkeys(LIMITS)}
    return Simulated(id="simulated", spec=spec, canonical=form, status="done", cards={"attention": {}})


def analysed(right: np.ndarray, margin: float = WIDE, pairing: Pairing = "independent", whole: bool = False) -> Cell:
    """What `attnbench.compare` makes of a simulated study: arms x S x N, the baseline first; `whole` with images."""
    labels = np.zeros(right.shape[2], np.int64)
    records = []
    for arm, runs in enumerate(right):
        for seed, one in enumerate(runs):
            said = SimpleNamespace(labels=labels, predicted=np.where(one, 0, 1), correct=one) if whole else None
            test = {"accuracy": 100 * float(one.mean()), "images": len(one)}
            records.append(dataclasses.replace(_template(arm, seed), test=test, said=said))
    return compare(records, plan=Plan(margin=margin, pairing=pairing)).cells[0]


def study(world: World, levels: Sequence[float], runs: int, rng: np.random.Generator) -> np.ndarray:
    """Arms x S x N, right or not, of arms whose expected accuracies on these very images are the levels."""
    effects = world.image_effects(len(levels), rng)
    return world.right(world.ability_on_these(levels, effects), effects, runs, rng)


def first(right: np.ndarray, margin: float = WIDE) -> Verdict:
    """The verdict on the first arm beside the baseline."""
    contrast = analysed(right, margin).arms[1].contrast
    assert contrast is not None
    return contrast.verdict


def crossed_draws(right: np.ndarray, stream: int) -> np.ndarray:
    """2,000 means of S x N, seeds and images drawn again, crossed (Owen 2007); all streams draw the same images."""
    seeds, images = right.shape
    accuracies = _image_counts(images) @ right.T.astype(np.float32) / images  # draws x S
    weights = np.random.default_rng((1, stream)).multinomial(seeds, np.full(seeds, 1 / seeds), BOOTSTRAPS) / seeds
    drawn: np.ndarray = (weights * accuracies).sum(1)
    return drawn


@functools.lru_cache(maxsize=1)
def _image_counts(images: int) -> np.ndarray:
    """How often each image is drawn when as many are drawn as there are: float32 2,000 x N."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, images, images) for _ in range(BOOTSTRAPS))
    return np.stack([np.bincount(each, minlength=images) for each in drawn]).astype(np.float32)
