"""A run that is not done: its record where it failed by itself, and what is said where the machine lacks memory."""

import contextlib
import dataclasses
import re
import traceback
from collections.abc import Iterator

from attnbench.catalogue.foreign import told
from attnbench.devices import out_of_memory
from attnbench.errors import AttnbenchError, BadSpec, Diverged, MachineFault, OutOfMemory, StoreProblem
from attnbench.spec.run import RunSpec, canonical
from attnbench.store.environment import environment
from attnbench.store.runs import RunRecord, Store

BROKEN = re.compile(
    r"CUDA error: (?!device-side assert).*|CU\w+_STATUS_(NOT_INITIALIZED|INTERNAL_ERROR|EXECUTION_FAILED).*"
    r"|.*Connection (closed|reset) by peer.*"
)
"""What torch says of a device that fails or is full, and of another process of the run that is gone."""


def unfinished(spec: RunSpec, recipe: str) -> RunRecord:
    """What is known of a run before it is trained."""
    return RunRecord(
        id=spec.id,
        spec=spec.fields,
        canonical=canonical(spec),
        status="failed",
        recipe=recipe,
        environment=environment(),
        cards=spec.resolved.cards(),
    )


@contextlib.contextmanager
def marked(store: Store, spec: RunSpec, recipe: str) -> Iterator[None]:
    """Write a record of the failure, unless it is the machine's: that is no result, and the run goes on later."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as problem:
        if machines := _machines(store, spec, problem):
            raise machines from problem
        if isinstance(problem, AttnbenchError | KeyboardInterrupt | ImportError) and not isinstance(problem, Diverged):
            raise  # nothing that the run did: an installation that breaks under it neither
        reason = str(problem) if isinstance(problem, Diverged) else f"{type(problem).__name__}: {problem}"
        problem.add_note(f"run {spec.id} ({spec.dataset} {spec.backbone} {spec.attention} seed {spec.seed})")
        record = dataclasses.replace(unfinished(spec, recipe), error=reason)
        with contextlib.suppress(OSError):
            store.log(spec.id, "failed", error=reason, traceback=traceback.format_exc())
            store.save(record)
        raise


def _machines(store: Store, spec: RunSpec, problem: BaseException) -> AttnbenchError | None:
    """What is said of a fault that is the machine's and not the run's; None for any other."""
    if out_of_memory(problem):
        return _too_large(store, spec, problem)
    if isinstance(problem, RuntimeError) and "does not have a deterministic implementation" in str(problem):
        what = f"{str(problem).split(' ')[0]} has no deterministic implementation on this device; give false"
        return BadSpec({"deterministic": what})
    if isinstance(problem, RuntimeError) and (found := BROKEN.search(str(problem))):
        return MachineFault(f"run {spec.id} stopped, and goes on from its checkpoint: {found[0]}")
    if isinstance(problem, OSError) and told(problem) is None:  # a full disk, a folder that is gone
        return StoreProblem(f"run {spec.id} in {store.path}/ stopped: {problem.strerror or problem}")
    return None


def _too_large(store: Store, spec: RunSpec, problem: BaseException) -> OutOfMemory:
    """What is said of a run that finds no memory. It is not marked failed, for another machine may have enough."""
    size = f"a batch size of {spec.batch_size}"
    where = (
        f"in training with {size}"
        if store.epochs(spec.id) < spec.epochs
        else f"in the test with {size} and each half of it"
    )
    with contextlib.suppress(OSError):
        store.log(spec.id, "out of memory", error=str(problem).split("\n")[0], batch_size=spec.batch_size)
    smaller = [f"--batch-size {spec.batch_size // 2}"] if spec.batch_size > 1 else []
    others = ", ".join(
        [
            *smaller,
            "a smaller --image-size or network",
            "--micro-batch auto without batch norm",
            "--precision bf16 on a GPU",
        ]
    )
    return OutOfMemory(
        f"run {spec.id} ({spec.dataset} {spec.backbone} {spec.attention} seed {spec.seed}) is out of memory {where}; "
        f"it goes on from its checkpoint where there is more memory "
        f"(fewer --jobs, another device, --micro-batch auto where nothing is batch norm); "
        f"runs of their own that need less: {others}"
    )
