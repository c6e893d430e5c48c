"""Mechanisms put together: what a composition computes, has, costs, promises, and what it is called."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import made
import pytest
import torch
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attnbench import RunSpec, Store, Study, build_attention, compare, load, network
from attnbench.catalogue.compositions import MOST, papers
from attnbench.catalogue.foreign import barred
from attnbench.catalogue.formula import promised
from attnbench.catalogue.refs import DEEPEST, Ref, parse
from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import BadReference, BadSpec
from attnbench.examine.bench import BenchSettings
from attnbench.examine.conformance import PROMISES, outcome
from attnbench.examine.profiling import profile
from attnbench.examine.sameness import same
from attnbench.networks.network import network_of
from attnbench.report.latex import bibliography
from attnbench.report.tables import markdown
from attnbench.training.optim import optimizer

Says = Callable[..., "subprocess.CompletedProcess[str]"]
ONNX = "computes the same in ONNX Runtime, for any number of images"
COMPOSED = [
    "chain(eca, sa)",
    "parallel(eca, sa)",
    'parallel(se, sa(groups=8), join="max")',
    "chain(gct, fca)",
    "chain(parallel(eca, none), cbam, nl)",
    'parallel(static, random(of="se"))',
]
FORMULAS = [entry.name for entry in ATTENTION if entry.builtin and entry.card.parameters]

MINE = """
from torch import nn

class InPlace(nn.Module):
    def __init__(self, channels, scale=2.0):
        super().__init__()
        self.mix, self.scale = nn.Conv2d(channels, channels, 1), scale
    def forward(self, x):
        x = x.view(x.shape[0], -1).mul_(self.scale).view(x.shape)  # fails on maps laid out channels last
        return x * self.mix(x).sigmoid()
"""


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def of(text: str, channels: int = 32) -> nn.Module:
    return build_attention(text, channels, (8, 8)).double().eval()


def name(attention: str) -> str:
    return RunSpec(**{**TINY, "attention": attention}).id


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's, `part_of_mine`, that changes its input in place."""
    (tmp_path / "part_of_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "part_of_mine", raising=False)
    return tmp_path / "part_of_mine.py"


# What they compute


def test_a_chain_applies_each_part_to_the_output_of_the_one_before():
    module, x = of("chain(se, cbam, eca)"), images(2, 32, 8, 8)
    one, two, three = module.parts
    assert torch.equal(module(x), three(two(one(x))))
    assert [type(part).__name__ for part in module.parts] == ["SE", "CBAM", "ECA"]
    assert not torch.allclose(two(one(x)), one(two(x))), "the order counts"


@pytest.mark.parametrize(("join", "by_hand"), [("mean", torch.mean), ("max", torch.amax)])
def test_parallel_parts_have_the_same_input_and_their_outputs_are_joined(join, by_hand):
    module, x = of(f'parallel(se, cbam, eca, join="{join}")'), images(2, 32, 8, 8)
    torch.testing.assert_close(module(x), by_hand(torch.stack([part(x) for part in module.parts]), 0))


def test_the_mean_of_gated_outputs_is_the_input_times_the_mean_gate():
    module, x = of("parallel(se, eca)"), images(2, 32, 8, 8)
    torch.testing.assert_close(module(x), x * (module.parts[0].gate(x) + module.parts[1].gate(x)) / 2)


def test_the_first_part_starts_as_it_does_alone():
    alone, composed = (dict(network(TINY["backbone"], text, classes=4, image_size=16, seed=3).named_parameters())
                       for text in ("se", "chain(se, sa)"))  # fmt: skip
    shared = {path: value for path, value in composed.items() if ".parts.0." in path}
    assert all(torch.equal(alone[path.replace("parts.0.", "")], value) for path, value in shared.items())
    assert len(shared) == 9 * 4


# Promises, cards and costs


def _trial(text: str, promise: str) -> object:
    marks = [pytest.mark.slow] if promise == ONNX and text != COMPOSED[0] else []
    return pytest.param(text, promise, marks=marks)


@pytest.mark.parametrize(("text", "promise"), [_trial(text, promise) for text in COMPOSED for promise in PROMISES])
def test_keeps_every_promise_or_says_why_it_does_not_apply(text, promise):
    found = outcome(text, promise)
    assert found.wrong == ()
    assert found.word == "ok" or found.reason


@pytest.mark.parametrize("part", FORMULAS)
def test_a_part_has_the_parameters_of_its_own_formula(part):
    """With the options written in: whatever names a card's formula uses."""
    if ATTENTION.find(part).card.kind == "R":
        return
    choice, own = ATTENTION.resolve(f"parallel({part}, static)"), ATTENTION.resolve(part)
    for channels in (8, 24, 256):
        expected = promised(own.card, own.settings, channels, (8, 8)) + channels
        assert promised(choice.card, choice.settings, channels, (8, 8)) == expected


@pytest.mark.parametrize("text", ["chain(eca(kernel=3), se(reduction=4))", 'parallel(se(variant="classic"), eca)'])
def test_the_sum_of_formulas_is_what_is_built(text):
    choice = ATTENTION.resolve(text)
    for channels in (8, 24, 256):
        found = sum(parameter.numel() for parameter in choice.construct(channels).parameters())
        assert promised(choice.card, choice.settings, channels, (8, 8)) == found


def test_the_card_is_made_of_those_of_the_parts():
    card = ATTENTION.resolve('chain(gct, fca, random(of="se"))').card
    assert card.no_decay == ("parts.0.beta",)
    assert list(card.inert) == ["parts.2.frozen.*"]
    assert card.positions.startswith("fca: each channel")
    assert card.gate is None
    assert card.parameters == ""  # a control has no formula
    assert not card.control


@pytest.mark.parametrize(
    ("text", "site"), [("chain(eca, sa)", "block"), ("chain(bam, eca)", "block"), ("parallel(bam, bam)", "stage")]
)
def test_it_goes_to_stages_only_if_all_its_parts_do(text, site):
    assert ATTENTION.resolve(text).placed.site == site


def test_weight_decay_spares_what_the_cards_of_the_parts_spare():
    spec = RunSpec(**{**TINY, "attention": "chain(gct, chain(gct, eca))", "optimizer": "sgd", "weight_decay": 0.1})
    model = network_of(spec, 10, 1, 8)
    decay = {id(p): group["weight_decay"] for group in optimizer(spec, model).param_groups for p in group["params"]}
    spared = {path for path, p in model.named_parameters() if decay[id(p)] == 0}
    assert spared == {path for path, _ in model.named_parameters() if path.endswith(".beta")}
    assert len(spared) == 9 * 2


def test_a_composition_is_built_for_a_size_only_if_a_part_is():
    assert "size" not in ATTENTION.resolve("chain(eca, sa)").entry.arguments
    assert "size" in ATTENTION.resolve("chain(eca, fca)").entry.arguments


def test_its_cost_is_that_of_its_parts():
    bench = BenchSettings(backbone="resnet20", batch_size=2, image_size=16)
    texts = ["none", "eca", "se", "chain(eca, se)", "parallel(eca, se)"]
    none, eca, se, *both = (each.counts.parameters for each in profile(texts, bench, 6, timed=()))
    assert both == [eca + se - none] * 2


def test_with_init_identity_the_network_starts_as_the_plain_one():
    plain, model = (network(TINY["backbone"], text, classes=4, image_size=16, init="identity").double().eval()
                    for text in ("none", "chain(eca, sa)"))  # fmt: skip
    x = images(2, 3, 16, 16)
    torch.testing.assert_close(plain(x), model(x), rtol=1e-12, atol=1e-12)


def test_it_differs_from_the_plain_network_in_the_mechanism_only():
    spec = {"dataset": "CIFAR10", "backbone": TINY["backbone"]}
    assert same(RunSpec(**spec, attention="chain(eca, sa)", every=2), RunSpec(**spec)).differences == ()


# Somebody's own parts


def test_parts_of_somebodys_own_get_maps_of_their_own(mine):
    text = "parallel(part_of_mine:InPlace, eca)"
    model = network(TINY["backbone"], text, classes=4, image_size=16).double().eval()
    module = model.get_submodule("layer1.0.bn2.1")
    x = images(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    expected = (2 * before * module.parts[0].mix(2 * before).sigmoid() + module.parts[1](before)) / 2
    torch.testing.assert_close(module(x), expected)


def test_a_change_in_the_source_of_a_part_is_another_run(mine):
    text = "chain(eca, part_of_mine:InPlace)"
    before = name(text)
    assert name("chain(eca, part_of_mine:InPlace(scale=2.0))") == before
    mine.write_text(MINE.replace(".sigmoid()", ".tanh()"))
    assert name(text) != before


def test_code_of_a_strangers_part_is_not_looked_for():
    with barred() as refused, pytest.raises(BadReference, match="somebody's own code"):
        ATTENTION.resolve("chain(eca, parallel(se, no_such_module:Gate))")
    assert refused == ["no_such_module:Gate"]


def test_a_formula_of_somebodys_own_that_cannot_be_read_is_told(mine):
    card = '@attention("mine", Paper(title="Mine", parameters="C *"))'
    head = "from attnbench.catalogue.cards import Paper\nfrom attnbench.mechanisms import attention\n"
    mine.write_text(head + MINE.replace("class InPlace", f"{card}\nclass InPlace"))
    with pytest.raises(BadReference, match=r"formula that is no expression: C \*"):
        ATTENTION.resolve("chain(eca, part_of_mine:InPlace)")


# Names

parts = st.recursive(
    st.builds(Ref, st.sampled_from(["eca", "se", "pkg.mod:Gate"]), st.just(()) | st.just((("a", 'x, y)"'), ("b", 1)))),
    lambda inner: st.builds(
        Ref, st.sampled_from(["chain", "parallel"]), st.just(()) | st.just((("join", "max"),)),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=4,
)  # fmt: skip


def depth(ref: Ref) -> int:
    return (ref.name in ("chain", "parallel")) + max(map(depth, ref.parts), default=0)


@settings(deadline=None)
@given(parts.filter(lambda ref: depth(ref) <= DEEPEST))
def test_a_composition_is_read_back_as_it_was_written(ref):
    assert parse(str(ref)) == ref


@pytest.mark.parametrize(
    "spelling",
    ["Chain(ECA, se)", "chain( eca , se(reduction=16.0), )", "chain(eca(), SE(variant='official'))", "chain(eca,se)"],
)
def test_every_spelling_of_a_composition_is_one_run(spelling):
    assert ATTENTION.canonical(spelling) == "chain(eca, se)"
    assert name(spelling) == name("chain(eca, se)")


def test_other_parts_orders_options_and_joins_are_other_runs():
    texts = ["chain(eca, se)", "chain(se, eca)", "parallel(eca, se)", 'parallel(eca, se, join="max")', "eca", "se"]
    texts += ["chain(eca, se(reduction=8))", "chain(eca, se, se)", "chain(eca, chain(se, se))"]
    assert len({name(text) for text in texts}) == len(texts)
    assert name('parallel(eca, se, join="mean")') == name("parallel(eca, se)")


def test_a_raised_version_of_a_part_is_another_run(monkeypatch):
    texts = ["chain(eca, se)", "parallel(chain(eca, se), sa)", 'random(of="chain(eca, se)")', "chain(eca, sa)"]
    before = {text: name(text) for text in texts}
    entry = ATTENTION.find("se")
    raised = dataclasses.replace(entry, card=dataclasses.replace(entry.card, version=entry.card.version + 1))
    monkeypatch.setitem(ATTENTION._entries, "se", raised)
    assert [name(text) != before[text] for text in texts] == [True, True, True, False]


DEEP = "eca"
for _ in range(DEEPEST + 1):
    DEEP = f"chain({DEEP}, eca)"

WRONG = [
    ("chain", "chain takes 2 to 8 mechanisms, as in chain(eca, sa)"),
    ("chain()", "chain takes 2 to 8 mechanisms, as in chain(eca, sa)"),
    ("chain(eca)", "as in chain(eca, sa); here is eca alone"),
    (f"parallel({'eca, ' * (MOST + 1)})", f"as in parallel(eca, sa); here are {MOST + 1}"),
    ("chain(eca, sse)", "did you mean 'se'?"),
    ("chian(eca, sa)", "did you mean 'chain'?"),
    ("chain(eca, se(reduction=True))", "reduction=True must be an int"),
    ("chain(eca, sk)", "chain: sk takes the place of a convolution and cannot be a part"),
    ("parallel(eca, random(of='bot'))", "takes the place of a convolution and cannot be a part"),
    ("chain(eca, none)", "none does nothing in it; leave it out"),
    ("chain(eca, 'sa')", "'sa' in a composition is written without quotes: sa"),
    ('parallel(eca, sa, join="sum")', "join='sum' is not one of 'mean', 'max'"),
    ('parallel(join="max", eca, sa)', "the mechanisms come first, then options by name"),
    ("chain(eca, sa, join='max')", "has no option 'join'"),
    ('chain(parts=("eca", "sa"))', "has no option 'parts'"),
    ("se(eca, sa)", "options are written by name"),
    ("chain(eca, sa", "cannot be read"),
    ("chain(eca, sa))", "a bracket closes that none opens"),
    ("chain(eca, 'sa)", "a quote is open"),
    (DEEP, f"at most {DEEPEST} lie in one another"),
]


@pytest.mark.parametrize(("text", "needle"), WRONG, ids=[text[:30] for text, _ in WRONG])
def test_a_wrong_composition_is_one_line_that_says_what_would_work(text, needle):
    with pytest.raises(BadSpec) as refused:
        RunSpec(dataset="digits", attention=text)
    said = refused.value.mistakes["attention"]
    assert needle in said
    assert "\n" not in said


# Where they are shown


def test_they_are_no_mechanisms_of_the_catalogue(attnbench: Says):
    assert not {"chain", "parallel"} & {entry.name for entry in ATTENTION}
    assert [entry.name for entry in ATTENTION.compositions] == ["chain", "parallel"]
    listed, asjson = attnbench("list", "attention"), attnbench("list", "attention", "--json")
    assert listed.stderr == "attnbench: several at one place: chain(eca, sa), parallel(eca, sa)\n"
    names = {entry.name for entry in ATTENTION}
    assert {each["name"] for each in json.loads(asjson.stdout)} == names
    assert [line.split()[0] for line in listed.stdout.splitlines() if line and line.split()[0] in names] == [
        entry.name for kind in "DRS" for entry in ATTENTION if entry.card.kind == kind and not entry.card.control
    ] + [entry.name for entry in ATTENTION if entry.card.control]


def test_show_and_check_take_them(attnbench: Says):
    shown = attnbench("show", "chain(eca, parallel(se, eca))")
    assert shown.returncode == 0
    assert [line for line in shown.stdout.splitlines() if line.startswith("@")] == [
        "@inproceedings{eca,",
        "@inproceedings{se,",
    ]
    wrong = attnbench("check", "chain(eca)")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)


def test_papers_of_parts_are_named_once():
    assert list(papers(ATTENTION.resolve("chain(eca, parallel(se, eca(kernel=3)))"))) == ["eca", "se"]


def test_a_report_names_them_and_cites_their_parts():
    arms = ["none", "se", "chain(eca, sa)", 'parallel(se, sa, join="max")', 'random(of="chain(eca, sa)")']
    plan = Study(name="composed", base={**TINY}, grid={"attention": arms}, seeds=6)
    made.fill(Path("runs"), plan)
    found = compare(plan, Store("runs"))
    (cell,) = found.cells
    assert {arm.name for arm in cell.arms} == set(arms)
    assert "chain(eca, sa)" in markdown(found)
    cited = [line for line in bibliography(found).splitlines() if line.startswith("@")]
    assert cited == ["@inproceedings{eca,", "@inproceedings{sa,", "@inproceedings{se,"]


@pytest.mark.slow
def test_a_run_is_trained_stored_and_loaded(attnbench: Says, data_dir: Path):
    flags = ["--data-dir", data_dir, "--tracker", "none", "--dataset", "digits", "--epochs", 1, "--train-limit", 64]
    flags += ["--test-limit", 32, "--backbone", TINY["backbone"], "--attention", "Parallel(eca, SE, )"]
    told = attnbench("run", *flags)
    assert (told.returncode, told.stderr) == (0, "")
    (record,) = Store("runs").records()
    assert record.canonical["attention"] == "parallel(eca, se)"
    assert record.cards["attention"]["name"] == "parallel"
    assert load(record).names
    gates = attnbench("evaluate", record.id, "--gate", "shuffled", "--data-dir", data_dir)
    assert "at 18 sites" in gates.stdout
