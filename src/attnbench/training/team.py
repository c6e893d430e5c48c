"""One run by several processes, as `torchrun` starts them: each computes its share of every batch."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from attnbench import devices
from attnbench.data.batches import share
from attnbench.errors import BadSpec
from attnbench.spec.finetuning import thawed
from attnbench.spec.run import RunSpec

if TYPE_CHECKING:
    from attnbench.training.state import State

AGREE = 8
"""Steps after which the processes ask each other whether one of them was told to stop."""


class Share(NamedTuple):
    """What one process computes of a batch."""

    weight: float
    """What its mean loss counts in that of the batch."""
    parts: int
    """How many processes' gradients are averaged."""
    counted: bool
    """Whether its right answers count: those of a batch that all compute count once."""


WHOLE = Share(1.0, 1, True)


@dataclass(frozen=True)
class Team:
    """The processes of a run, as one of them sees them. The first keeps the store, says what is said, and tests."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that keeps the store."""
        return self.rank == 0

    @property
    def part(self) -> tuple[int, int]:
        """Which share of how many this process computes."""
        return self.rank, self.size

    def share(self, images: int) -> "Share":
        """What this process computes of a batch of so many images."""
        mine = share(images, *self.part)
        taken = mine.stop - mine.start
        if taken == images:  # as do all the others
            return Share(1 / self.size, self.size, self.first)
        return Share(taken / images, self.size, True)

    def told(self, value: Any) -> Any:
        """What the first process says; the others' values are not looked at."""
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, 0)
        return said[0]

    def begin(self, state: "State") -> None:
        """Let all start where the first process does; its losses and right answers stay its own."""
        if self.size > 1:
            state.restore(self.told(state.to_dict()))
            if not self.first:
                state.losses.zero_()
                state.correct.zero_()

    def network(self, model: nn.Module) -> Any:
        """The network whose gradients are the mean over all processes; it starts as the first process's."""
        return model if self.size == 1 else DistributedDataParallel(model)

    def due(self, state: "State", late: bool) -> bool:
        """Whether training pauses here: all processes at the same step, because of any of them."""
        if self.size == 1:
            return state.stop or late
        if state.step % AGREE:
            return False
        wanted = torch.tensor([state.stop, late], dtype=torch.int64)
        distributed.all_reduce(wanted, distributed.ReduceOp.MAX)
        state.stop = bool(wanted[0])
        return bool(wanted.any())

    def collect(self, state: "State") -> None:
        """Bring losses and right answers of the running epoch to the first process; the others start theirs anew."""
        if self.size > 1:
            for kept in (state.losses, state.correct):
                distributed.reduce(kept, 0)
                if not self.first:
                    kept.zero_()


ALONE = Team()


def starts() -> int:
    """How many processes `torchrun` started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process speaks for the run."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def gathered(spec: RunSpec) -> Iterator[Team]:
    """The team of this process, for as long as the block lasts.

    Raises:
        BadSpec: a batch that leaves less than two images to a process, or parameters that learn only later on.
    """
    if starts() == 1:
        yield ALONE
        return
    if spec.batch_size < 2 * starts():
        raise BadSpec({"batch_size": f"{spec.batch_size} leaves less than two images to each of {starts()} processes"})
    if thawed(vars(spec)):
        raise BadSpec({"freeze_epochs": f"{spec.freeze_epochs}: what thaws needs one process, not {starts()}; 0 works"})
    distributed.init_process_group(devices.collectives())
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
