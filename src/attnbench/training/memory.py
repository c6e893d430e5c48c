"""A run that asks for more memory than there is: what is said of it, and what would help."""

import contextlib

from attnbench.errors import OutOfMemory
from attnbench.spec.run import RunSpec
from attnbench.store.runs import Store
from attnbench.training.loop import out_of_memory


def lacking(problem: BaseException) -> bool:
    """Whether Python or torch could not have the memory that it asked for."""
    return isinstance(problem, MemoryError) or (isinstance(problem, RuntimeError) and out_of_memory(problem))


def too_large(store: Store, spec: RunSpec, problem: BaseException) -> OutOfMemory:
    """What is said of a run that finds no memory. It is not marked failed, for another machine may have enough."""
    trained = sum(line["event"] == "epoch" for line in store.journal(spec.id))
    size = f"a batch size of {spec.batch_size}"
    where = f"in training with {size}" if trained < spec.epochs else f"in the test with {size} and each half of it"
    with contextlib.suppress(OSError):
        store.log(spec.id, "out of memory", error=str(problem).split("\n")[0], batch_size=spec.batch_size)
    smaller = [f"--batch-size {spec.batch_size // 2}"] if spec.batch_size > 1 else []
    others = ", ".join([*smaller, "a smaller --image-size or network", "--precision bf16 on a GPU"])
    return OutOfMemory(
        f"run {spec.id} ({spec.dataset} {spec.backbone} {spec.attention} seed {spec.seed}) is out of memory {where}; "
        f"it goes on from its checkpoint where there is more memory "
        f"(fewer --jobs, another device); runs of their own that need less: {others}"
    )
