"""Kill the processes of small studies at random moments, until so many kills were survived, and examine what is left.

python benchmarks/faults.py --kills 50 --seed 0 [--write results/reliability/faults.json] [--folder DIR]

A round is a study of four runs, two at a time, with MLflow. One of its children, its parent, or all of them at once are
killed with SIGKILL after a time that is drawn, the parent is started again as a user would, and in the end every run
must have the bits that it has when nothing is killed. Exit code 1 if anything is not so.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from attnbench.examine.integrity import check
from attnbench.spec.study import Study
from attnbench.store.environment import environment
from attnbench.store.runs import RunRecord, Store

STUDY = {
    "name": "faults",
    "base": {
        "dataset": "digits",
        "backbone": "resnet20(widths=(4, 8, 8))",
        "epochs": 120,
        "train_limit": 100,
        "test_limit": 50,
        "batch_size": 25,
    },
    "grid": {"attention": ["none", "se"]},
    "seeds": 2,
}
TARGETS = {"child": 0.8, "parent": 0.1, "both": 0.1}
"""Who is killed, and how often."""
KILLS_A_ROUND = (15, 40)
ANYWHERE = 0.15
"""Share of the kills that come whatever the processes are at: mostly at their start, which takes longest."""
LONGEST_START, LONGEST_TRAINING = 6.0, 1.0
"""Seconds that are waited at most: for a kill anywhere, and for one after a child was seen to train."""
PATIENCE = 1800.0
"""Seconds after which something that should have ended has not."""
FILES = {"record.json", "journal.jsonl", "weights.safetensors", "predictions.npz", "tracking.json"}
MARK = "ATTNBENCH_FAULTS"


@dataclass
class Tally:
    """What was killed, where each kill landed, and what was not as it should be."""

    kills: int = 0
    """Processes that were alive when they were killed."""
    strikes: int = 0
    """Moments at which one or several were."""
    rounds: int = 0
    runs: int = 0
    identical: int = 0
    resumed: int = 0
    """How often a run was taken up again from a checkpoint."""
    targets: collections.Counter[str] = field(default_factory=collections.Counter)
    moments: collections.Counter[str] = field(default_factory=collections.Counter)
    """What the children that were killed were at."""
    wrong: list[str] = field(default_factory=list)


class Round:
    """A study in a folder of its own, and its processes."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.store = folder, Store(folder / "runs")
        folder.mkdir(parents=True)
        (folder / "faults.json").write_text(json.dumps(STUDY))  # JSON is YAML
        tracking = f"sqlite:///{folder / 'mlflow.db'}"
        self.environment = {**os.environ, MARK: str(folder), "MLFLOW_TRACKING_URI": tracking}
        self.runtime = ["--data-dir", str(data), "--threads", "1"]

    def command(self, *words: str) -> subprocess.Popen[bytes]:
        """A command of ours in the folder; what it says goes to a file."""
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "attnbench", *words],
                cwd=self.folder,
                env=self.environment,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def study(self) -> subprocess.Popen[bytes]:
        """The study, two runs at a time; a child that dies is tried again."""
        return self.command("study", "faults.json", "--jobs", "2", "--retries", "100000", *self.runtime)

    def alive(self) -> list[psutil.Process]:
        """Every process of the round, whoever is its parent by now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def ended(self) -> bool:
        """Wait until none of its processes is there; False if one stays."""
        late = time.monotonic() + PATIENCE
        while self.alive():
            if time.monotonic() > late:
                return False
            time.sleep(0.1)
        return True


def main() -> None:
    """Kill as often as was asked for, say what was found, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--folder", type=Path, help="where the rounds are kept (default: a temporary folder)")
    asked = parser.parse_args()
    began, tally = time.monotonic(), Tally()
    with tempfile.TemporaryDirectory(prefix="attnbench-faults-") as aside:
        home = (asked.folder or Path(aside)).resolve()
        whole = undisturbed(home)
        draw = random.Random(asked.seed)
        while tally.kills < asked.kills:
            most = min(draw.randint(*KILLS_A_ROUND), asked.kills - tally.kills)
            one = Round(home / f"round-{tally.rounds:04d}", home / "data")
            shutil.copy(home / "empty.db", one.folder / "mlflow.db")
            disturb(one, draw, most, tally)
            tally.wrong += [f"{one.folder.name}: {what}" for what in examined(one, whole, tally)]
            tally.rounds += 1
            print(
                f"{tally.kills} kills, {tally.identical} of {tally.runs} runs identical, {len(tally.wrong)} wrong",
                flush=True,
            )
            if asked.folder is None:
                shutil.rmtree(one.folder)
            told = summary(tally, asked.seed, time.monotonic() - began)
            if asked.write:  # after each round, for the whole may take hours
                asked.write.parent.mkdir(parents=True, exist_ok=True)
                asked.write.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))
    sys.exit(bool(tally.wrong))


def undisturbed(home: Path) -> dict[str, tuple[object, ...]]:
    """The bits of every run when nothing is killed; leaves the data and an empty tracking database for the rounds."""
    one = Round(home / "undisturbed", home / "data")
    (one.folder / "runs").mkdir()
    for words in (("sync",), ("study", "faults.json", "--jobs", "2", "--tracker", "none", *one.runtime)):
        if code := one.command(*words).wait():
            sys.exit(f"undisturbed {words[0]} ended with {code}: {(one.folder / 'said.txt').read_text()}")
        if words[0] == "sync" and (one.folder / "mlflow.db").exists():
            shutil.copy(one.folder / "mlflow.db", home / "empty.db")
    return {record.id: bits(record) for record in one.store.records()}


def bits(record: RunRecord) -> tuple[object, ...]:
    """Everything of a run that must not depend on how often it was stopped."""
    curves = [{name: value for name, value in point.items() if "seconds" not in name} for point in record.curves]
    with np.load(Path(record.folder) / "predictions.npz") as arrays:
        logits = arrays["logits"].tobytes()
    return record.weights_sha256, logits, curves, record.test, record.selected


def disturb(one: Round, draw: random.Random, most: int, tally: Tally) -> None:
    """Run a study to its end, killing it on the way."""
    parent, kills, due, late = one.study(), 0, Due(draw), time.monotonic() + PATIENCE
    while (code := parent.poll()) != 0:
        if code is not None:
            said = (one.folder / "said.txt").read_text()
            if code != -signal.SIGKILL and "prepare: killed by signal 9" not in said:
                tally.wrong.append(f"{one.folder.name}: the study ended with {code}: {said[-2000:]}")
                break
            (one.folder / "said.txt").write_text("")
            parent, late = one.study(), time.monotonic() + PATIENCE
        if time.monotonic() > late:
            tally.wrong.append(f"{one.folder.name}: the study hangs")
            break
        if kills >= most or not due.now(one, parent):
            time.sleep(0.1)
        elif hit := kill(one, parent, due.target, draw, tally):
            kills, due, late = kills + hit, Due(draw), time.monotonic() + PATIENCE


class Due:
    """When the next kill comes, and whom it hits: drawn before anything is seen."""

    def __init__(self, draw: random.Random) -> None:
        self.target = draw.choices([*TARGETS], [*TARGETS.values()])[0]
        self.anywhere = draw.random() < ANYWHERE
        self.wait = draw.uniform(0, LONGEST_START if self.anywhere else LONGEST_TRAINING)
        self.since = time.monotonic() if self.anywhere else None

    def now(self, one: Round, parent: subprocess.Popen[bytes]) -> bool:
        """Whether it is time: so long after the last kill, or after a child was seen to train."""
        if self.since is None and any(moment(one, child) == "training" for child in children_of(parent)):
            self.since = time.monotonic()
        return self.since is not None and time.monotonic() >= self.since + self.wait


def children_of(parent: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that a study has started and that are alive."""
    with suppress(psutil.Error):
        return psutil.Process(parent.pid).children()
    return []


def kill(one: Round, parent: subprocess.Popen[bytes], target: str, draw: random.Random, tally: Tally) -> int:
    """Kill what is alive of a target; returns how many processes that were."""
    children = children_of(parent)
    training = [child for child in children if moment(one, child) != "starting"] or children
    chosen = {"child": [draw.choice(training)] if training else [], "parent": [], "both": children}[target]
    moments = [moment(one, child) for child in chosen]
    killed = [*([parent.pid] if target != "child" else []), *(child.pid for child in chosen)]
    hit = sum(_hit(number) for number in killed)
    if target != "child":
        parent.wait()
    tally.kills += hit
    tally.strikes += hit > 0
    tally.targets[target] += hit > 0
    tally.moments.update(moments if hit else [])
    return hit


def _hit(number: int) -> bool:
    """Send SIGKILL to a process that is alive."""
    with suppress(psutil.Error, ProcessLookupError):
        if psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
            os.kill(number, signal.SIGKILL)
            return True
    return False


def moment(one: Round, child: psutil.Process) -> str:
    """What a child is at, by the journals: `starting` as long as it has written nothing."""
    with suppress(psutil.Error):
        if "prepare" in child.cmdline():
            return "preparing the data"
        for run in {Path(file.path).stem for file in child.open_files() if ".locks" in file.path}:
            lines = [line for line in one.store.journal(run) if line.get("time", 0) >= child.create_time()]
            if lines:
                return "testing and storing" if lines[-1]["event"] in ("test", "done") else "training"
    return "starting"


def examined(one: Round, whole: dict[str, tuple[object, ...]], tally: Tally) -> Iterator[str]:
    """What is not as if nothing had happened, once the study is over."""
    if not one.ended():
        yield f"processes are left over: {[process.cmdline() for process in one.alive()]}"
    if code := one.command("sync").wait():
        yield f"sync ended with {code}"
    planned = {spec.id for spec in Study.load(one.folder / "faults.json").runs()}
    records = {record.id: record for record in one.store.records()}
    if set(records) != planned or not all(record.done for record in records.values()):
        yield f"{len(records)} of {len(planned)} runs are done"
    for run, record in records.items():
        same = record.done and bits(record) == whole[run]
        tally.runs, tally.identical, tally.resumed = (
            tally.runs + 1,
            tally.identical + same,
            tally.resumed + record.resumed,
        )
        if not same:
            yield f"run {run} has other bits"
        if extra := {file.name for file in one.store.folder(run).iterdir()} ^ FILES:
            yield f"run {run} has, or has not, {', '.join(sorted(extra))}"
        epochs = [line["epoch"] for line in one.store.journal(run) if line["event"] == "epoch"]
        if epochs != list(range(1, STUDY["base"]["epochs"] + 1)):  # type: ignore[index]
            yield f"run {run} has epochs {epochs} in its journal"
    yield from (finding.text for finding in check(one.store) if finding.word != "ok")
    yield from untracked(one, records)


def untracked(one: Round, records: dict[str, RunRecord]) -> Iterator[str]:
    """What MLflow does not have of the runs."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=one.environment["MLFLOW_TRACKING_URI"])
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = collections.defaultdict(list)
    for run in client.search_runs(experiments):
        found[run.data.tags.get("run_key")].append(run)
    for name, record in records.items():
        if len(found[name]) != 1:
            yield f"MLflow has run {name} {len(found[name])} times"
            continue
        (run,) = found[name]
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "train_loss")]
        if sorted(steps) != [point["epoch"] for point in record.curves]:
            yield f"MLflow has {len(steps)} epochs of run {name}"
        if run.info.status != "FINISHED" or run.data.metrics.get(record.metric) != record.score:
            yield f"MLflow says {run.info.status} of run {name}"


def summary(tally: Tally, seed: int, seconds: float) -> dict[str, object]:
    """What was found, as it is written down."""
    return {
        "kills": tally.kills,
        "strikes": tally.strikes,
        "seed": seed,
        "targets": dict(sorted(tally.targets.items())),
        "moments": dict(sorted(tally.moments.items())),
        "rounds": tally.rounds,
        "runs": tally.runs,
        "identical": tally.identical,
        "resumed": tally.resumed,
        "wrong": tally.wrong,
        "seconds": round(seconds),
        "environment": environment(),
    }


if __name__ == "__main__":
    main()
