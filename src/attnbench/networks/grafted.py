"""What stands in a network where a mechanism was put: the backbone's own module with the mechanism beside it."""

from typing import Any

import torch
from torch import Tensor, nn


class Grafted(nn.Sequential):
    """A module of the backbone with a mechanism behind or before it, or a mechanism in its place.

    What the network gives the module besides maps goes to the module; where it has been replaced, nobody gets it.
    """

    def __init__(self, *modules: nn.Module, plain: int | None = None, replaced: nn.Module | None = None) -> None:
        super().__init__(*modules)
        self.plain = plain
        """Which of them is the backbone's own; None where it has been replaced."""
        vars(self)["replaced"] = replaced  # no part of the network any more
        self.shared = set[str]()
        """Attributes that it has from the backbone's own module: what is set here is set there."""
        if plain is None and replaced is None:
            return  # a slice of one has no original
        for name, value in vars(self.original).items():  # some networks note there which layer feeds which
            if name not in vars(self) and isinstance(value, bool | int | str | list | tuple):
                vars(self)[name] = value
                self.shared.add(name)
        self.training = self.original.training
        for added in (part for number, part in enumerate(self) if number != plain):
            added.train(self.training)

    def forward(self, input: Tensor, *others: Any, **named: Any) -> Tensor:
        x = input
        for number, part in enumerate(self):
            x = part(x, *others, **named) if number == self.plain else part(x)
        return x

    def __getattr__(self, name: str) -> Any:
        """What the network asks of the backbone's own module, such as the dtype of its weight."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            original = None if name.startswith("__") or "plain" not in vars(self) else self.original
            if original is None or not hasattr(original, name):
                raise
            return getattr(original, name)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in vars(self).get("shared", ()):
            setattr(self.original, name, value)

    @property
    def original(self) -> nn.Module:
        """The backbone's own module."""
        module: nn.Module = vars(self)["replaced"] if self.plain is None else self[self.plain]
        return module


class ZeroInitialisedResidual(nn.Module):
    """A mechanism that starts as doing nothing: x + s (f(x) - x), with one learned s that starts at 0."""

    def __init__(self, mechanism: nn.Module) -> None:
        super().__init__()
        self.mechanism = mechanism
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = x + self.strength * (self.mechanism(x) - x)
        return mixed
