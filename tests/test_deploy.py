"""export, profile --runtime: what runs elsewhere computes the same, says what it is, or is refused in one line."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torch import Tensor, nn

from attnbench import RunSpec, Runtime, cli, load, network, run
from attnbench.catalogue.registry import ATTENTION
from attnbench.deploy.exporting import TOLERANCE, Forms, difference
from attnbench.deploy.latency import Asked, measured_on, quantile, timed
from attnbench.deploy.refusals import operator_of
from attnbench.deploy.runtimes import FROM_TORCH, started
from attnbench.deploy.shipping import ENDINGS, Shipment, Shipped, export, noise
from attnbench.errors import AttnbenchError, NotExported
from attnbench.examine.bench import BenchSettings
from attnbench.report import runtimes
from attnbench.spec.recipes import preset
from attnbench.store.runs import RunRecord, Store

SMALL = "speednet(widths=(8, 16), stem=8)"
FORMATS = {"onnx": "onnxruntime", "pt2": "torch", "openvino": "openvino"}
MINE = """
import torch
from torch import nn

class Spectrum(nn.Module):
    def __init__(self, channels):
        super().__init__()
    def forward(self, x):
        return x * torch.linalg.eigvalsh(x @ x.transpose(2, 3)).unsqueeze(3)

class Branches(Spectrum):
    def forward(self, x):
        return x if x.sum() > 0 else x + 1

class Loops(Spectrum):
    def forward(self, x):
        return torch.stack([2 * image for image in x])
"""
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Path]:
    """A run with mirror images in its test, and the folder of its store and data."""
    home = tmp_path_factory.mktemp("deploy")
    fields = {**preset("fast", "digits"), "dataset": "digits", "epochs": 1, "batch_size": 32, "tta": "flip"}
    spec = RunSpec(**{**fields, "backbone": SMALL, "attention": "cbam"})
    record = run(spec, Runtime(store=str(home / "runs"), data_dir=str(home / "data"), tracker="none"))
    return record, home


@pytest.fixture
def say(trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Exit code, stdout and stderr of a command, beside the store of the run."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setenv("ATTNBENCH_STORE", str(trained[1] / "runs"))
    monkeypatch.setenv("ATTNBENCH_DATA_DIR", str(trained[1] / "data"))

    def command(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*map(str, words)])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return command


def without_attnbench(code: str) -> str:
    """What a program prints in a process that has no attnbench."""
    barred = "import sys\nsys.modules['attnbench'] = None\n"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", barred + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def photograph() -> None:
    """A JPEG of another size and shape, lying on its side as phones leave them."""
    values = np.random.default_rng(0).integers(0, 256, (33, 21, 3), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(values).save("photo.jpg", exif=turned)


@pytest.fixture(scope="module")
def exported(trained) -> Callable[[str], Shipment]:
    """The run as a file of a format, made once."""
    record, home = trained
    runtime = Runtime(store=str(home / "runs"), tracker="none")
    return functools.cache(lambda to: export(record.id, to, home / f"net{ENDINGS[to]}", runtime))


@pytest.mark.parametrize("to", FORMATS)
def test_a_file_predicts_without_this_package_what_predict_says(say, trained, exported, to):
    photograph()
    found = exported(to)
    assert found.apart <= TOLERANCE
    assert f"import {FORMATS[to]}" in found.lines
    name, share, _ = without_attnbench(found.lines).split()
    _, said, _ = say("predict", trained[0].id, "photo.jpg", "--top", 1)
    assert said.split()[1] == name
    assert float(share) == pytest.approx(float(said.split()[2]), abs=0.02)


def test_export_prints_lines_that_run(say, trained):
    photograph()
    code, out, err = say("export", trained[0].id, "--to", "pt2")
    assert code == 0, err
    lines, rest = out.split("\nlogits differ by ")
    assert rest.endswith(f"written: {trained[0].id}.pt2\n")
    assert without_attnbench(lines).endswith(" %\n")


def test_an_onnx_file_says_what_it_is_and_nothing_of_the_machine_that_made_it(trained, exported):
    record, home = trained
    model = onnx.load(exported("onnx").file)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert (about["run"], about["dataset"], about["attention"]) == (record.id, "digits", "cbam")
    assert json.loads(about["names"]) == [str(digit) for digit in range(10)]
    assert (about["image_size"], about["mode"], about["precision"]) == ("8", "L", "fp32")
    assert json.loads(about["versions"])["torch"] in torch.__version__
    (images,) = model.graph.input
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [size.dim_param or size.dim_value for size in images.type.tensor_type.shape.dim] == ["batch", 1, 8, 8]
    content = exported("onnx").file.read_bytes()
    assert not [place for place in (ROOT, home, Path.home()) if str(place).encode() in content]


@pytest.mark.parametrize("to", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_int8_is_tested_on_real_images_and_keeps_most_of_the_accuracy(say, trained, to):
    code, out, err = say("export", trained[0].id, "--to", to, "--int8")
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("INT8:")]
    after, before = (float(word) for word in line.split() if word.replace(".", "").isdigit() and "." in word)
    assert before == pytest.approx(trained[0].accuracy, abs=0.01)
    assert abs(after - before) < 10  # a processor without VNNI may round otherwise
    readings = [line for line in Store(trained[1] / "runs").journal(trained[0].id) if line["event"] == "test"]
    assert readings[-1]["reading"] == f"INT8 by {to}"


def test_a_file_that_computes_something_else_is_not_left_behind(say, trained, monkeypatch):
    monkeypatch.setattr("attnbench.deploy.shipping.Shipped.forward", lambda self, x: self.model(x.float()).cos())
    monkeypatch.setattr(Forms, "eager", lambda self, x: self.model(torch.from_numpy(x)).detach().numpy() + 1)
    code, out, err = say("export", trained[0].id, "--to", "pt2", "--output", "net.pt2")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "above 1e-05" in err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nosuchrun", "--to", "onnx"], "nosuchrun"),
        (["RUN", "--to", "onxn"], "did you mean 'onnx'"),
        (["RUN", "--to", "pt2", "--int8"], "--int8 goes with --to onnx"),
        (["RUN", "--to", "pt2", "--output", "taken/net.pt2"], "taken"),
        (["RUN", "--to", "openvino", "--output", "net.ov"], "OpenVINO reads files that end in .xml, such as net.xml"),
    ],
)
def test_an_export_that_is_asked_wrongly_is_one_line(say, trained, words, says):
    Path("taken").write_text("a file")
    code, out, err = say("export", *(trained[0].id if word == "RUN" else word for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert says in err


@pytest.mark.parametrize("words", [["export", "RUN", "--to", "openvino"], ["profile", "se", "--runtime", "openvino"]])
def test_a_missing_extra_is_one_line_that_says_how_to_install_it(say, trained, monkeypatch, words):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "openvino" else found(name, *a))
    code, out, err = say(*(trained[0].id if word == "RUN" else word for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert 'not installed: openvino; pip install "attnbench[deploy]"' in err


def own(name: str, monkeypatch: pytest.MonkeyPatch) -> Forms:
    """A network with a module of somebody's own in it."""
    Path("modules_nobody_exports.py").write_text(MINE)
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "modules_nobody_exports", raising=False)
    model = network(SMALL, f"modules_nobody_exports:{name}", classes=10, image_size=16)
    return Forms(model, torch.randn(2, 3, 16, 16))


@pytest.mark.parametrize(
    ("name", "who", "operator", "line"),
    [
        ("Spectrum", "the ONNX exporter", "aten._linalg_eigh", "No ONNX function"),
        ("Branches", "torch.export", "aten.item", "return x if x.sum() > 0 else x + 1"),
        ("Loops", "torch.export", "", "one number of images only"),
    ],
)
def test_what_an_exporter_refuses_is_one_line_with_the_operator_or_the_line(monkeypatch, name, who, operator, line):
    forms = own(name, monkeypatch)
    with pytest.raises(NotExported) as refused:
        _ = forms.onnx
    assert (refused.value.who, refused.value.operator) == (who, operator)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "operator"),
    [
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Foo(17) node",
            "Foo",
        ),
        ("Fatal error: com.x:Foo(-1) is not a registered function/op", "com.x:Foo"),
        ("No conversion rule found for operations: aten::foo, aten::bar", "aten::foo"),
        ("something else", ""),
    ],
)
def test_the_operator_is_read_from_what_runtimes_say(text, operator):
    assert operator_of(RuntimeError(text)) == operator


def redrawn(model: nn.Module) -> nn.Module:
    """Every value that a mechanism may start with at nothing, a little off it."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws))
    return model


REFUSED = {"ceca": "openvino"}
"""Its circular padding: OpenVINO reads no Pad of mode wrap."""


def apart(name: str, images: Tensor) -> dict[str, float]:
    """How far a mechanism's logits are from its own in each runtime, for another number of images than at export."""
    forms = Forms(redrawn(network(SMALL, name, classes=10, image_size=16)), images[:2])
    expected = forms.eager(images.numpy())
    return {
        each: difference(started(each, forms, 1)(images.numpy()), expected)
        for each in ("pt2", "onnxruntime", "openvino")
        if REFUSED.get(name) != each
    }


@pytest.mark.parametrize("name", ["eca", "coord"])
def test_a_mechanism_computes_the_same_in_every_runtime(name):
    assert max(apart(name, torch.randn(3, 3, 16, 16)).values()) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in ATTENTION if entry.builtin])
def test_every_mechanism_computes_the_same_in_every_runtime(name):
    assert max(apart(name, torch.randn(3, 3, 16, 16)).values()) <= TOLERANCE


@pytest.mark.parametrize(("name", "runtime"), REFUSED.items())
def test_what_a_runtime_refuses_is_told(name, runtime):
    forms = Forms(redrawn(network(SMALL, name, classes=10, image_size=16)), torch.randn(2, 3, 16, 16))
    with pytest.raises(NotExported, match="refuses"):
        started(runtime, forms, 1)


def test_a_quantile_lies_between_the_order_statistics_of_the_binomial_law():
    values = [float(number) for number in range(1, 101)]
    assert quantile(values, 0.5) == (50.0, 40.0, 61.0)
    middle, low, high = quantile(values, 0.95)
    assert middle == 95.0
    assert low is not None
    assert high is not None
    assert low < 95 < high
    assert quantile(values[:71], 0.95)[2] is None
    assert quantile(values[:72], 0.95)[2] == 72.0


def test_profile_times_runtimes_beside_none_and_goes_on_where_it_stopped(say):
    asked = ["--runtime", "eager,onnxruntime", "--int8", "--batch-sizes", "1,3", "--rounds", 6, "--backbone", SMALL]
    code, out, err = say("profile", "se", *asked, "--image-size", 16)
    assert code == 0, err
    (folder,) = Path("profiles").iterdir()
    (line,) = [json.loads(text) for text in (folder / runtimes.FILE).read_text().splitlines()]
    cells = {(cell["runtime"], cell["precision"], cell["batch_size"]): cell for cell in line["cells"]}
    kinds = [("eager", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")]
    assert set(cells) == {(*kind, size) for kind in kinds for size in (1, 3)}
    for cell in cells.values():
        for middle, low, high in (cell["p50"], cell["ratio"]):
            assert 0 < low <= middle <= high
        assert cell["p95"][2] is None  # six rounds say nothing of the upper end
    assert cells["onnxruntime", "fp32", 1]["difference"] <= TOLERANCE
    assert "agree" in cells["onnxruntime", "int8", 1]
    table = (folder / "runtimes.md").read_text()
    assert "| batch 1 | eager | onnxruntime | onnxruntime INT8 |" in table
    code, out, err = say("profile", "se", *asked, "--image-size", 16)
    assert code == 0, err
    assert "(measured before)" in out
    assert len((folder / runtimes.FILE).read_text().splitlines()) == 1


@pytest.mark.parametrize(("found", "expected"), [(np.nan, 1.0), (1.0, np.nan), (np.inf, np.inf), (1.0, np.inf)])
def test_what_is_not_finite_is_equal_to_nothing(found, expected):
    assert difference(np.full((2, 3), found), np.full((2, 3), expected)) == np.inf


def test_what_has_no_bound_is_measured_on_finite_logits():
    """lambda_layer is of degree three: without batch norms that fit, an untrained deep network of it overflows."""
    bench = BenchSettings(backbone="resnet50", image_size=32)
    (line,) = timed(["lambda_layer"], bench, Asked(runtimes=("eager",), batch_sizes=(1,), rounds=6))
    assert [cell["runtime"] for cell in line["cells"] if "ratio" in cell] == ["eager"]


def test_the_table_of_runtimes_is_of_the_bench_that_was_asked_for(say):
    asked = ["profile", "none", "--runtime", "eager", "--rounds", 6, "--backbone", SMALL, "--image-size", 16]
    tables = []
    for sizes in ("1", "1,3", "1"):
        code, _, err = say(*asked, "--batch-sizes", sizes)
        assert code == 0, err
        (file,) = Path("profiles").rglob("runtimes.md")
        tables.append(file.read_text())
    assert "| batch 3 |" in tables[1]
    assert tables[2] == tables[0]


def test_a_runtime_that_computes_something_else_is_not_timed_and_said(monkeypatch):
    monkeypatch.setitem(FROM_TORCH, "pt2", lambda forms, threads: lambda images: np.ones((len(images), 10)))
    bench = BenchSettings(backbone=SMALL, image_size=16)
    asked = Asked(runtimes=("eager", "pt2"), batch_sizes=(1,), rounds=6)
    (line,) = timed(["none"], bench, asked)
    assert [cell["runtime"] for cell in line["cells"] if "ratio" in cell] == ["eager"]
    (told,) = runtimes.refusals([line])
    assert told.startswith("none in pt2: pt2 refuses this network: its logits differ by")
    assert line["on"] == measured_on(bench, asked)
    assert "| none | x" in runtimes.ratios([line])
    assert "| refused |" in runtimes.ratios([line])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--runtime", "onnxruntme"], "did you mean 'onnxruntime'"),
        (["--runtime", "eager", "--batch-sizes", "1,x"], "--batch-sizes 1,x"),
        (["--runtime", "eager", "--batch-sizes", "0"], "batch size 0 must be at least 1"),
        (["--runtime", "eager", "--rounds", "3"], "rounds=3"),
        (["--runtime", "eager", "--device", "cuda"], "--runtime measures on the CPU"),
        (["--runtime", "eager", "--site", "blok"], "did you mean 'block'"),
        (["sse", "--runtime", "eager"], "did you mean 'se'"),
        (["--runtime", "tensorrt"], "never measured by us"),
        (["--int8"], "--int8 goes with --runtime"),
        (["--batch-sizes", "1,2"], "--batch-sizes goes with --runtime"),
        (["none", "--runtime", "eager", "--out", "taken"], "taken/resnet20/ cannot be written: "),
    ],
)
def test_a_profile_of_runtimes_that_is_asked_wrongly_is_one_line(say, words, says):
    Path("taken").write_text("a file")
    code, out, err = say("profile", *words)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert says in err


def test_what_finds_no_place_in_a_backbone_is_told_and_the_next_is_measured(say, tmp_path):
    asked = ["--runtime", "eager", "--batch-sizes", 1, "--rounds", 6, "--backbone", SMALL, "--image-size", 16]
    code, out, err = say("profile", "sasa", "se", *asked, "--site", "pattern:layer1", "--out", tmp_path / "cost")
    assert code == 0, err
    assert "sasa: takes the place of 3x3 convolutions" in out
    assert "se               batch 1    eager x" in out
    assert "| sasa | no place |" in next((tmp_path / "cost").rglob("runtimes.md")).read_text()


def test_load_and_export_agree_on_what_images_are(trained):
    """A file takes uint8 only; the predictor takes both, and gives for uint8 what the file gives."""
    predictor = load(trained[0], trained[1] / "runs")
    images = torch.from_numpy(noise(predictor, 4))
    with torch.inference_mode():
        expected = predictor(images)
        torch.testing.assert_close(Shipped(predictor)(images), expected, rtol=1e-5, atol=1e-5)


def test_a_refusal_is_a_mistake_with_exit_code_2():
    assert NotExported("OpenVINO", "aten::foo", "no rule").exit_code == AttnbenchError.exit_code
    assert str(NotExported("OpenVINO", "aten::foo", "no rule")) == "OpenVINO refuses aten::foo: no rule"
