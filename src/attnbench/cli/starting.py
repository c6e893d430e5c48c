"""The first verbs that a new user calls: demo and init."""

from pathlib import Path

from tyro.conf import Positional

from attnbench.cli.browser import browse
from attnbench.cli.flags import DataFlag, vacant
from attnbench.console import printable
from attnbench.errors import AttnbenchError, writing
from attnbench.spec.run import Runtime

NEXT = """
The same for images of your own, in a folder with one folder a class:
  attnbench init PHOTOS                                   looks at them and writes mine.yaml
  attnbench study mine.yaml --until-decided --jobs 2      trains; stop it and start it again as you like
  attnbench report mine.yaml                              the page"""
BROKEN = "SOMETHING IS BROKEN: a network whose residual branches are multiplied by 0 must come out worse."


def demo(jobs: int = 2) -> int:
    """Show a verdict that was decided on real images, train a small study beside it, and open its page.

    Args:
        jobs: Runs of the small study at a time.
    """
    from attnbench import demo as shown
    from attnbench.cli.reading import compare, evidence, report
    from attnbench.cli.training import planned, trained
    from attnbench.execution.executors import Execution
    from attnbench.report.sentences import sentence

    with evidence(shown.DECIDED, None) as (comparison, _):
        runs = sum(len(arm.records) for cell in comparison.cells for arm in cell.arms)
        print(f"1. Decided on real images, told again from the records of {runs} runs in this package.\n")
        for cell in comparison.cells:
            print("\n".join(f"* {sentence(arm.contrast, cell)}" for arm in cell.arms if arm.contrast))
    print("\n2. Trained now, on this machine: a small study of real images, with a contrast that must be found.\n")
    if trained(*planned(shown.STUDY, Runtime()), Execution(jobs=jobs)) or compare(
        "constant(value=0)", "none", study=shown.STUDY, expect="worse"
    ):
        print(f"\n{BROKEN}")
        return 1
    report(shown.STUDY, compare_with=shown.TRAINED)
    _open(Path("reports/quick/index.html"))
    print(NEXT)
    return 0


def init(folder: Positional[Path], out: Path = Path("mine.yaml"), hours: float = 4.0, data_dir: DataFlag = None) -> int:
    """Look at a folder of images, and write a study file that suits it and runs as it is.

    Args:
        folder: One folder a class, or train/ and test/ (or val/) with one folder a class each.
        out: The study file.
        hours: CPU hours that the whole study may take; where it would take more, it trains for fewer epochs, and below
            five of them on fewer images.
    """
    import yaml

    from attnbench.analysis.comparison import designs
    from attnbench.cli.reading import runtime_of
    from attnbench.data.folders import located
    from attnbench.examine.survey import study_text, survey
    from attnbench.execution.sweep import Sweep, estimate
    from attnbench.report.designs import design_lines
    from attnbench.spec.study import Study, slug

    runtime = runtime_of(data_dir=data_dir)
    if not hours > 0:
        raise AttnbenchError(f"--hours {hours:g} must be above 0")
    if folder.is_dir() and (other := located(str(folder), Path(runtime.data_dir))).resolve() != folder.resolve():
        raise AttnbenchError(f"a study would read {other} instead: say attnbench init {folder.resolve()}")
    out, found = vacant(out), survey(folder)
    print("\n".join(printable(f"{folder}: {line}") for line in found.lines()), flush=True)
    name = slug(folder.resolve().name)
    study = Study(**yaml.safe_load(text := study_text(found, name)))
    if not found.broken:
        text = study_text(found, name, estimate(Sweep(study.runs(), runtime, study.recipe, name)), hours)
    for design in designs(study):
        print("\n  ".join(design_lines(design)))
    with writing(out):
        out.write_text(text, encoding="utf-8")
    if found.broken:
        print("not timed, so that --hours limits nothing: remove the files that cannot be read, then init anew")
    print(f"written: {out}; attnbench study {out} --until-decided --jobs 2")
    return 0


def _open(page: Path) -> None:
    """Show a page in the browser, where somebody sits before one; else say where it is."""
    if not browse(page.resolve().as_uri()):
        print(f"\nopen {page} in a browser")
