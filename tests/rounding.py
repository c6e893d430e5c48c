"""How far rounding may move a result on any processor: derived from the computation, not measured on one machine.

Formulas are compared in float64 wherever that is possible: there rounding is a billion times smaller than a mistake.
This is for tests of float32 itself. Another instruction set or another version of a library adds up in another order,
fuses a product with a sum, or computes an exponential by another polynomial. Whatever it does,

* each operation rounds: a number of its result, or a product inside it, is off by up to u = 2**-24 of its size.
  `Rounded` does that at random to what goes into each operation of a computation in float64, whose own errors are
  negligible, and to what comes out; `moved` tells how far the results move, those too that are 0 because terms cancel;
* a sum of n terms rounds at each addition, by up to u of what is added up so far. As long as the order does not depend
  on the values, that is about as large as the sum or as the root of the sum of the squared terms: the two by which
  `moved` measures. The n errors, as good as independent of each other, make sqrt(n) of one (Higham and Mary 2019, "A
  new approach to probabilistic rounding error analysis"). No sum is longer than the largest input has numbers.

So a result in float32 may be off by sqrt(n) * moved.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

UNIT = 2.0**-24
"""Half the distance from 1 to the next number in float32."""
DRAWS = 8
CHOOSING = {torch.ops.aten.amax, torch.ops.aten.eq}
"""Operations that choose among their numbers and round nothing; a maximum is found again by being equal to it."""


class Rounded(TorchDispatchMode):
    """Within it each number that an operation takes or gives is off by up to `UNIT` of its size, at random."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.is_view or func.overloadpacket in CHOOSING:
            return func(*args, **(kwargs or {}))
        if not func._schema.is_mutable:
            args = tree_map(self.of, args)
        return tree_map(self.of, func(*args, **(kwargs or {})))

    def of(self, x: Any) -> Any:
        """The same numbers, each a little off; whatever is no floating-point tensor as it is."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        return x * (1 + UNIT * (2 * torch.rand(x.shape, generator=self.generator, dtype=x.dtype) - 1))


def moved(compute: Callable[[], Sequence[Tensor]]) -> list[float]:
    """The largest change of each result of a computation in float64 when each of its operations rounds to float32."""
    exact, largest = compute(), [0.0] * len(compute())
    for seed in range(DRAWS):
        with Rounded(seed):
            found = compute()
        gaps = (float((one - other).abs().max()) for one, other in zip(found, exact, strict=True))
        largest = [max(pair) for pair in zip(gaps, largest, strict=True)]  # nan stays: no bound at all
    return largest


def clear(logits: ArrayLike) -> np.ndarray:
    """The images (N) whose first class leads (N K) by more than rounding can change, in half precision too."""
    first, second = np.sort(np.asarray(logits, np.float64), 1)[:, :-3:-1].T
    return first - second > 0.01 * np.maximum(1, np.abs(first))


def allowed(compute: Callable[[], Sequence[Tensor]], *inputs: Tensor) -> list[float]:
    """How far from its results in float64 a computation of `inputs` may be in float32."""
    terms = max(x.numel() for x in inputs)
    return [math.sqrt(terms) * gap for gap in moved(compute)]
