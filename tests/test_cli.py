"""The command line: every field is a flag, help is cheap, and a mistake is one line and exit code 2."""

import dataclasses
import inspect
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import made
import pytest
from conftest import HANG, TINY

from attnbench import RunSpec, Runtime, __version__, cli
from attnbench.cli.flags import ELSEWHERE
from attnbench.cli.help import EXAMPLES
from attnbench.cli.printing import readable
from attnbench.cli.training import next_lines, tell_verdicts
from attnbench.execution.executors import Execution
from attnbench.execution.sweep import Sweep
from attnbench.store.runs import RunRecord
from attnbench.training import run as runner

VERBS: tuple[str, ...] = (
    "run",
    "study",
    "report",
    "compare",
    "list",
    "show",
    "check",
    "same",
    "profile",
    "data",
    "evaluate",
)
VERBS += ("fold", "predict", "reproduce", "sync", "ui", "choose", "power", "variance", "tune", "verdict")
VERBS += ("submit", "verify", "leaderboard", "advise", "store", "export", "demo", "init")
HEAVY = {"torch", "torchvision", "mlflow", "pandas", "scipy", "sklearn", "altair"}
GIVEN: dict[str, Any] = {
    "dataset": "CIFAR100", "attention": "se(reduction=8)", "backbone": "resnet56", "site": "stage", "stages": (2, 3),
    "every": 2, "init": "identity",
    "epochs": 7, "batch_size": 64, "optimizer": "sgd", "lr": 0.03, "weight_decay": 0.02, "momentum": 0.8,
    "schedule": "onecycle", "warmup": 2.0, "augment": "crop+flip", "label_smoothing": 0.1, "image_size": 48,
    "normalise": "0.5 0.5 0.5 / 0.2 0.2 0.2", "val_fraction": 0.2, "selection": "best-val", "train_fraction": 0.5,
    "train_limit": 300, "test_limit": 200, "precision": "bf16", "deterministic": False, "seed": 11,
    "averaging": 0.25, "progressive": 0.5, "tta": "flip", "evaluate": "val", "vary": "init",
    "weights": "run:0123456789ab", "freeze": "backbone", "freeze_epochs": 3, "frozen_norm": True,
    "backbone_lr": 0.1, "mechanism_lr": 2.0, "head_lr": 3.0, "layer_decay": 0.75,
}  # fmt: skip
"""For each field a value that is not its default."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[RunSpec, Runtime, str]]:
    """What `attnbench run` would train with these arguments: the spec, the runtime, the recipe's name."""
    monkeypatch.setattr(sys, "path", sys.path.copy())  # main puts the working folder there
    seen: list[tuple[RunSpec, Runtime, str]] = []
    done = RunRecord(id="0", spec={}, status="done", test={"accuracy": 0.0, "images": 0})

    def noted(spec: RunSpec, runtime: Runtime, recipe: str) -> RunRecord:
        seen.append((spec, runtime, recipe))
        return done

    monkeypatch.setattr(runner, "run", noted)

    def parse(*arguments: object) -> tuple[RunSpec, Runtime, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["run", *map(str, arguments)])
        assert ended.value.code == 0
        return seen.pop()

    return parse


@pytest.fixture
def mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What stderr says to a command line that must end with exit code 2; anything but SystemExit is a traceback."""
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def complaint(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        said = capsys.readouterr()
        assert ended.value.code == 2, said.err
        assert not said.out
        return said.err

    return complaint


def flags(dashed: bool) -> list[str]:
    """Every field's flag with its value, spelt with - or with _."""
    words = []
    for field in dataclasses.fields(RunSpec):
        value = GIVEN[field.name]
        name = field.name if value is not False else f"no_{field.name}"
        values = [] if isinstance(value, bool) else map(str, value) if isinstance(value, tuple) else [str(value)]
        words += [f"--{name.replace('_', '-') if dashed else name}", *values]
    return words


@pytest.mark.parametrize("dashed", [True, False], ids=["dashes", "underscores"])
def test_every_field_of_a_run_is_a_flag(asked, dashed):
    assert dataclasses.asdict(asked(*flags(dashed))[0]) == GIVEN


@pytest.mark.parametrize("flag", ["--attention", "--attention_type", "--attention-type"])
def test_the_mechanism_has_its_classic_flag_too(asked, flag):
    assert asked("--dataset", "digits", flag, "cbam")[0].attention == "cbam"


def test_without_flags_a_run_is_the_classic_recipe(asked):
    spec, runtime, recipe = asked("--dataset", "CIFAR10")
    assert spec.id == RunSpec(dataset="CIFAR10").id
    assert (recipe, runtime.store, runtime.data_dir, runtime.tracker, runtime.device) == (
        "classic", "runs", "data", "mlflow", "auto",
    )  # fmt: skip


@pytest.mark.parametrize("order", [("--lr", "0.05", "--recipe", "standard"), ("--recipe=standard", "--lr=0.05")])
def test_a_recipe_changes_the_defaults_and_the_user_wins(asked, order):
    spec, _, recipe = asked("--dataset", "CIFAR10", *order)
    assert (spec.lr, spec.optimizer, spec.weight_decay, spec.epochs) == (0.05, "sgd", 5e-4, 200)
    assert (spec.schedule, spec.augment, recipe) == ("cosine", "crop+flip", "standard")


def test_a_data_sets_card_comes_after_the_recipe_and_before_the_user(asked):
    assert asked("--dataset", "digits", "--recipe", "fast")[0].augment == "none"
    assert asked("--dataset", "digits", "--recipe", "fast")[0].image_size == 8
    assert asked("--dataset", "digits", "--recipe", "fast", "--augment", "crop")[0].augment == "crop"
    assert asked("--dataset", "digits", "--image-size", "16")[0].image_size == 16


def test_a_recipes_defaults_are_what_help_shows(attnbench):
    shown = attnbench("run", "--recipe", "standard", "--help").stdout
    assert "Passes over the training images. (default: 200)" in shown


# --- what it costs to ask -----------------------------------------------------------------------------------------


def imported(*arguments: str) -> set[str]:
    """The packages that a command line imports, from Python's own account of its imports."""
    command = [sys.executable, "-X", "importtime", "-m", "attnbench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


def test_the_account_of_imports_sees_torch():
    command = [sys.executable, "-X", "importtime", "-c", "import torch"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=HANG).stderr.splitlines()
    assert any(line.endswith("| torch") for line in lines)


@pytest.mark.parametrize("line", ["stduy mine.yaml", "study mine.yaml --jbos 2", "run --dataset digits --epoch 3"])
def test_what_is_mistyped_is_answered_within_a_second_of_cpu(line):
    before = sum(os.times()[2:4])
    done = subprocess.run([sys.executable, "-m", "attnbench", *line.split()], capture_output=True, timeout=HANG)
    assert done.returncode == 2
    assert sum(os.times()[2:4]) - before < 1


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy(verb):
    assert imported(*verb.split(), "--help") & HEAVY == set()


@pytest.mark.parametrize(
    "asked",
    [["--version"], ["list", "attention"], ["list", "backbones", "--json"], ["list", "datasets"], ["show", "resnet20"]],
)
def test_what_is_on_the_cards_is_read_without_importing_it(asked):
    seen = imported(*asked)
    assert seen & HEAVY == set()
    assert "attnbench" in seen


def test_the_verbs_of_this_file_are_all_there_are():
    assert {"run", *cli.VERBS} == set(VERBS)


# --- help ---------------------------------------------------------------------------------------------------------


def test_every_verb_has_an_example():
    assert set(EXAMPLES) == set(VERBS)
    assert all(shlex.split(line)[:2] == ["attnbench", verb] for verb, line in EXAMPLES.items())


@pytest.mark.parametrize("name", VERBS)
def test_the_example_of_a_verb_can_be_called(name):
    verb = cli.run_verb(cli.run_flags(shlex.split(EXAMPLES["run"])[1:])) if name == "run" else cli.VERBS[name]
    seen: list[dict[str, Any]] = []

    def noted(**given: Any) -> int:
        seen.append(given)
        return 0

    noted.__signature__ = inspect.signature(verb)
    noted.__annotations__ = get_type_hints(verb, include_extras=True)
    assert cli._called({name: noted}, shlex.split(EXAMPLES[name])[1:]) == 0
    assert len(seen) == 1


@pytest.mark.parametrize("name", VERBS)
def test_help_shows_the_example_and_plain_words_for_values(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"Example: {EXAMPLES[name]}" in shown
    for ugly in ("{None", "[[", "ANNOTATED", "(default: None)", "(default: )"):
        assert ugly not in shown


def test_shells_complete_verbs_after_one_line():
    with pytest.raises(SystemExit):
        cli.main(["--tyro-write-completion", "bash", "attnbench.sh"])
    asked = "source attnbench.sh && complete -p attnbench"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=HANG)
    assert done.stdout == "complete -F _tyro_attnbench attnbench\n"


# --- asking what there is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "some"),
    [
        ("attention", {"none", "se", "cbam", "constant"}),
        ("backbones", {"resnet18", "resnet50", "resnet20", "resnet56"}),
        ("datasets", {"digits", "CIFAR10", "CIFAR100", "Oxford102Flowers", "EuroSAT", "FashionMNIST", "imagefolder"}),
    ],
)
def test_list_gives_objects_with_name_kind_control_and_inert(attnbench, what, some):
    listed = json.loads(attnbench("list", what, "--json").stdout)
    assert {entry["name"] for entry in listed} >= some
    for entry in listed:
        assert isinstance(entry["name"], str)
        assert isinstance(entry["kind"], str)
        assert isinstance(entry["control"], bool)
        assert isinstance(entry["inert"], dict)


def test_none_and_the_controls_are_the_controls(attnbench):
    listed = json.loads(attnbench("list", "attention", "--json").stdout)
    marked = {entry["name"]: entry["control"] for entry in listed}
    assert (marked["none"], marked["constant"], marked["se"], marked["cbam"]) == (True, True, False, False)


@pytest.mark.parametrize("what", ["attention", "backbones", "datasets"])
def test_list_has_headings_and_a_line_for_each_in_groups(what, attnbench):
    listed = attnbench("list", what).stdout
    names = {entry["name"] for entry in json.loads(attnbench("list", what, "--json").stdout)}
    heading, *groups = (group.splitlines() for group in listed.split("\n\n"))
    assert len(heading) == 1
    assert len(groups) > 1
    assert sorted(line.split()[0] for _, *lines in groups for line in lines) == sorted(names)


def test_mechanisms_are_grouped_by_kind_and_controls_stand_apart(attnbench):
    *_, last = attnbench("list", "attention").stdout.split("\n\n")
    assert last.startswith("controls: ")
    assert {"none", "constant", "static"} <= {line.split()[0] for line in last.splitlines()}


@pytest.mark.parametrize("name", ["timm", "torchvision", "resnet20", "se", "CIFAR100", "imagefolder"])
def test_a_card_is_readable(name, attnbench):
    shown = attnbench("show", name).stdout
    assert not re.search(r"[{]'|\(\?|\\", shown)
    assert f"name         {name}\n" in shown


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"layer(?P<stage>\d+)\.\d+\.bn2", "layerN.*.bn2"),
        (r"stages\.(?:(?P<stage1>0)|(?P<stage2>1))\.blocks\.\d+", "stages.N.blocks.*"),
        (r"bn(?(stage1)2|3)", "bn(2|3)"),
        (r"densenet\d+(\..+)?", "densenet*[.tag]"),
    ],
)
def test_a_pattern_is_written_as_people_do(pattern, said):
    assert readable(pattern) == said


@pytest.mark.parametrize(
    ("name", "says"),
    [("SE", "Squeeze-and-Excitation Networks"), ("resnet18", "Deep Residual Learning"), ("eurosat", "EuroSAT")],
)
def test_show_prints_the_card_of_anything_in_any_case(attnbench, name, says):
    shown = attnbench("show", name)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert says in shown.stdout


def test_version_is_the_packages(attnbench):
    assert attnbench("--version").stdout == f"attnbench {__version__}\n"


# --- mistakes -----------------------------------------------------------------------------------------------------

MISTAKES = {
    "dataset": ("run --dataset digitz", "did you mean 'digits'?"),
    "attention": ("run --dataset digits --attention sse", "did you mean 'se'?"),
    "option": ("run --dataset digits --attention se(reduktion=8)", "its options: reduction, variant"),
    "unreadable": ("run --dataset digits --attention se(reduction=", "se(reduction="),
    "module": ("run --dataset digits --attention nowhere:Gate", "no module 'nowhere'"),
    "backbone": ("run --dataset digits --backbone resnet21", "did you mean 'resnet20'?"),
    "recipe": ("run --dataset digits --recipe fats", "did you mean 'fast'?"),
    "site": ("run --dataset digits --attention se --site blok", "did you mean 'block'?"),
    "epochs": ("run --dataset digits --epochs -1", "epochs: -1"),
    "lr nan": ("run --dataset digits --lr nan", "lr: nan"),
    "lr infinite": ("run --dataset digits --lr inf", "lr: inf"),
    "augment": ("run --dataset digits --augment crap", "did you mean 'crop'?"),
    "normalise": ("run --dataset digits --normalise 0.5", '"MEAN ... / STD ..."'),
    "warmup": ("run --dataset digits --epochs 2 --warmup 3", "warmup: 3.0"),
    "selection": ("run --dataset digits --selection best-val", "val_fraction=0.1"),
    "device": ("run --dataset digits --device tpu", "'cpu'"),
    "threads": ("run --dataset digits --threads -2", "threads: -2"),
    "study": ("study nope.yaml", "nope.yaml: no such file"),
    "report of nothing": ("report nope.yaml", "nope.yaml: no such file"),
    "reproduce": ("reproduce abc", "'abc' in runs/"),
    "data without name": ("data get", "attnbench data list"),
    "data of a wrong name": ("data get CIFAR11", "did you mean 'CIFAR10'?"),
    "show": ("show resnet2", "did you mean 'resnet20'?"),
    "show of a wrong option": (
        "show se(reductio=8)",
        "has no option 'reductio'; its options: reduction, variant, hidden, activation, gating; did",
    ),
    "show of a backbone's wrong option": ("show resnet18(stemm=1)", "did you mean 'stem'?"),
    "show of no module": ("show nowhere:Gate", "no module 'nowhere'"),
    "no port": ("ui --port 70000", "between 1 and 65535"),
}


@pytest.mark.parametrize(("line", "helps"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_that_says_what_would_work(mistake, line, helps):
    complaint = mistake(*line.split())
    assert complaint.startswith("attnbench: ")
    assert complaint.count("\n") == 1, complaint
    assert helps in complaint


def test_all_mistakes_of_a_run_are_in_its_line(mistake):
    complaint = mistake("run", "--dataset", "digits", "--epochs", "-1", "--lr", "0", "--attention", "sse")
    assert complaint.count("\n") == 1
    assert all(part in complaint for part in ("epochs: -1", "lr: 0.0", "'sse'"))


def test_cuda_where_there_is_none_is_refused_before_anything_is_read(mistake, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    complaint = mistake("run", "--dataset", "digits", "--device", "cuda", "--tracker", "none")
    assert complaint == "attnbench: device: 'cuda': torch sees no CUDA device here; 'cpu' works\n"
    assert not Path("data").exists()


def test_mps_where_there_is_none_is_refused_in_a_line(mistake, monkeypatch):
    from attnbench import devices

    monkeypatch.setattr(devices, "has_mps", lambda: False)
    complaint = mistake("run", "--dataset", "digits", "--device", "mps", "--tracker", "none")
    assert complaint == "attnbench: device: 'mps': torch has no MPS (Apple GPU) here; 'cpu' works\n"


def test_mps_is_taken_where_torch_has_it_and_never_by_itself(monkeypatch):
    from attnbench import devices
    from attnbench.training.numerics import choose_device

    monkeypatch.setattr(devices, "has_mps", lambda: True)
    assert choose_device(Runtime(device="mps")).type == "mps"
    assert choose_device(Runtime()).type != "mps"


def test_a_verb_that_is_spelt_nearly_right_is_told(mistake):
    assert mistake("stduy", "x.yaml").startswith("attnbench: there is no verb 'stduy'; did you mean 'study'?")


@pytest.mark.parametrize(
    ("verb", "stopped", "said"),
    [
        ("sync", KeyboardInterrupt(), "stopped; the same command begins anew"),
        ("demo", KeyboardInterrupt(" "), "stopped; the same command goes on from here"),
        ("tune", KeyboardInterrupt("stopped with 3 of 9 done"), "stopped with 3 of 9 done; the same command goes on"),
    ],
)
def test_ctrl_c_says_where_it_stopped_and_how_to_go_on(verb, stopped, said, monkeypatch, capsys):
    def interrupted() -> int:
        raise stopped

    monkeypatch.setitem(cli.VERBS, verb, interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main([verb])
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith(f"attnbench: {said}")


@pytest.mark.parametrize(
    ("line", "helps"),
    [
        ("frobnicate", "Available subcommands: run, demo, init, study"),
        ("run --dataset digits --epoch 3", "--epochs INT"),
        ("run --dataset digits --epochs 1.5", "--epochs"),
        ("run", "--dataset"),
        ("", "run, demo, init, study"),
        ("list mechanisms", "attention"),
    ],
)
def test_what_the_parser_refuses_it_explains_in_its_box(mistake, line, helps):
    assert helps in mistake(*line.split())


def test_the_id_of_a_study_is_an_unknown_field(mistake):
    Path("study.yaml").write_text("name: s\nid: 3\nbase: {dataset: digits}\n")
    assert mistake("study", "study.yaml").startswith("attnbench: study.yaml:2: id: unknown field 'id'")


def test_a_port_that_is_taken_is_told_with_another_one(mistake):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        complaint = mistake("ui", "--port", str(port))
    assert complaint.startswith(f"attnbench: port {port} cannot be used (")
    assert "try attnbench ui --port " in complaint


def test_a_report_on_an_empty_folder_says_that_no_run_is_done(mistake):
    Path("empty").mkdir()
    complaint = mistake("report", "empty")
    assert complaint.startswith("attnbench: empty: no run is done yet")
    assert complaint.count("\n") == 1
    assert "study empty" not in complaint, "a folder of runs is no study file, so that advice does not work"


def test_a_mistake_has_no_traceback_in_a_process_of_its_own(attnbench):
    done = attnbench("run", "--dataset", "digitz")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "attnbench: no dataset is called 'digitz'; did you mean 'digits'? (or give package.module:Class)\n"
    )


# --- the environment ----------------------------------------------------------------------------------------------


def test_the_environment_names_the_folders_and_a_flag_wins(asked, monkeypatch):
    monkeypatch.setenv("ATTNBENCH_STORE", "mine")
    monkeypatch.setenv("ATTNBENCH_DATA_DIR", "images")
    _, runtime, _ = asked("--dataset", "digits")
    assert (runtime.store, runtime.data_dir) == ("mine", "images")
    _, runtime, _ = asked("--dataset", "digits", "--store", "s", "--data-dir", "d")
    assert (runtime.store, runtime.data_dir) == ("s", "d")


def test_a_run_leaves_its_traces_where_the_environment_says_and_compare_finds_them_there(attnbench, data_dir):
    env = {"ATTNBENCH_STORE": "mine", "ATTNBENCH_DATA_DIR": str(data_dir)}
    study = Path("study.json")  # JSON is YAML
    study.write_text(json.dumps({"name": "one", "base": TINY}))
    words = [word for name, value in TINY.items() for word in (f"--{name}", value)]
    trained = attnbench("run", *words, "--tracker", "none", env=env)
    assert trained.returncode == 0, trained.stderr
    assert [file.parent.parent.name for file in Path().rglob("record.json")] == ["mine"]
    assert not Path("data").exists()
    absent = attnbench("compare", "se", "none", "--study", study, env=env)
    assert (absent.returncode, absent.stderr.count("\n")) == (2, 1)
    assert "of the done runs, 'se' is not among the arms 'none'" in absent.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--dataset", "digits", "--learning-rate", "0.1"], "--learning-rate is called --lr here"),
        (["run", "--dataset=digits", "--batch_size=8", "--model=resnet20"], "--model is called --backbone here"),
        (["study", "mine.yaml", "--num_workers", "2"], "--num_workers is called --jobs here"),
    ],
)
def test_flags_as_other_tools_call_them_are_told_in_a_line(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert (ended.value.code, capsys.readouterr().err) == (2, f"attnbench: {said}\n")


def test_no_flag_of_ours_is_called_as_elsewhere():
    ours = {
        field.name.replace("_", "-") for kind in (RunSpec, Runtime, Execution) for field in dataclasses.fields(kind)
    }
    for names in ELSEWHERE.values():
        assert not ours & set(names)
        assert set(names.values()) <= ours


# --- what a study says at its end ---------------------------------------------------------------------------------


@pytest.fixture
def ended(capsys) -> Callable[..., str]:
    """What a study of runs made by hand says when it is called and all of them are done, or all but some."""

    def call(*, without: int = 0) -> str:
        plan = made.study(grid={"attention": ["none", "se", "cbam"], "dataset": ["digits"]}, where=[])
        records = made.fill(Path("runs"), plan)
        for record in records[:without]:
            shutil.rmtree(Path("runs") / record.id)
        sweep = Sweep(plan.runs(), Runtime(), plan.recipe, plan.name)
        tell_verdicts(plan, sweep)
        print("\n".join(next_lines(plan, sweep, Path("my study.yaml"), int(without > 0))))
        return capsys.readouterr().out

    return call


def test_a_study_ends_with_its_verdicts_and_with_what_to_do_next(ended):
    said = ended()
    assert "se is better than none" in said
    assert "cbam" in said
    assert said.splitlines()[-4:] == [
        "next:",
        "  attnbench report 'my study.yaml': writes reports/made/index.html",
        "  attnbench compare se none --study 'my study.yaml'",
        "  attnbench ui: the curves of all runs, in MLflow",
    ]
    assert list(Path("runs").rglob("*look*")) or list(Path("runs/studies").iterdir()), "that they were seen is kept"


def test_an_incomplete_study_ends_without_a_verdict(ended):
    said = ended(without=1)
    assert said.startswith("next:\n  the same command again: it does the runs that are left\n")
