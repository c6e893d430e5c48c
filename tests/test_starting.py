"""The first verbs: `init` looks at a folder and writes a study that runs; `demo` needs nothing but the package."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT
from PIL import Image
from scipy.io import loadmat

from attnbench import Study, cli, demo
from attnbench.data.folders import Folder
from attnbench.examine.survey import Survey, study_text, survey
from attnbench.store.bundle import opened
from attnbench.store.runs import Store

DRAWS = np.random.default_rng(0)


def photos(folder: Path, images: int = 6, side: int = 60, classes: Sequence[str] = "ab") -> Path:
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(images):
            pixels = DRAWS.integers(0, 256, (side, side + number, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTNBENCH_DATA_DIR", str(tmp_path / "data"))


def init(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["init", *words])
    return int(ended.value.code or 0)


def test_a_folder_becomes_a_study_that_can_be_trained(capsys):
    photos(Path("photos"), 10)
    assert init("photos") == 0
    told, study = capsys.readouterr().out, Study.load("mine.yaml")
    assert "2 classes of 10 to 10 images: 16 to train, 4 to test (20% of each class, set apart by us)" in told
    assert "shorter side 60 to 60 pixels" in told
    assert {spec.attention for spec in study.runs()} == {"none", "se", "eca", "cbam"}
    assert {(spec.dataset, spec.image_size) for spec in study.runs()} == {('imagefolder(path="photos")', 64)}
    assert (study.name, study.margin, study.base["precision"]) == ("photos", 5.0, "bf16")
    assert "hours of CPU time on this machine" in Path("mine.yaml").read_text()


def test_a_study_that_would_take_too_long_takes_fewer_epochs_and_images(capsys):
    photos(Path("photos"), 40)
    assert init("photos", "--hours", "0.001") == 0
    base = yaml.safe_load(Path("mine.yaml").read_text())["base"]
    assert base["epochs"] == 5
    assert 0 < base["train_fraction"] < 1
    Study.load("mine.yaml")


@pytest.mark.parametrize(("train", "whole"), [(200, 40), (1_000, 32), (5_000, 6), (50_000, 5)])
@pytest.mark.parametrize("allowed", [0.01, 0.1, 0.3, 0.5, 0.9, 1.5])
def test_an_allowance_is_kept_to(train, whole, allowed):
    """The passes over images, by which the time goes, fall as the hours do; the file says the hours that are left."""
    files = tuple(Path(f"{number}.png") for number in range(train * 5 // 8))
    found = Survey(Folder(Path("photos"), {"a": files, "b": files}, ()), None, (), (64,), {}, ())
    assert found.sizes[0] == train
    base = yaml.safe_load(text := study_text(found, "photos", 8.0, 8.0 * allowed))["base"]
    share = base["epochs"] * base.get("train_fraction", 1.0) / whole
    assert share <= min(allowed, 1.0) * 1.001
    assert share > min(allowed, 1.0) * (0.75 if base["epochs"] > 5 else 0.9)
    told = float(re.search(r"about (\S+) hours", text)[1])
    assert told == pytest.approx(8.0 * share, rel=0.06)


def test_a_folder_of_which_the_data_folder_has_another_is_refused(capsys):
    photos(Path("photos"), 5)
    photos(Path("data", "photos"), 5)
    assert init("photos") == 2
    assert "data/photos instead: say attnbench init " in capsys.readouterr().err
    assert init(str(Path("photos").resolve())) == 0


def test_the_file_may_lie_in_a_folder_that_is_not_there_yet():
    photos(Path("photos"), 5)
    assert init("photos", "--out", "studies/mine.yaml") == 0
    assert Study.load("studies/mine.yaml").runs()


def test_a_class_may_be_called_like_a_split():
    assert set(survey(photos(Path("vehicles"), classes=("bus", "train"))).train.classes) == {"bus", "train"}


@pytest.mark.parametrize(
    ("parts", "tested", "unused"),
    [
        (("train", "test"), "test", ()),
        (("training", "val"), "val", ()),
        (("train", "valid", "test"), "test", ("valid",)),
    ],
)
def test_folders_of_splits_are_taken_for_what_they_are(parts, tested, unused):
    for part in parts:
        photos(Path("mine", part), 3)
    found = survey(Path("mine"))
    assert (found.train.path.name, found.test.path.name) == (parts[0], tested)
    assert [Path(path).name for path in found.unused] == list(unused)
    dataset = yaml.safe_load(study_text(found, "mine"))["base"]["dataset"]
    assert dataset == f'imagefolder(path="mine/{parts[0]}", test="mine/{tested}")'


def test_a_folder_with_training_images_alone_uses_them(capsys):
    photos(Path("mine", "train"), 6)
    assert init("mine") == 0
    assert "not used" not in capsys.readouterr().out


def test_where_nothing_can_be_trained_no_file_is_left(capsys):
    photos(Path("photos"), 1)
    assert init("photos") == 2
    assert "a class needs at least 2 images" in capsys.readouterr().err
    assert not Path("mine.yaml").exists()


def test_images_below_folders_of_one_class_are_of_that_class():
    folder = photos(Path("photos"), 3)
    for name in ("one", "two"):
        (folder / "a" / name).mkdir()
        (folder / "a" / name / "x.png").write_bytes((folder / "a" / "0.png").read_bytes())
    found = list(survey(folder).lines())
    assert any("are the same image" in line for line in found)
    assert not any("two classes;" in line for line in found)


def test_what_is_wrong_with_images_is_said(capsys):
    folder = photos(Path("photos"), 5)
    (folder / "a" / "half.png").write_bytes((folder / "a" / "0.png").read_bytes()[:90])
    (folder / "b" / "again.png").write_bytes((folder / "b" / "1.png").read_bytes())
    (folder / "b" / "other.png").write_bytes((folder / "a" / "2.png").read_bytes())
    assert init("photos") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "LOOK AT" in line]
    assert len(lines) == 3
    for part, line in zip(("half.png", "again.png", "a/2.png = photos/b/other.png"), lines, strict=True):
        assert part in line
    assert "cannot be read; remove them" in lines[0]
    assert "two classes" in lines[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere",), "nowhere is no folder"),
        (("empty",), "empty holds no folders; one folder a class is expected"),
        (("photos", "--out", "there.yaml"), "there.yaml is there already; give --out another file"),
        (("photos", "--hours", "0"), "--hours 0 must be above 0"),
        (("split",), "split/test holds no images in its folders (a)"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(words, message, capsys):
    photos(Path("photos"), 2)
    photos(Path("split/train"), 2)
    Path("split/test/a").mkdir(parents=True)
    Path("empty").mkdir()
    Path("there.yaml").write_text("mine")
    assert init(*words) == 2
    assert capsys.readouterr().err.startswith(f"attnbench: {message}")
    assert Path("there.yaml").read_text() == "mine"
    assert not Path("mine.yaml").exists()


def test_names_that_yaml_and_references_would_misread():
    photos(Path('it\'s: "mine" # 1'), 2)
    found = survey(Path('it\'s: "mine" # 1'))
    Path("study.yaml").write_text(study_text(found, "it's mine"))
    assert Study.load("study.yaml").runs()[0].resolved.dataset.options == {"path": 'it\'s: "mine" # 1'}


@pytest.mark.parametrize(("bundle", "home"), [(demo.TRAINED, "quick"), (demo.DECIDED, "reference-flowers102")])
def test_the_demo_holds_the_records_that_are_committed(bundle, home):
    with opened(bundle) as folder:
        ours, theirs = ({r.id: r.weights_sha256 for r in Store(p).records()} for p in (folder, ROOT / "results" / home))
    assert ours == theirs


@pytest.fixture
def newcomer(tmp_path) -> Callable[..., str]:
    """attnbench of a wheel in a fresh venv, in which this environment's other packages are lent: newcomer("demo")."""
    left = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and "ATTNBENCH" not in name}
    shutil.copytree(ROOT / "src", "copy/src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):  # a copy, for two builds in one folder disturb each other
        shutil.copy(ROOT / name, "copy")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "wheel", "./copy"]
    subprocess.run(build, check=True)
    (wheel,) = Path("wheel").glob("attnbench-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "venv"], check=True)
    bare = tmp_path / "venv" / "bin"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    subprocess.run([bare / "python", "-m", "pip", "install", "-q", "--no-deps", str(wheel)], env=left, check=True)
    (site / "lent.pth").write_text("\n".join(folder for folder in sys.path if folder.endswith("site-packages")))
    where = subprocess.check_output([bare / "python", "-c", "import attnbench; print(attnbench.__file__)"], env=left)
    assert where.decode().startswith(str(site)), "not the wheel"

    def attnbench(*words: str, here: str = ".") -> str:
        done = subprocess.run([bare / "attnbench", *words], cwd=here, env=left, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return attnbench


@pytest.mark.slow
def test_a_newcomer_with_the_wheel_alone_sees_the_demo(newcomer):
    Path("empty").mkdir()
    told = newcomer("demo", here="empty")
    assert "cbam is better than none on these 6,149 test images" in told
    assert "constant(value=0.0) is worse than none" in told
    assert Path("empty/reports/quick/index.html").is_file()
    assert "attnbench init PHOTOS" in told


@pytest.mark.slow
def test_a_newcomer_comes_from_six_kinds_of_flowers_to_a_verdict(newcomer, unpacked):
    root = unpacked("flowers102/flowers102-128px-trainval.tar.gz") / "flowers-102"
    kinds, split = loadmat(root / "imagelabels.mat")["labels"][0], loadmat(root / "setid.mat")
    for number in np.concatenate([split["trnid"][0], split["valid"][0]]):  # the folder may hold the test images too
        if (kind := kinds[number - 1]) <= 6:
            folder = Path("photos", f"kind {kind}")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / "jpg" / f"image_{number:05}.jpg", folder)
    assert "6 classes of 20 to 20 images: 96 to train, 24 to test" in newcomer("init", "photos")
    mine = yaml.safe_load(Path("mine.yaml").read_text())
    mine["base"] |= {"image_size": 16, "epochs": 1}
    Path("short.yaml").write_text(yaml.safe_dump(mine | {"looks": [3]}))
    assert "12 of 12" in newcomer("study", "short.yaml", "--jobs", "2", "--tracker", "none")
    assert "against none is" in newcomer("report", "short.yaml")
    run = next(Path("runs").glob("*/weights.safetensors")).parent.name
    photo = str(min(Path("photos", "kind 1").iterdir()))
    assert photo in newcomer("predict", run, photo)
