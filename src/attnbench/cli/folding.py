"""The verb `fold`: a trained run without its mechanism."""

from pathlib import Path

from tyro.conf import Positional

from attnbench.cli.flags import CodeFlag, DataFlag, StoreFlag


def fold(
    run: Positional[str],
    margin: float = 0.5,
    output: Path | None = None,
    store: StoreFlag = None,
    data_dir: DataFlag = None,
    device: str = "auto",
    code: CodeFlag = (),
) -> int:
    """Write a trained run without its mechanism, its gates folded into the weights beside them, where that is the same.

    Args:
        run: An id, the beginning of one, or a run's folder.
        margin: The largest change of validation accuracy, in percentage points, that does not matter.
        output: File of the weights, under the plain backbone's names (default: ID-folded.safetensors); the evidence
            goes beside it, as JSON.
        device: auto, cpu, cuda or cuda:N.
    """
    from attnbench.cli.reading import runtime_of
    from attnbench.examine.folding import fold as without

    found = without(run, margin, runtime_of(store=store, data_dir=data_dir, device=device), code)
    files = found.write(output or Path(f"{found.run}-folded.safetensors"))
    print(found)
    print(f"written: {' and '.join(map(str, files))}")
    return 0
