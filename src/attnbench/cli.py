"""The command line: signatures and help only; each verb imports its work inside."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from attnbench.errors import AttnbenchError, StoreProblem
from attnbench.flags import run_flags
from attnbench.spec import RunSpec, Runtime

if TYPE_CHECKING:
    from attnbench.comparison import Comparison

RuntimeFlags = Annotated[Runtime, arg(name="")]
StoreFlag = Annotated[str | None, arg(help="Folder of runs (default: runs, or ATTNBENCH_STORE).")]
DataFlag = Annotated[str | None, arg(help="Folder of data sets (default: data, or ATTNBENCH_DATA_DIR).")]
Kind = Literal["attention", "backbones", "datasets"]


def main(argv: list[str] | None = None) -> None:
    """Run one verb; a mistake of the user's is one line on stderr and exit code 2."""
    argv = sys.argv[1:] if argv is None else argv
    sys.path.insert(0, str(Path.cwd()))  # package.module:Class of the user's own
    if argv[:1] == ["--version"]:
        from attnbench import __version__

        print(f"attnbench {__version__}")
        return
    with _plain_errors():
        verbs = {"run": _run_verb(run_flags(argv)), **VERBS}
        code = tyro.extras.subcommand_cli_from_dict(
            verbs,
            prog="attnbench",
            args=argv,
            description="Does visual attention help your CNN, and at what cost?",
        )
        sys.exit(code or 0)


def study(file: Positional[Path], runtime: RuntimeFlags, jobs: int = 1, dry_run: bool = False, retries: int = 0) -> int:
    """Do all runs of a study file that are not done yet.

    Args:
        file: The study, a YAML file.
        jobs: Runs at a time, each in a process of its own.
        dry_run: Say what is done, what is left, and about how long that takes; train nothing.
        retries: How often a run that died is tried again.
    """
    from attnbench.study import Study
    from attnbench.sweep import Sweep, describe, estimate, execute

    plan = Study.load(file)
    sweep = Sweep(plan.runs(), runtime, plan.recipe, plan.name)
    pending = sweep.pending()
    print(f"{plan.name}: {len(sweep.specs)} runs, {len(sweep.specs) - len(pending)} done, {len(pending)} left")
    if dry_run:
        for spec in pending:
            print(f"  {spec.id}  {describe(spec)}")
        hours = estimate(sweep) if pending else 0.0
        print(
            f"about {hours / jobs:.2f} hours with --jobs {jobs}"
            if hours is not None
            else "no estimate: image numbers unknown"
        )
        return 0
    failures = execute(sweep, jobs, retries)
    for failure in failures:
        print(f"failed: {failure.spec.id}  {describe(failure.spec)}: {failure.reason}", file=sys.stderr)
    done = len(sweep.specs) - len(sweep.pending())
    print(f"{plan.name}: {done} of {len(sweep.specs)} runs are done in {runtime.store}/")
    return 1 if failures else 0


def report(source: Positional[Path], store: StoreFlag = None, out: Path | None = None) -> int:
    """Write and print the comparison of a study, or of all runs in a folder.

    Args:
        source: A study file, or a folder of runs.
        out: Folder of the report (default: reports/NAME).
    """
    from attnbench.report import markdown, write

    comparison, slug = _compared(source, store)
    folder = out or Path("reports") / slug
    files = write(comparison, folder)
    print(markdown(comparison))
    print(f"written: {', '.join(map(str, files))}")
    return 0


def compare(
    arm: Positional[str],
    other: Positional[str],
    study: Path,
    store: StoreFlag = None,
    expect: Literal["better", "worse"] | None = None,
) -> int:
    """Compare two mechanisms of a study: one sentence and one small table per data set.

    Args:
        arm: The mechanism in question.
        other: What it is compared with.
        study: The study file.
        expect: Exit with 1 unless the first is better (worse) by an interval without 0 and p < 0.05.
    """
    from attnbench.report.pairs import holds, pair

    comparison, _ = _compared(study, store)
    pairs = [pair(cell, arm, other) for cell in comparison.cells]
    print("\n\n".join(str(each) for each in pairs))
    if expect is None or all(holds(each, expect) for each in pairs):
        return 0
    print(f"attnbench: expected {arm} to be {expect} than {other}: THAT DOES NOT HOLD", file=sys.stderr)
    return 1


def list_(what: Positional[Kind], as_json: Annotated[bool, arg(name="json")] = False) -> int:
    """List what can be asked for.

    Args:
        what: attention, backbones or datasets.
        as_json: As JSON.
    """
    from attnbench.registry import ATTENTION, BACKBONES, DATASETS

    registries: dict[str, Any] = {"attention": ATTENTION, "backbones": BACKBONES, "datasets": DATASETS}
    entries = list(registries[what])
    if as_json:
        print(json.dumps([entry.about() for entry in entries], indent=1))
        return 0
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        print(f"{entry.name:{width}}  {entry.summary}")
    return 0


def show(name: Positional[str]) -> int:
    """Show a card: a mechanism's, a backbone's or a data set's.

    Args:
        name: Its name.
    """
    from attnbench.errors import BadReference
    from attnbench.refs import nearest
    from attnbench.registry import ATTENTION, BACKBONES, DATASETS

    known: list[str] = []
    registries: tuple[Any, ...] = (ATTENTION, BACKBONES, DATASETS)
    for registry in registries:
        known += [entry.name for entry in registry]
        with contextlib.suppress(BadReference):
            entry = registry.resolve(name)[0]
            for field, value in entry.about().items():
                if value not in ("", {}, (), None):
                    print(f"{field:12} {value}")
            return 0
    raise BadReference(f"nothing is called {name!r}{nearest(name, known)}")


def data(
    action: Positional[Literal["list", "get", "check"]],
    names: Positional[tuple[str, ...]] = (),
    data_dir: DataFlag = None,
) -> int:
    """List data sets, get official files (resuming a broken download), or check data for what can be wrong.

    Args:
        action: list, get or check.
        names: Data sets; list needs none.
    """
    from attnbench.data import verbs

    folder = Path(data_dir or Runtime().data_dir)
    if action == "list":
        return verbs.show(folder)
    if not names:
        raise AttnbenchError(f"attnbench data {action} needs the name of a data set; attnbench data list shows them")
    return max({"get": verbs.get, "check": verbs.check}[action](name, folder) for name in names)


def reproduce(run: Positional[str], store: StoreFlag = None, data_dir: DataFlag = None) -> int:
    """Train a stored run again under its recorded numerics: identical, within tolerance, or different (exit code 1).

    Args:
        run: An id, the beginning of one, or a run's folder.
    """
    from attnbench.reproduce import reproduce as again

    given = {name: value for name, value in (("store", store), ("data_dir", data_dir)) if value}
    result = again(run, Runtime(tracker="none", **given))  # type: ignore[arg-type]
    print(result)
    return int(result.verdict == "different")


def sync(store: StoreFlag = None) -> int:
    """Fill the MLflow tracking server from the store; doing it twice changes nothing."""
    from attnbench.store import Store
    from attnbench.tracking import sync as send

    there, failed = send(Store(store) if store else Store.default())
    print(f"{there} runs are in MLflow" + (f", {failed} could not be sent" if failed else ""))
    return int(failed > 0)


def ui(port: int = 5000) -> int:
    """Open the runs in MLflow's own pages on 127.0.0.1.

    Args:
        port: Port of the server.
    """
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"})
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 0


def _run_verb(flags: Any) -> Callable[..., int]:
    """The verb `run`, whose flags depend on the command line."""

    def run(spec: Annotated[flags, arg(name="")], runtime: RuntimeFlags, recipe: str = "classic") -> int:
        """Train one run, test it once, and store the record; a done run is not trained again.

        Args:
            recipe: Preset that the other flags start from: classic, standard or fast.
        """
        from attnbench.runner import run as train
        from attnbench.store import Store

        asked = RunSpec(**vars(spec))
        if Store(runtime.store).done(asked.id):
            print(f"run {asked.id} is done already")
        record = train(asked, runtime, recipe)
        print(f"test accuracy {record.accuracy:.2f} %  ({record.test['images']:,} images)  {record.folder}/")
        return 0

    return run


def _compared(source: Path, store: str | None) -> tuple["Comparison", str]:
    """The comparison of a study file or of a folder of runs, and a name for its folder."""
    from attnbench.comparison import compare as compared
    from attnbench.store import Store
    from attnbench.study import Study

    if source.is_dir():
        found, slug = compared(Store(source).records()), source.resolve().name
    else:
        plan = Study.load(source)
        found, slug = compared(plan, Store(store) if store else Store.default()), plan.slug
    if not found.cells:
        raise StoreProblem(f"{source}: no run is done yet; attnbench study FILE does the runs of a study")
    return found, slug


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except AttnbenchError as problem:
        for line in str(problem).splitlines():
            print(f"attnbench: {line}", file=sys.stderr)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt as stopped:
        print(f"attnbench: {stopped or 'stopped'}; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


VERBS: dict[str, Callable[..., int]] = {
    "study": study,
    "report": report,
    "compare": compare,
    "list": list_,
    "show": show,
    "data": data,
    "reproduce": reproduce,
    "sync": sync,
    "ui": ui,
}
