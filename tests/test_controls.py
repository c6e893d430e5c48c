"""The controls: what each of them can learn and see, and that runs with them are named and repeated like any other."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file
from torch import nn

import attnbench
from attnbench import RunSpec, Runtime, build_attention, network
from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import BadReference, BadSpec
from attnbench.examine.reproduce import reproduce
from attnbench.networks.network import network_of
from attnbench.seeding import seeded
from attnbench.store.runs import RunRecord
from attnbench.training.optim import optimizer

WIDTHS = [4] * 3 + [8] * 6
"""Channels at the nine sites of the tiny network."""
INNER = ["se", "se(reduction=4)", 'se(variant="classic")', "cbam", 'cbam(variant="official")']
OF = pytest.mark.parametrize("of", INNER)
CONTROLS = pytest.mark.parametrize("attention", ["static", "random", 'random(of="cbam")'])
Do = Callable[..., RunRecord]

MINE = """
from torch import nn
from attnbench.catalogue.cards import Paper
from attnbench.mechanisms import attention

@attention("mine", Paper(title="Somebody's own", kind="S"))
class Gate(nn.Module):
    def __init__(self, channels, start=1.0):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)
    def forward(self, x):
        return x * self.mix(x).sigmoid()
"""


def random_of(of: str) -> str:
    return f"random(of={of!r})"


def spec(attention: str, **fields: object) -> RunSpec:
    return RunSpec(**{**TINY, "attention": attention, **fields})


def name(attention: str) -> str:
    return spec(attention).id


def images(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def initial(attention: str, **fields: object) -> dict[str, torch.Tensor]:
    """The parameters of a run's network before its training."""
    return dict(network_of(spec(attention, **fields), classes=10, channels=1, size=8).named_parameters())


def frozen(path: str) -> bool:
    return ".frozen." in f".{path}"


@pytest.fixture(scope="module")
def do(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Do:
    """Do a run, in a store of this file's own unless another one is named; what is done there is done once."""
    own = tmp_path_factory.mktemp("controls") / "runs"

    def run(attention: str, store: str | Path = own, **given: object) -> RunRecord:
        runtime = Runtime(data_dir=str(data_dir), store=str(store), tracker="none")
        return attnbench.run(spec(attention), runtime, **given)

    return run


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's, `gates_of_mine`, whose mechanism sits after stages."""
    (tmp_path / "gates_of_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gates_of_mine", raising=False)
    monkeypatch.setattr(ATTENTION, "_added", {})
    return tmp_path / "gates_of_mine.py"


# What they can learn and see


@pytest.mark.parametrize(("text", "value"), [("static", 0.5), ("static(value=1.5)", 1.5), ("static(value=0)", 0.0)])
def test_static_has_a_scale_for_each_channel_that_starts_at_its_value(text, value):
    module, x = build_attention(text, 24), images(2, 24, 5, 4)
    assert [(p.numel(), p.requires_grad) for p in module.parameters()] == [(24, True)]
    assert torch.equal(module(x), x * value)


@pytest.mark.parametrize("text", ["constant", "static"])
def test_a_gate_that_does_not_look_is_the_same_for_every_input(text):
    module, one, two = build_attention(text, 16), images(2, 16, 5, 4), images(2, 16, 5, 4, seed=2)
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    assert torch.equal(module.gate(one), module.gate(two))
    torch.testing.assert_close(module(one + two), module(one) + module(two))  # linear


def test_static_learns_each_scale_by_itself():
    module, x = build_attention("static", 3), images(64, 3, 4, 4)
    wanted = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1)
    step = torch.optim.SGD(module.parameters(), lr=0.5)
    for _ in range(50):
        step.zero_grad()
        (module(x) - wanted * x).square().mean().backward()
        step.step()
    torch.testing.assert_close(module.scale.detach(), wanted, rtol=0, atol=1e-3)


@OF
def test_random_is_the_untrained_mechanism_drawn_from_the_same_stream(of):
    modules = []
    for text in (of, random_of(of)):
        with seeded(3, "attention", "somewhere"):
            modules.append(build_attention(text, 16, (8, 8)))
    trained, control = modules
    assert {f"frozen.{path}": v.tolist() for path, v in trained.state_dict().items()} == {
        path: v.tolist() for path, v in control.state_dict().items()
    }
    x = images(3, 16, 8, 8)
    assert torch.equal(control(x), trained(x))


@OF
def test_a_network_with_random_starts_as_the_network_with_the_mechanism(of):
    control = {path.replace("frozen.", ""): value for path, value in initial(random_of(of), seed=5).items()}
    trained = initial(of, seed=5)
    assert control.keys() == trained.keys()
    assert all(torch.equal(control[path], trained[path]) for path in trained)


@OF
def test_random_looks_at_its_input_and_learns_nothing(of):
    with seeded(0, "attention", "somewhere"):  # a draw may leave every unit dead
        module = build_attention(random_of(of), 64).eval()
    x = images(2, 64, 8, 8)
    ratios = module(x) / x
    assert not torch.allclose(ratios[0], ratios[1], rtol=1e-3), "two images have the same gate"
    module(x.requires_grad_()).sum().backward()
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("of", ["random", 'random(of="cbam")', "static", "constant", "none"])
def test_random_of_another_control_is_frozen_too(of):
    module, x = build_attention(random_of(of), 16), images(2, 16, 8, 8)
    assert not any(p.requires_grad for p in module.parameters())
    assert module(x).shape == x.shape


# In training


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize(("attention", "idle"), [("random", 18 * 2), ("static", 0), ("constant", 0)])
def test_the_optimiser_holds_all_that_learns_and_nothing_else(attention, idle, kind):
    one = spec(attention, optimizer=kind)
    model = network_of(one, classes=10, channels=1, size=8)
    held = [id(p) for group in optimizer(one, model).param_groups for p in group["params"]]
    named = dict(model.named_parameters())
    assert sorted(held) == sorted(id(p) for path, p in named.items() if not frozen(path))
    assert len(named) - len(held) == idle


@pytest.mark.parametrize("of", ["se", 'cbam(variant="official")'])
def test_training_leaves_what_is_frozen_as_it_was_and_moves_everything_else(do, of):
    done, before = do(random_of(of)), initial(random_of(of))
    after = load_file(Path(done.folder) / "weights.safetensors")
    still = {path for path, value in before.items() if torch.equal(value, after[path])}
    assert still == {path for path in before if frozen(path)}


def test_training_moves_every_scale_of_static(do):
    after = load_file(Path(do("static").folder) / "weights.safetensors")
    scales = [value for path, value in after.items() if path.endswith(".scale")]
    assert [value.numel() for value in scales] == WIDTHS
    assert all((value != 0.5).all() for value in scales)


def test_the_record_counts_parameters_whether_they_learn_or_not(do):
    extra = {arm: do(arm).cost["parameters"] - do("none").cost["parameters"] for arm in ("constant", "static", "se")}
    hidden = 1  # 4 // 16 and 8 // 16, but never below one
    assert extra == {"constant": 0, "static": sum(WIDTHS), "se": sum(2 * c * hidden + hidden + c for c in WIDTHS)}
    assert do("random").cost == do("se").cost


@CONTROLS
def test_the_same_run_twice_gives_the_same_bits(do, attention):
    first, again = do(attention), do(attention, "again")
    assert first.folder != again.folder
    assert (first.weights_sha256, first.test) == (again.weights_sha256, again.test)


@CONTROLS
def test_a_stopped_run_goes_on_to_the_same_bits(do, attention):
    def stop(_spec: RunSpec, point: dict[str, float]) -> None:
        if point["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do(attention, "stopped", log=stop)
    resumed = do(attention, "stopped")
    assert (resumed.resumed, resumed.weights_sha256) == (1, do(attention).weights_sha256)


@pytest.mark.slow
def test_a_stored_run_with_random_is_reproduced_identically(do, data_dir):
    done = do("random")
    found = reproduce(done.id, Runtime(data_dir=str(data_dir), store=str(Path(done.folder).parent), tracker="none"))
    assert (found.verdict, found.changed) == ("identical", ())


# Names


def test_every_spelling_of_the_mechanism_inside_is_one_run():
    spellings = ["random", "Random()", 'random(of="se")', 'random(of="SE()")', 'random(of="se(reduction=16.0)")']
    spellings += ["random(of='se(variant=\"official\")')", "random(of=' se ( ) ')"]
    assert len({name(text) for text in spellings}) == 1


def test_another_mechanism_or_option_inside_is_another_run():
    others = ["se", "random", 'random(of="se(reduction=8)")', 'random(of="cbam")', 'random(of="random")']
    others += ["constant", "constant(value=1)", "static", "static(value=1)"]
    assert len({name(text) for text in others}) == len(others)


def raised(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """Raise a card's version, as one does when a mechanism's numbers change."""
    entry = ATTENTION.find(which)
    card = dataclasses.replace(entry.card, version=entry.card.version + 1)
    monkeypatch.setitem(ATTENTION._entries, which, dataclasses.replace(entry, card=card))


@pytest.mark.parametrize(
    ("which", "moved"),
    [
        ("se", {"random", 'random(of="se(reduction=8)")', "random(of='random')"}),
        ("cbam", {'random(of="cbam")'}),
        ("random", {"random", 'random(of="se(reduction=8)")', "random(of='random')", 'random(of="cbam")'}),
    ],
)
def test_a_raised_version_of_the_mechanism_inside_is_another_run(monkeypatch, which, moved):
    texts = ["random", 'random(of="se(reduction=8)")', "random(of='random')", 'random(of="cbam")', "static"]
    before = {text: name(text) for text in texts}
    raised(monkeypatch, which)
    assert {text for text in texts if name(text) != before[text]} == moved


def test_a_change_in_the_source_of_somebodys_own_mechanism_inside_is_another_run(mine):
    before = name('random(of="gates_of_mine:Gate")')
    assert name('random(of="gates_of_mine:Gate(start=1.0)")') == before
    mine.write_text(MINE.replace(".sigmoid()", ".tanh()"))
    assert name('random(of="gates_of_mine:Gate")') != before


def test_random_sits_where_the_mechanism_inside_sits(mine):
    paths = []
    for text in ("gates_of_mine:Gate", 'random(of="gates_of_mine:Gate")'):
        model = network(TINY["backbone"], text, classes=10, in_channels=1, image_size=8)
        paths.append({path.replace("frozen.", "") for path, _ in model.named_parameters() if "mix" in path})
    assert paths[0] == paths[1]
    assert spec('random(of="gates_of_mine:Gate")', site="stage").id == name('random(of="gates_of_mine:Gate")')


WRONG = [
    ('random(of="sse")', "did you mean 'se'?"),
    ('random(of="cban")', "did you mean 'cbam'?"),
    ('random(of="se(ratio=4)")', "no option 'ratio'; its options: reduction"),
    ("random(of='random(of=\"sse\")')", "did you mean 'se'?"),
    ('random(of="se(")', "'se(' cannot be read"),
    ("random(of=16)", "of=16 must be a str"),
    ('random(off="se")', "no option 'off'; its options: of"),
    ('static(value="half")', "must be a float"),
    ('constant(value="half")', "must be a float"),
    ("static(values=1)", "no option 'values'; its options: value"),
]


@pytest.mark.parametrize(("text", "needle"), WRONG)
def test_a_mistake_in_a_control_is_one_line_that_says_what_would_work(text, needle):
    with pytest.raises(BadReference) as refused:
        build_attention(text, 16)
    with pytest.raises(BadSpec) as asked:
        spec(text)
    assert set(asked.value.mistakes) == {"attention"}
    for said in (str(refused.value), asked.value.mistakes["attention"]):
        assert needle in said
        assert len(said.splitlines()) == 1
