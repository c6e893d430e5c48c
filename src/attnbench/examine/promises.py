"""What a promise is: a sentence, a function that yields what breaks it, and where it does not apply."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.catalogue.cards import Paper
from attnbench.catalogue.foreign import told
from attnbench.catalogue.formula import Size
from attnbench.catalogue.registry import ATTENTION, Choice
from attnbench.errors import BadReference
from attnbench.mechanisms import build_attention
from attnbench.seeding import seeded

MAP: Size = (8, 8)
CHANNELS = 32


@dataclass(frozen=True)
class Subject:
    """A mechanism under test: how it is built, and what its card says."""

    reference: str

    @cached_property
    def choice(self) -> Choice[Paper]:
        """What the reference asks for."""
        return ATTENTION.resolve(self.reference)

    @property
    def card(self) -> Paper:
        """Its card; a blank one for a class without."""
        return self.choice.card

    @property
    def options(self) -> dict[str, Any]:
        """All its options, those left at their defaults too."""
        return self.choice.settings

    @property
    def positions(self) -> str:
        """Why places matter to it, or to the mechanism that it is made of."""
        return self.choice.placed.positions

    @property
    def at_defaults(self) -> bool:
        """Whether no option was given: of these its card speaks."""
        return self.choice.at_defaults

    @property
    def choices(self) -> list["Subject"]:
        """Itself, and each choice that its options, or those of a part, offer."""
        return [self, *(Subject(str(choice)) for choice in _offered(self.choice))]

    def build(self, channels: int = CHANNELS, size: Size = MAP) -> nn.Module:
        """The module as it is initialised."""
        with seeded(0, "conformance"):
            return build_attention(self.reference, channels, size)

    def redrawn(self, channels: int = CHANNELS, size: Size = MAP, seed: int = 0) -> nn.Module:
        """The module with every parameter drawn anew, since many start at a value that hides what they do."""
        module, generator = self.build(channels, size), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(generator=generator)
        return module


def _offered(choice: Choice[Paper]) -> Iterator[Choice[Paper]]:
    for option, values in choice.entry.choices.items():
        yield from (dataclasses.replace(choice, options={option: value}) for value in values)
    for place, part in enumerate(choice.parts if choice.entry.composed else ()):
        before, behind = choice.parts[:place], choice.parts[place + 1 :]
        yield from (dataclasses.replace(choice, parts=(*before, other, *behind)) for other in _offered(part))


@dataclass(frozen=True)
class Outcome:
    """What came of one promise."""

    wrong: tuple[str, ...] = ()
    """What breaks it; empty if it is kept."""
    reason: str = ""
    """Why it does not apply; empty if it does."""

    @property
    def word(self) -> str:
        """The outcome in one word."""
        return "FAILED" if self.wrong else "n/a" if self.reason else "ok"


class DoesNotApply(Exception):
    """A promise says nothing of this mechanism, for the reason given."""


Check = Callable[[Subject], Iterator[str]]
PROMISES: dict[str, Check] = {}
"""What is promised, as a sentence -> the function that yields what breaks it."""


def promise(sentence: str) -> Callable[[Check], Check]:
    """Add a function to what every mechanism promises."""

    def add(check: Check) -> Check:
        PROMISES[sentence] = check
        return check

    return add


def outcome(reference: str, sentence: str) -> Outcome:
    """What comes of one promise of a mechanism.

    Raises:
        BadReference: nothing is called so.
    """
    subject = Subject(reference)
    _ = subject.choice
    return tried(lambda: PROMISES[sentence](subject))


def tried(check: Callable[[], Iterator[str]]) -> Outcome:
    """What comes of a check. An exception breaks the promise, and is told in one line."""
    try:
        return Outcome(wrong=tuple(check()))
    except DoesNotApply as why:
        return Outcome(reason=str(why))
    except Exception as problem:
        cause = problem.__cause__ if isinstance(problem, BadReference) and problem.__cause__ else problem
        known = told(cause)  # where in somebody's code: many of its assertions say nothing else
        return Outcome(wrong=(str(known or f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"),))


def has_gate(module: nn.Module) -> bool:
    """Whether its class has a method `gate`; a layer that is called so is none."""
    return callable(getattr(type(module), "gate", None))


def gated(module: nn.Module) -> Any:
    """The module, if it has a gate.

    Raises:
        DoesNotApply: it has none.
    """
    if not has_gate(module):
        raise DoesNotApply("there is no method gate(x)")
    return module


def images(*shape: int, seed: int = 1) -> Tensor:
    """Random images of a seed: B C H W."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unequal(one: Tensor, two: Tensor, what: str, tolerance: float = 1e-4) -> Iterator[str]:
    """Say `what` if two tensors differ by more than `tolerance`, relative to the largest value above 1."""
    one, two = one.detach(), two.detach()
    if one.shape != two.shape:
        yield f"{what}: shapes {tuple(one.shape)} and {tuple(two.shape)}"
        return
    gap, scale = (one - two).abs().max().item(), max(1.0, two.abs().max().item())
    if not gap <= tolerance * scale:
        yield f"{what} (by up to {gap:.3g})"
