"""What a stored run asks for; its record may be somebody else's and name code, which is not imported unasked."""

from collections.abc import Collection

from attnbench.catalogue import foreign
from attnbench.errors import AttnbenchError, StoreProblem
from attnbench.spec.run import RunSpec
from attnbench.store.record import RunRecord


def spec_of(record: RunRecord, code: Collection[str] = ()) -> RunSpec:
    """The spec of a stored run.

    Args:
        code: `package.module:Object` that the user lets be imported, besides what this process was asked for already.

    Raises:
        StoreProblem: it names other code, or is no spec.
        BadSpec: it is one that cannot be here.
    """
    with foreign.barred(but={*code, *foreign.asked()}) as refused:
        try:
            return RunSpec.of(record.spec)
        except (AttnbenchError, TypeError, ValueError) as problem:
            if refused:
                names = sorted(set(refused))
                allow = " ".join(f"--code {name}" for name in names)
                raise StoreProblem(
                    f"run {record.id} names code of its maker's own, {', '.join(names)}, which is not imported "
                    f"because a record says so; if you know that code, add {allow}"
                ) from None
            if isinstance(problem, AttnbenchError):
                raise
            raise StoreProblem(f"run {record.id}: its spec is none ({problem})") from None
