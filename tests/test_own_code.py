"""Somebody's own code: it runs as it is published, mistakes are found before training, and bugs keep their place."""

import random
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import attnbench
from attnbench.catalogue.digest import digest_of_object
from attnbench.catalogue.entries import _WIDTH
from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import BadReference, ForeignError
from attnbench.networks.weights import weights_of

BLOCKS = """
import functools
import torch
from torch import nn

class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)
    def gate(self, x):
        return self.fc(x.mean((2, 3), keepdim=True)).sigmoid()
    def forward(self, x):
        return x * self.gate(x)

class Wide(nn.Identity):
    def __init__(self, channels=16):
        super().__init__()
        self.width = channels

class Open(nn.Identity):
    def __init__(self, channels=None, start=1):
        super().__init__()
        self.width = channels

class GateAlone(Gate):
    def forward(self, x):
        return self.gate(x)

class Pair(Gate):
    def forward(self, x):
        return x * self.gate(x), self.gate(x)

class Double(Gate):
    def forward(self, x):
        return (x * self.gate(x)).double()

class More(Gate):
    def forward(self, x, h, w):
        return x * self.gate(x)

class Late(Gate):
    def forward(self, x):
        self.late = nn.Conv2d(x.shape[1], x.shape[1], 1)
        return self.late(x)

class Passing(Gate):
    def forward(self, x):
        return nn.Conv2d(x.shape[1], x.shape[1], 1)(x)

class Listed(Gate):
    def __init__(self, channels):
        super().__init__(channels)
        self.layers = [nn.Conv2d(channels, channels, 1)]
    def forward(self, x):
        return self.layers[0](super().forward(x))

class Lazy(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc = nn.LazyConv2d(channels, 1)
    def forward(self, x):
        return self.fc(x)

class Cut(Gate):
    def forward(self, x):
        return x.detach().clone()

class Odd(Gate):
    def forward(self, x):
        assert x.shape[2] % 2 == 1
        return x

class Viewing(Gate):
    def forward(self, x):
        return super().forward(x.view(-1).view(x.shape))

class InPlace(Gate):
    def forward(self, x):
        x *= self.gate(x)
        return x

class Norm(Gate):
    def __init__(self, channels):
        super().__init__(channels)
        self.norm = nn.BatchNorm2d(channels)
    def forward(self, x):
        torch.rand(1)
        return self.norm(super().forward(x))

class Tied(Gate):
    def __init__(self, channels):
        super().__init__(channels)
        self.other = nn.Conv2d(channels, channels, 1)
        self.other.weight, self.same = self.fc.weight, self.fc
    def forward(self, x):
        return self.other(super().forward(x))

class TwoWidths(Gate):
    def __init__(self, inp, oup, ratio=2):
        super().__init__(inp)
        self.mix = nn.Conv2d(inp, oup, 1)
        self.ratio = ratio

class Kernel(nn.Module):
    def __init__(self, kernel_size=3):
        super().__init__()
        self.kernel_size = kernel_size
    def forward(self, x):
        return nn.functional.avg_pool2d(x, self.kernel_size, 1, self.kernel_size // 2)

class Asserting(Gate):
    def __init__(self, channels, groups=4):
        assert channels % groups == 0, f"{groups} groups"
        super().__init__(channels)

partial = functools.partial(TwoWidths, oup=8, ratio=3)
short = lambda channels: Gate(channels)
built = Gate(8)
"""

REFUSED = {
    "GateAlone": "2x128x1x1.*return x \\* gate",
    "Pair": "forward returns tuple",
    "Double": "float64",
    "More": "missing 2 required positional arguments: 'h' and 'w'",
    "Late": "late.weight, late.bias made in forward",
    "Passing": "weights .* that no optimiser finds",
    "Listed": "weights .* that no optimiser finds",
    "Lazy": "lazy layers",
    "Cut": "without a gradient",
    "TwoWidths": "needs oup",
    "NoSuch": "has no 'NoSuch'",
    "built": "give a class or a function",
}


HABITS = ["Viewing", "InPlace", "partial", "short", 'TwoWidths(oup="channels")', "TwoWidths(oup=4)"]


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a module of the user's, `own_blocks`, in which one works."""
    (tmp_path / "own_blocks.py").write_text(BLOCKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_blocks", raising=False)
    return tmp_path


def grafted(name: str, **more: object) -> nn.Module:
    """A small network with a module of the user's in it."""
    return attnbench.network("speednet", f"own_blocks:{name}", classes=10, image_size=16, **more)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_before_training_in_one_line_that_names_it(name):
    with pytest.raises(BadReference, match=REFUSED[name]) as refused:
        grafted(name)
    assert "\n" not in str(refused.value)
    assert name in str(refused.value)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("name", HABITS)
def test_published_habits_train_unchanged(name):
    model = grafted(name).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 16, 16).to(memory_format=torch.channels_last)
    model(images).square().mean().backward()
    assert all(p.grad is not None for path, p in model.named_parameters() if ".fc." in path)


@pytest.mark.usefixtures("blocks")
def test_a_module_that_works_in_place_does_not_reach_what_else_reads_its_maps():
    model = attnbench.network("resnet20", "own_blocks:InPlace", classes=10, image_size=16, site="pre").eval()
    twin = attnbench.network("resnet20", "own_blocks:Gate", classes=10, image_size=16, site="pre").eval()
    twin.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(model(images), twin(images))


@pytest.mark.usefixtures("blocks")
def test_the_trial_moves_neither_a_statistic_nor_a_random_stream():
    def streams() -> list[object]:
        return [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]

    grafted("Norm")  # imports and caches
    before = streams()
    model = grafted("Norm")
    assert streams() == before
    norms = [module for path, module in model.named_modules() if path.endswith("1.norm")]
    assert norms
    assert all(int(norm.num_batches_tracked) == 0 and not norm.running_mean.any() for norm in norms)


@pytest.mark.usefixtures("blocks")
def test_shared_weights_are_stored_under_each_name_and_shared_again_when_loaded():
    from safetensors.torch import load, save

    model, twin = grafted("Tied"), grafted("Tied", seed=1)
    twin.load_state_dict(load(save(weights_of(model))))
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), twin.parameters(), strict=True))
    other, fc = (twin.get_submodule(f"layer1.bn2.1.{name}").weight for name in ("other", "fc"))
    assert other is fc


@pytest.mark.usefixtures("blocks")
def test_a_first_argument_that_is_no_width_keeps_its_default():
    assert attnbench.build_attention("own_blocks:Kernel", 64).kernel_size == 3
    assert attnbench.build_attention("own_blocks:Kernel(kernel_size=5)", 64).kernel_size == 5


WIDTHS = (
    "channels in_channels num_channels inplanes dim embed_dim inp nf c1 ch_in n_filters num_features width in_dim c"
)
WIDTHS += " channel in_ch in_chs in_chns in_nc n_feat n_feats c_hidden inputChannels nInputPlane channel_size n"
OPTIONS = (
    "n_groups n_heads c_ratio in_size dim_head channel_reduction kernel_size reduction input_size filter_size groups"
)


@pytest.mark.parametrize(("names", "width"), [(WIDTHS, True), (OPTIONS, False)])
def test_a_first_argument_with_a_default_is_the_width_where_its_name_says_so(names, width):
    assert [name for name in names.split() if bool(_WIDTH.search(name)) != width] == []


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("name", ["Wide", "Open"])
def test_a_width_with_a_default_is_given_unless_it_is_asked_for(name):
    assert attnbench.build_attention(f"own_blocks:{name}", 64).width == 64
    assert attnbench.build_attention(f"own_blocks:{name}(channels=32)", 64).width == 32


@pytest.mark.usefixtures("blocks")
def test_a_partial_object_has_the_options_that_it_leaves_open():
    assert attnbench.build_attention("own_blocks:partial", 8).ratio == 3
    assert attnbench.build_attention("own_blocks:partial(ratio=5)", 8).ratio == 5


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(
    ("name", "line", "says"),
    [("Asserting(groups=3)", "assert channels % groups", "3 groups"), ("Odd", "assert x.shape[2] % 2", "layer")],
)
def test_what_somebodys_code_raises_keeps_its_own_frames_and_none_of_ours(name, line, says):
    with pytest.raises(ForeignError) as raised:
        grafted(name)
    number = next(n for n, text in enumerate(BLOCKS.splitlines(), 1) if line in text)
    assert f"own_blocks.py, line {number}" in str(raised.value)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert line in raised.value.trace
    assert str(Path(attnbench.__file__).parent) not in raised.value.trace


BROKEN = {
    "print 'old'": "line 1",
    "import no_such_package_at_all": "no_such_package_at_all",
    "import numpy\nnumpy.int(3)": "line 2",
    "import sys\nsys.exit(3)": "SystemExit: 3",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_file_that_cannot_be_imported_is_told_with_its_line(attnbench, tmp_path, monkeypatch, text):
    (tmp_path / "broken.py").write_text(f"{text}\n")
    monkeypatch.chdir(tmp_path)
    told = attnbench("run", "--dataset", "digits", "--attention", "broken:Gate", "--tracker", "none")
    assert told.returncode == 2
    last = told.stderr.splitlines()[-1]
    assert BROKEN[text] in last
    assert "broken.py, line" in last
    assert not re.search(r"attnbench/\w+/\w+\.py", told.stderr)


STUDY = """
name: s
base: {dataset: digits, backbone: resnet20, epochs: 1, train_limit: 64, test_limit: 32}
grid: {attention: ["own:Loud"]}
baseline: own:Loud
seeds: 2
"""
LOUD = """
import sys
import warnings
from torch import nn
print("a word on stdout")
sys.stderr.write("x" * 300_000 + chr(10))
warnings.warn("this is how it is", stacklevel=1)

class Loud(nn.Module):
    def __init__(self, channels):
        super().__init__()
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True).sigmoid()
"""


@pytest.mark.slow
def test_a_module_that_prints_much_breaks_no_study_and_warns_once(attnbench, tmp_path, monkeypatch, data_dir):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(LOUD)
    (tmp_path / "random.py").write_text("raise ImportError('a file of the user')")
    (tmp_path / "s.yaml").write_text(STUDY)
    dry = attnbench("study", "s.yaml", "--dry-run", "--data-dir", data_dir)
    assert dry.returncode == 0, dry.stderr
    assert re.search(r"about [\d.]+ hours", dry.stdout)
    done = attnbench("study", "s.yaml", "--tracker", "none", "--data-dir", data_dir)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs are done" in done.stdout
    assert done.stderr.count("UserWarning: this is how it is") == 1


SCRIPT = """
import sys
from torch import nn
import attnbench
from attnbench.errors import AttnbenchError
from attnbench.execution.sweep import Sweep, execute
from attnbench.mechanisms import Paper, attention

@attention("mine", Paper(title="Mine"))
class Gate(nn.Module):
    def __init__(self, channels, start=1.0):
        super().__init__()
        self.start = start
    def forward(self, x):
        return self.start * x

fields = dict(dataset="digits", backbone="resnet20", epochs=1, train_limit=64, test_limit=32)
spec = attnbench.RunSpec(attention="mine(start=0.5)", **fields)
runtime = attnbench.Runtime(store="runs", data_dir=sys.argv[1], tracker="none")
print(spec.id, attnbench.run(spec, runtime).status)
for call in (lambda: execute(Sweep([attnbench.RunSpec(attention="mine", **fields)], runtime)),
             lambda: attention("se", Paper(title="Mine"))(Gate)):
    try:
        call()
    except AttnbenchError as problem:
        print(problem)
"""


@pytest.mark.slow
def test_a_class_of_a_script_is_trained_in_its_process_and_named_by_its_source(tmp_path, data_dir):
    said = []
    for text in (SCRIPT, f"# a word more\n{SCRIPT}", SCRIPT.replace("self.start * x", "x * self.start")):
        (tmp_path / "script.py").write_text(text)
        command = [sys.executable, "script.py", str(data_dir)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        said.append(done.stdout.splitlines())
    ids = [lines[0].split() for lines in said]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0][1] == "done"
    assert "put it into a file of its own" in said[0][1]
    assert "one of ours is called 'se'" in said[0][2]


USES = """
from torch import nn
SCALE = {scale}
def helper(x):
    return x * SCALE
class Base(nn.Module):
    def start(self):
        return {start}
class Gate(Base):
    def __init__(self, channels):
        super().__init__()
    def forward(self, x):
        return helper(x) + self.start()
"""


def test_what_a_class_of_a_script_uses_there_belongs_to_its_identity(tmp_path):
    def digest(**values: float) -> str:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"  # Python keeps the lines of a file that it has read
        file.write_text(USES.format(**{"scale": 1, "start": 0, **values}))
        names = runpy.run_path(str(file), run_name="a_script")
        return digest_of_object(names["Gate"])

    assert digest() == digest()
    assert len({digest(), digest(scale=2), digest(start=1)}) == 3


def test_what_a_users_module_imports_of_theirs_belongs_to_its_identity(tmp_path, monkeypatch):
    package = tmp_path / "own_package"
    (package / "deep").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "blocks.py": "from .deep import gates\nclass Gate:\n    pass\n",
        "deep/__init__.py": "",
        "deep/gates.py": "def f():\n    import own_package.last\n",
        "last.py": "FACTOR = 1",
        "alone.py": "import os\nclass Gate:\n    pass\n",
        "unused.py": "",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def identities() -> list[object]:
        return [ATTENTION.resolve(f"own_package.{module}:Gate").identity for module in ("blocks", "alone")]

    before = identities()
    (package / "unused.py").write_text("FACTOR = 2")
    assert identities() == before
    (package / "last.py").write_text("FACTOR = 2  # another")
    after = identities()
    assert (after[0] != before[0], after[1]) == (True, before[1])
