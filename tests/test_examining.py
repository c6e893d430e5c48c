"""check, same, profile: what they say of our mechanisms, of somebody's own, and of what is asked wrongly."""

import csv
import dataclasses
import itertools
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

from attnbench import RunSpec, Store, cli, network
from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import AttnbenchError, BadReference, OutOfMemory
from attnbench.examine import profiling
from attnbench.examine.bench import BenchSettings
from attnbench.examine.matching import match
from attnbench.examine.profiling import FEWEST_ROUNDS, begun, profile, profile_row, write_csv
from attnbench.examine.sameness import same
from attnbench.networks.cost import activation_bytes, cost, peak_memory
from attnbench.networks.network import network_of

SMALL = "resnet20(widths=(4, 8, 8))"
MINE = """
from torch import nn

class Sound(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.mix = nn.Linear(channels, channels)
    def forward(self, x):
        return x * self.mix(x.mean((2, 3))).sigmoid()[:, :, None, None]

class InPlace(Sound):
    def forward(self, x):
        return x.mul_(0.5) * self.mix(x.mean((2, 3)))[:, :, None, None]
"""


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Exit code and words of a command that is given in a folder with somebody's own module."""
    (tmp_path / "gates_somebody_wrote.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "gates_somebody_wrote", raising=False)

    def say(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*map(str, words)])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out + told.err

    return say


def test_check_passes_a_sound_module_and_says_each_promise(said):
    code, text = said("check", "gates_somebody_wrote:Sound")
    assert code == 0
    assert text.count("ok ") == 17
    assert "n/a     multiplies its input by gate(x), where it has one\n        there is no method gate(x)" in text
    assert "keeps 17 of 17 promises; 3 do not apply" in text


def test_check_fails_a_broken_module_and_says_what_is_wrong(said):
    code, text = said("check", "gates_somebody_wrote:InPlace")
    assert code == 1
    assert "FAILED  leaves its input as it was\n        changes its input in place" in text


@pytest.mark.parametrize("asked", ["sse", "gates_somebody_wrote:Sond", "no_such_module:Gate", "se(reduction=x)"])
def test_check_of_what_is_not_there_is_one_line(said, asked):
    code, text = said("check", asked)
    assert code == 2
    assert len(text.splitlines()) == 1


def test_same_proves_two_mechanisms_and_counts_what_is_equal(said):
    code, text = said("same", "se", "cbam", "--backbone", "resnet20")
    plain = network("resnet20", "none", classes=10)
    values = sum(tensor.numel() for tensor in plain.state_dict().values())
    assert code == 0
    assert f"{len(list(plain.modules()))} modules of the backbone with {values:,} initial values" in text
    assert "se and cbam differ in the mechanism only" in text


def test_a_mechanism_whose_name_looks_like_an_id_or_is_a_folder_is_a_mechanism(said, tmp_path):
    (tmp_path / "eca").mkdir()
    code, text = said("same", "ceca", "eca", "--backbone", SMALL)
    assert (code, "ceca and eca differ in the mechanism only" in text) == (0, True), text


def test_same_sees_another_seed_another_recipe_and_another_value():
    spec = {"dataset": "CIFAR10", "backbone": SMALL, "attention": "se"}
    assert same(RunSpec(**spec), RunSpec(**spec)).differences == ()
    other_seed = same(RunSpec(**spec), RunSpec(**spec, seed=1)).differences
    assert "seed: 0 and 1" in other_seed
    assert any("conv1 starts with another weight" in what for what in other_seed)
    assert same(RunSpec(**spec), RunSpec(**spec, lr=0.5)).differences == ("lr: 0.001 and 0.5",)


def test_same_sees_a_backbone_that_a_mechanism_has_changed(monkeypatch):
    def tampered(spec: RunSpec, *given: int) -> nn.Module:
        model = network_of(spec, *given)
        if spec.attention != "none":
            model.bn1.eps = 0.1
            torch.nn.init.ones_(model.conv1.weight)
        return model

    monkeypatch.setattr("attnbench.examine.sameness.network_of", tampered)
    spec = {"dataset": "CIFAR10", "backbone": SMALL}
    found = same(RunSpec(**spec, attention="se"), RunSpec(**spec)).differences
    assert [what.split(" ")[1] for what in found] == ["conv1", "bn1"]


@pytest.mark.parametrize("measure", ["params", "macs"])
@pytest.mark.parametrize("of", ["cbam", "se(reduction=1)"])
def test_the_widened_plain_network_costs_what_the_mechanism_costs(measure, of):
    bench = BenchSettings(backbone="resnet20")
    found = match(of, measure, bench)
    wanted = cost(network("resnet20", of, classes=10), (3, 32, 32))
    plain = cost(network(found.backbone, "none", classes=10), (3, 32, 32))
    name = {"params": "parameters", "macs": "macs"}[measure]
    assert (found.wanted, found.found) == (wanted[name], plain[name])
    assert abs(found.ratio - 1) < 0.01  # measured: at most 0.005 in these four


def test_no_single_channel_would_match_better():
    bench = BenchSettings(backbone="resnet20")
    found = match("cbam", "params", bench)
    widths = eval(found.backbone.removeprefix("resnet20(widths=").removesuffix(")"))
    for place, step in itertools.product(range(3), (-1, 1)):
        near = tuple(width + step * (at == place) for at, width in enumerate(widths))
        count = sum(p.numel() for p in network(f"resnet20(widths={near})", "none", classes=10).parameters())
        assert abs(count - found.wanted) >= abs(found.found - found.wanted)


def test_a_backbone_without_widths_cannot_be_matched():
    with pytest.raises(BadReference, match="no option 'widths'"):
        match("se", "params", BenchSettings(backbone="resnet50", image_size=64))


def test_a_profile_counts_what_can_be_counted_and_times_what_cannot():
    bench = BenchSettings(backbone=SMALL, batch_size=2, image_size=16)
    none, se = profile(["none", "se"], bench, rounds=FEWEST_ROUNDS)
    assert set(none.ratios.values()) == {1.0}
    counted = cost(network(SMALL, "se", classes=10, image_size=16), (3, 16, 16))
    assert (se.counts.parameters, se.counts.macs) == (counted["parameters"], counted["macs"])
    assert se.counts.activations > none.counts.activations
    assert se.counts.peak_memory > none.counts.peak_memory
    for timing in se.times.values():
        assert 0 < timing.low <= timing.ratio <= timing.high
        assert timing.seconds > 0


class Looking(nn.Module):
    """Looks at a value, and makes a tensor on a device of its choice."""

    def forward(self, x: Tensor) -> Tensor:
        return (x if float(x.mean()) > 1e9 else 2 * x) + torch.arange(x.shape[3])


def test_a_network_that_looks_at_values_is_counted_by_a_pass_that_computes():
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    before, drawn = plain[1].running_mean.clone(), torch.get_rng_state()
    assert cost(nn.Sequential(plain, Looking()), (3, 16, 16)) == cost(plain, (3, 16, 16))
    assert torch.equal(plain[1].running_mean, before)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_what_finds_no_memory_is_told_and_the_next_is_measured(monkeypatch):
    bench, told = BenchSettings(backbone=SMALL, batch_size=2, image_size=16), dict[str, str]()
    counted = profiling._counted

    def short(model: nn.Module, where: BenchSettings) -> object:
        if any(type(part).__name__ == "SE" for part in model.modules()):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return counted(model, where)

    monkeypatch.setattr(profiling, "_counted", short)
    with pytest.raises(OutOfMemory, match="a step of se with batch size 2 at 16 px takes more memory than there is"):
        list(profile(["se"], bench, timed=()))
    (eca,) = profile(["se", "eca"], bench, timed=(), left_out=told.__setitem__)
    assert (eca.attention, [*told]) == ("eca", ["se"])


def test_memory_is_counted_in_bytes_and_each_storage_once():
    weight, x = torch.ones(100, requires_grad=True), torch.ones(100)
    assert activation_bytes(lambda: (x * weight).sum()) == 400  # x, which the product's gradient needs
    assert activation_bytes(lambda: (x * weight * x[:50].repeat(2)).sum()) >= 800
    big = torch.ones(1000, requires_grad=True)
    peak = peak_memory(lambda: (big.exp() * 2).sum())
    assert 8000 <= peak <= 16100  # the exponential is kept; product and its gradient are there for a while


def test_a_profile_needs_rounds_for_an_interval():
    with pytest.raises(AttnbenchError, match="needs at least 6"):
        list(profile(["se"], BenchSettings(backbone=SMALL), rounds=5))


def test_profile_writes_a_table_a_figure_and_its_numbers(said, tmp_path: Path):
    code, text = said(
        "profile", "se", "none", "--backbone", SMALL, "--batch-size", 2, "--image-size", 16, "--rounds", 6
    )
    assert code == 0, text
    (folder,) = (tmp_path / "profiles").iterdir()
    assert {file.name for file in folder.iterdir()} == {f"profile.{end}" for end in ("csv", "md", "svg", "pdf")}
    with (folder / "profile.csv").open() as file:
        rows = {row["attention"]: row for row in csv.DictReader(file)}
    assert rows["none"]["parameters_ratio"] == "1"
    table = (folder / "profile.md").read_text()
    assert f"| se | x{float(rows['se']['parameters_ratio']):.3f} |" in table
    assert "batch 2" in table
    assert (folder / "profile.svg").read_text().startswith("<svg")


def test_an_interrupted_profile_goes_on_and_a_whole_one_is_measured_anew(said, tmp_path, monkeypatch):
    asked = ["--backbone", SMALL, "--batch-size", 2, "--image-size", 16, "--rounds", 6]

    def stopped(attentions, bench, rounds, **more):
        measured.append(list(attentions))
        for number, each in enumerate(profile(attentions, bench, rounds, **more)):
            yield each
            if number == 0 and len(measured) == 1:
                raise KeyboardInterrupt

    measured: list[list[str]] = []
    monkeypatch.setattr("attnbench.examine.profiling.profile", stopped)
    assert said("profile", "se", "eca", *asked)[0] == 130
    (folder,) = (tmp_path / "profiles").iterdir()
    first = (folder / "profile.unfinished.csv").read_text().splitlines()
    code, text = said("profile", "se", "eca", *asked)
    assert code == 0, text
    assert "(measured before)" in text
    rows = (folder / "profile.csv").read_text().splitlines()
    assert rows[:2] == first
    assert rows[2].startswith("eca,")
    assert said("profile", "se", *asked)[0] == 0
    assert measured == [["se", "eca"], ["eca"], ["se"]]


def test_what_an_interrupted_profile_measured_on_another_bench_is_not_taken(tmp_path):
    bench = BenchSettings(backbone=SMALL, batch_size=2, image_size=16)
    (se,) = profile(["se"], bench, 6)
    write_csv([profile_row(se, bench, 6)], tmp_path / "p.csv")
    assert [row["attention"] for row in begun(tmp_path / "p.csv", ["eca", "se"], bench, 6)] == ["se"]
    assert begun(tmp_path / "p.csv", ["eca"], bench, 6) == []
    write_csv([{**profile_row(se, bench, 6), "code": "other"}], tmp_path / "edited.csv")
    assert begun(tmp_path / "edited.csv", ["se"], bench, 6) == [], "somebody's own mechanism was edited since"
    assert begun(tmp_path / "p.csv", ["se"], bench, 7) == []
    assert begun(tmp_path / "p.csv", ["se"], dataclasses.replace(bench, batch_size=4), 6) == []
    there = dataclasses.replace(bench, site="pre")
    write_csv([profile_row(se, there, 6)], tmp_path / "there.csv")
    assert begun(tmp_path / "there.csv", ["se"], bench, 6) == [], "at another site"
    assert len(begun(tmp_path / "there.csv", ["se"], there, 6)) == 1


def test_of_the_whole_catalogue_what_finds_no_place_is_told_and_the_others_are_measured(said, tmp_path, monkeypatch):
    own = {name: ATTENTION.resolve(name).entry for name in ("condconv", "se")}
    monkeypatch.setattr(type(ATTENTION), "__iter__", lambda _: iter(own.values()))
    code, text = said(
        "profile", "--backbone", "densenet(depth=10)", "--batch-size", 1, "--image-size", 16, "--rounds", 6
    )
    assert code == 0, text
    assert text.startswith("condconv: ")
    (folder,) = (tmp_path / "profiles").iterdir()
    assert [line.split(",")[0] for line in (folder / "profile.csv").read_text().splitlines()] == ["attention", "se"]


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (["sse"], "did you mean 'se'"),
        (["se", "--backbone", "resnet21"], "did you mean 'resnet20'"),
        (["se", "--batch-size", "0"], "batch_size=0 must be at least 1"),
        (["se", "--rounds", "2"], "rounds=2"),
        (["se", "--site", "blok"], "did you mean 'block'"),
        (["--site", "blok"], "did you mean 'block'"),
        (["--backbone", "resnet21"], "did you mean 'resnet20'"),
        (["se", "--image-size", "0"], "image_size=0 must be at least 1"),
        (["cbam", "--match", "params"], "it takes --of MECHANISM"),
        (["--match", "params", "--int8"], "--int8 goes with --runtime"),
        (["se", "--of", "cbam"], "--of goes with --match"),
    ],
)
def test_a_profile_that_is_asked_wrongly_is_one_line(said, words, needle):
    code, text = said("profile", *words)
    assert (code, len(text.splitlines())) == (2, 1)
    assert needle in text


def test_list_chooses_by_kind_year_and_cost(said):
    def names(*words: object) -> set[str]:
        firsts = {line.partition(" ")[0] for line in said("list", "attention", *words)[1].splitlines()}
        return firsts & {entry.name for entry in ATTENTION}  # there are headings, too

    everything = names()
    assert {"none", "static", "random", "constant"} == names("--kind", "control")
    assert {"se", "cbam"} <= names("--kind", "D") < everything
    assert "se" in names("--until", 2018)
    assert "se" not in names("--since", 2019)
    assert "se" in names("--most-parameters", 8464)  # 2 * 256 * 16 + 16 + 256
    assert "se" not in names("--most-parameters", 8463)


def test_show_tells_the_cost_at_common_widths_and_the_papers_entry(said):
    code, text = said("show", "se")
    assert code == 0
    assert "256  14x14       8,464        8,192" in text
    assert "@inproceedings{se," in text


def test_same_of_stored_runs_compares_what_they_were_given(said):
    home = ROOT / "results" / "quick"
    records = [record for record in Store(home).records() if record.canonical["attention"] in ("se", "cbam")]
    seeds = {record.spec["seed"]: record.id for record in records if record.canonical["attention"] == "se"}
    other = next(
        record.id for record in records if record.canonical["attention"] == "cbam" and record.spec["seed"] == 0
    )
    code, text = said("same", seeds[0], other, "--store", home)
    assert (code, "differ in the mechanism only" in text) == (0, True), text
    code, text = said("same", seeds[0], seeds[1], "--store", home)
    assert (code, "DIFFERENT: seed: 0 and 1" in text) == (1, True), text
