"""Fine-tuning: whose parameters learn how fast and from when on, where weights come from, and what is refused."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from conftest import TINY
from safetensors.torch import load_file, save_file
from test_backbones import OURS, SMALL
from torch import Tensor, nn

import attnbench
from attnbench import RunSpec, Runtime, Store, compare, network
from attnbench.catalogue.registry import BACKBONES
from attnbench.data.batches import Batches
from attnbench.data.splits import constants, load_splits
from attnbench.errors import BadSpec
from attnbench.examine.reproduce import reproduce
from attnbench.examine.sameness import same
from attnbench.networks.checkpoints import plain_names
from attnbench.networks.network import network_of
from attnbench.networks.parts import head, layers, parts
from attnbench.networks.weights import weights_digest
from attnbench.spec.run import canonical
from attnbench.store.runs import RunRecord
from attnbench.training import step as steps
from attnbench.training.groups import learning_rate_scales
from attnbench.training.loop import training
from attnbench.training.optim import learning_rate, optimizer
from attnbench.training.starting import load_initial, starting_network
from attnbench.training.state import State
from attnbench.training.team import gathered

CPU = torch.device("cpu")
LATE = {"freeze": "backbone", "freeze_epochs": 1}
BOTH = pytest.mark.parametrize("kind", ["adamw", "sgd"])
PRETRAINED = RunSpec(**TINY)


def spec(**fields: Any) -> RunSpec:
    return RunSpec(**{**TINY, **fields})


@pytest.fixture(scope="module")
def store(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that holds a plain run, whose weights others start from, and one with SE."""
    folder = tmp_path_factory.mktemp("pretrained") / "runs"
    runtime = Runtime(data_dir=str(data_dir), store=str(folder), tracker="none")
    for attention in ("none", "se"):
        attnbench.run(spec(attention=attention), runtime)
    return Store(folder)


@pytest.fixture
def do(data_dir: Path, store: Store) -> Callable[..., RunRecord]:
    def run(**fields: Any) -> RunRecord:
        runtime = Runtime(data_dir=str(data_dir), store=str(store.path), tracker="none", checkpoint_minutes=0)
        return attnbench.run(spec(**fields), runtime)

    return run


@pytest.fixture
def begun(data_dir: Path, store: Store) -> Iterator[Callable[[RunSpec], tuple[Batches, State]]]:
    """The training batches of a run, and the state before its first step."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def make(one: RunSpec) -> tuple[Batches, State]:
        splits = load_splits(one, data_dir)
        train = Batches(splits.train, one, constants(one, splits.train), CPU)
        model, _ = starting_network(one, splits.classes, (splits.channels, splits.image_size), CPU, store)
        return train, State.fresh(one, model, train.steps(), CPU)

    yield make
    torch.set_num_threads(before)


def weights_file(store: Store) -> Path:
    return store.folder(PRETRAINED.id) / "weights.safetensors"


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def moved(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    """Names of the parameters that are not what they were."""
    now = dict(model.named_parameters())
    return {name for name in now if not torch.equal(before[name], now[name])}


# Whose a parameter is


@pytest.mark.parametrize("name", OURS)
def test_the_head_is_the_classifier_and_the_mechanism_what_was_grafted(name):
    plain, grafted = (network(SMALL.get(name, name), attention, classes=5) for attention in ("none", "se"))
    (path,) = head(plain)
    assert plain.get_submodule(path).weight.shape[0] == 5
    found, own = parts(grafted), parts(plain)
    assert {part for part in own.values()} == {"backbone", "head"}
    assert sum(part == "mechanism" for part in found.values()) == len(found) - len(own) > 0
    assert {name for name, part in found.items() if part == "head"} == {f"{path}.weight", f"{path}.bias"}
    depth = [*layers(plain, BACKBONES.resolve(name)).values()]
    assert depth == sorted(depth)
    assert depth[-1] == max(depth) > 2


@pytest.mark.parametrize(
    ("backbone", "path"),
    [
        ('torchvision(name="resnet18")', "fc"),
        ('torchvision(name="squeezenet1_1")', "classifier.1"),
        ('torchvision(name="mobilenet_v2")', "classifier.1"),
        ('timm(name="resnet10t")', "fc"),
        ('timm(name="convnext_atto")', "head.fc"),
        ('timm(name="deit_tiny_distilled_patch16_224")', "head head_dist"),
    ],
)
def test_a_librarys_head_is_found(backbone, path):
    if "timm" in backbone:
        pytest.importorskip("timm")
    assert " ".join(head(BACKBONES.resolve(backbone).construct(7, 3))) == path


# Learning rates


@pytest.mark.parametrize("attention", ["none", "se"])
def test_a_default_run_has_the_groups_that_it_always_had(attention):
    model = network_of(spec(attention=attention), 10, 1, 8)
    (group,) = optimizer(spec(attention=attention), model).param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


@BOTH
def test_multiples_of_the_learning_rate_are_those_of_the_plain_loop_written_by_hand(begun, kind):
    factors = {"backbone": 0.1, "mechanism": 2.0, "head": 5.0}
    one = spec(attention="se", optimizer=kind, lr=0.02, schedule="onecycle", batch_size=25)
    one = RunSpec(**{**one.fields, **{f"{part}_lr": factor for part, factor in factors.items()}})
    (train, state), (_, hand) = begun(one), begun(one)
    for _ in training(one, state, train, None, 60):
        pass
    belongs, more = parts(hand.model), {"weight_decay": one.weight_decay, "fused": True, "lr": 1.0}
    groups = [{"params": [p for name, p in hand.model.named_parameters() if belongs[name] == part]} for part in factors]
    if kind == "sgd":
        by_hand: Any = torch.optim.SGD(groups, momentum=one.momentum, nesterov=True, **more)
    else:
        by_hand = torch.optim.AdamW(groups, **more)
    for epoch in range(one.epochs):
        for step, images, labels in train.epoch(epoch):
            for group, factor in zip(by_hand.param_groups, factors.values(), strict=True):
                group["lr"] = factor * learning_rate(one, epoch, step, train.steps())
            by_hand.zero_grad()
            nn.functional.cross_entropy(hand.model.train()(images), labels).backward()
            by_hand.step()
    for name, value in state.model.state_dict().items():
        torch.testing.assert_close(value, hand.model.state_dict()[name], rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "mobilenetv3_small_050"])
def test_layer_decay_is_timms_for_its_networks(name):
    timm, groups = pytest.importorskip("timm"), pytest.importorskip("timm.optim").param_groups_layer_decay
    one = spec(backbone=f'timm(name="{name}")', layer_decay=0.5, image_size=32)
    model = timm.create_model(name, num_classes=10)
    named = {id(p): name for name, p in model.named_parameters()}
    theirs = {named[id(p)]: group["lr_scale"] for group in groups(model, layer_decay=0.5) for p in group["params"]}
    assert learning_rate_scales(one, model) == pytest.approx(theirs)


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "regnetx_002"])
def test_a_mechanism_changes_the_layer_of_nothing_in_a_network_of_timms(name):
    at = r"pattern:stages\.\d+" if name == "convnext_atto" else "stage"
    one = spec(backbone=f'timm(name="{name}")', attention="se", site=at, layer_decay=0.5, image_size=32)
    plain = spec(backbone=f'timm(name="{name}")', layer_decay=0.5, image_size=32)
    alone = learning_rate_scales(plain, network_of(plain, 10, 1, 32))
    model = network_of(one, 10, 1, 32)
    beside, names = learning_rate_scales(one, model), plain_names(model)
    assert {own: beside[names[own]] for own in alone} == pytest.approx(alone)


STAGES = {
    "resnet20": {"conv1": 0, "layer1.2.conv2": 1, "layer3.0.bn1": 3, "fc": 4},
    "densenet(depth=22, growth=8)": {"layer1.0.conv1": 1, "layer3.0.conv1": 3},
    'torchvision(name="mobilenet_v2")': {"features.0.0": 0, "features.2.conv.0.0": 2, "features.18.0": 8},
    'torchvision(name="vgg11_bn")': {"features.0": 1, "features.11": 3, "classifier.0": 6, "classifier.6": 6},
}


@pytest.mark.parametrize("backbone", STAGES)
def test_other_layers_are_the_stem_the_stages_and_the_head(backbone):
    choice = BACKBONES.resolve(backbone)
    found = layers(choice.construct(10, 3), choice)
    assert {path: found[f"{path}.weight"] for path in STAGES[backbone]} == STAGES[backbone]


def test_layer_decay_leaves_mechanism_and_head_their_own_multiples():
    one = spec(attention="se", layer_decay=0.5, backbone_lr=0.1, mechanism_lr=3.0, head_lr=2.0)
    scales = learning_rate_scales(one, network_of(one, 10, 1, 8))
    assert scales["conv1.weight"] == pytest.approx(0.1 * 0.5**4)
    assert scales["layer3.0.conv1.weight"] == pytest.approx(0.05)
    assert {scales["fc.bias"], scales["layer1.0.bn2.1.fc.0.weight"]} == {2.0, 3.0}


# Frozen


@BOTH
@pytest.mark.parametrize(
    ("freeze", "learning"),
    [
        ("backbone", {"mechanism", "head"}),
        ("all-but-head", {"head"}),
        (r"pattern:(?!layer3|fc).*", {"layer3", "mechanism", "head"}),
    ],
)
def test_frozen_weights_are_the_same_bits_after_training(begun, kind, freeze, learning):
    one = spec(attention="cbam", optimizer=kind, freeze=freeze, weight_decay=0.1, averaging=0.5, lr=0.01)
    train, state = begun(one)
    before, belongs = values(state.model), parts(state.model)
    for _ in training(one, state, train, None, 60):
        pass
    wanted = {name for name, part in belongs.items() if part in learning}
    if "layer3" in learning:
        wanted |= {name for name, part in belongs.items() if name.startswith("layer3") and part == "backbone"}
    for model in (state.model, state.tested):
        found = moved(before, model)
        assert found <= wanted
        assert {belongs[name] for name in found} == {belongs[name] for name in wanted}


@BOTH
def test_what_is_frozen_at_first_learns_from_its_epoch_on_without_earlier_momentum(begun, kind):
    one = spec(attention="se", optimizer=kind, freeze="backbone", freeze_epochs=2, epochs=3, lr=0.01)
    train, state = begun(one)
    before, belongs = values(state.model), parts(state.model)
    backbone = {name for name, part in belongs.items() if part == "backbone"}
    for pause in training(one, state, train, None, 60):
        found = moved(before, pause.state.model) & backbone
        assert bool(found) == (state.epoch > 2)
        kept = [p for p in state.optimizer.state if belongs[_name(state.model, p)] == "backbone"]
        assert bool(kept) == (state.epoch > 2)
    assert found == backbone


def _name(model: nn.Module, wanted: Tensor) -> str:
    return next(name for name, p in model.named_parameters() if p is wanted)


@BOTH
@pytest.mark.parametrize("at", [1, 4, 5, 7])
def test_a_run_that_thaws_goes_on_from_any_step_to_the_same_bits(begun, tmp_path, kind, at):
    more = {"freeze": "all-but-head", "freeze_epochs": 1, "frozen_norm": True, "layer_decay": 0.8, "averaging": 0.6}
    one = spec(attention="cbam", optimizer=kind, head_lr=2.0, **more)
    train, whole = begun(one)
    for _ in training(one, whole, train, None, 60):
        pass
    train, state = begun(one)
    for number, _ in enumerate(training(one, state, train, None, 0), start=1):  # a pause after every step
        if number == at:
            break
    torch.save(state.to_dict(), tmp_path / "saved")
    train, state = begun(one)
    state.restore(torch.load(tmp_path / "saved", weights_only=True))
    for _ in training(one, state, train, None, 60):
        pass
    assert weights_digest(state.tested.state_dict()) == weights_digest(whole.tested.state_dict())
    assert [p["train_loss"] for p in state.curves] == [p["train_loss"] for p in whole.curves]


def test_a_run_killed_before_the_thaw_goes_on_to_the_record_of_one_that_was_not(do, data_dir, store, monkeypatch):
    fields = {"weights": f"run:{PRETRAINED.id}", "seed": 5, **LATE}
    whole = do(**fields)
    store = Store("again")
    Path("again").mkdir()
    (Path("again") / PRETRAINED.id).symlink_to(weights_file(Store(whole.folder).holding(whole.folder)).parent)
    kept, times = Store.checkpoint, []

    def checkpoint(self: Store, run: str, saved: Any) -> None:
        kept(self, run, saved)
        times.append(run)
        if len(times) == 3:
            raise KeyboardInterrupt

    runtime = Runtime(data_dir=str(data_dir), store="again", tracker="none", checkpoint_minutes=0)
    monkeypatch.setattr(Store, "checkpoint", checkpoint)
    with contextlib.suppress(KeyboardInterrupt):
        attnbench.run(spec(**fields), runtime)
    again = attnbench.run(spec(**fields), runtime)
    assert (again.resumed, len(store.journal(again.id)) > 0) == (1, True)
    assert (again.weights_sha256, again.initial) == (whole.weights_sha256, whole.initial)


def test_a_recorded_step_is_recorded_anew_when_something_thaws(begun, monkeypatch):
    made = []

    def recorded(work: Callable[..., Tensor]) -> Callable[..., Tensor]:
        made.append(work)
        return work

    monkeypatch.setattr(steps.devices, "Recorded", recorded)
    for epochs, wanted in ((1, 2), (0, 1)):
        one = spec(freeze="backbone", freeze_epochs=epochs)
        train, state = begun(one)
        taken = steps.Steps(one, state, steps.How(recorded=True), 100, train.steps(), torch.device("cuda"))
        for state.epoch in range(2):
            for number, images, labels in train.epoch(state.epoch):
                taken.take(number, images, labels)
        assert len(made) == wanted
        made.clear()


def test_frozen_norms_keep_statistics_and_scales_and_a_mechanisms_own_learn(begun):
    one = spec(attention="bam", frozen_norm=True, weights=f"run:{PRETRAINED.id}", lr=0.01)
    train, state = begun(one)
    before = values(state.model)
    for _ in training(one, state, train, None, 60):
        pass
    now = state.model.state_dict()
    changed = {name for name in now if not torch.equal(before[name], now[name])}
    assert not {name for name in changed if name.startswith(("bn1.", "layer1.0.bn1."))}
    assert any(name.endswith("running_mean") for name in changed)  # of BAM's batch norms
    assert "conv1.weight" in changed


# Where weights come from


def test_a_runs_weights_are_loaded_and_its_record_says_so(do, store):
    found = do(weights=f"run:{PRETRAINED.id}", attention="se", init="identity")
    source = store.find(PRETRAINED.id)
    about = {"source": f"run:{PRETRAINED.id}", "sha256": source.weights_sha256, "missing": [], "left_over": []}
    assert {name: found.initial[name] for name in about} == about
    assert (found.initial["loaded"], found.initial["new"] > 0) == (len(load_file(weights_file(store))), True)
    assert store.find(PRETRAINED.id).initial == {}


@pytest.mark.parametrize("attention", ["se", "cbam", "eca"])
def test_with_the_identity_start_a_pretrained_network_computes_what_it_did(begun, attention):
    _, plain = begun(spec(weights=f"run:{PRETRAINED.id}"))
    _, grafted = begun(spec(weights=f"run:{PRETRAINED.id}", attention=attention, init="identity", seed=3))
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.model.eval()(x), grafted.model.eval()(x))


def test_a_file_is_named_by_its_content_wherever_it_lies_and_whatever_becomes_of_it(store, tmp_path):
    paths = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for path in paths:
        path.write_bytes(weights_file(store).read_bytes())
    one, two = (spec(weights=str(path)) for path in paths)
    sha256 = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert one.id == two.id != spec().id
    assert (canonical(one)["weights"], one.weights) == (f"sha256:{sha256}", f"{paths[0]}#sha256={sha256}")
    fields = one.fields
    paths[0].unlink()
    assert RunSpec.of(fields).id == one.id
    paths[1].write_bytes(b"other")
    assert spec(weights=str(paths[1])).id != one.id
    with pytest.raises(BadSpec, match=r"is not the file any more that the run was named by|holds no weights"):
        load_initial(two, network_of(two, 10, 1, 8), store)


@pytest.mark.parametrize("attention", ["none", "se", "sk"])
def test_a_torch_file_loads_a_head_of_other_classes_keeps_its_own_and_a_replaced_convolution_is_spared(
    store, attention
):
    state = load_file(weights_file(store))
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, "mine.pt")
    one = spec(weights="mine.pt", attention=attention)
    model, fresh = network_of(one, 7, 1, 8), network_of(one, 7, 1, 8)
    about = load_initial(one, model, store)
    assert torch.equal(model.fc.weight, fresh.fc.weight)
    assert torch.equal(model.conv1.weight, state["conv1.weight"])
    assert about["sha256"] == hashlib.sha256(Path("mine.pt").read_bytes()).hexdigest()
    heads = [name for name in about["left_over"] if name.startswith("fc.")]
    assert len(heads) == 2
    assert (len(about["left_over"]) > 2) == (attention == "sk")


def test_a_librarys_weights_are_hashed_into_the_record(store, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "mobilenet_v3_small"
    state = torchvision.models.get_model(name).state_dict()
    file = tmp_path / "hub" / "checkpoints" / Path(torchvision.models.get_model_weights(name).DEFAULT.url).name
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    one = spec(backbone=f'torchvision(name="{name}", pretrained=True)', image_size=32)
    found = [load_initial(one, network_of(one, classes, 3, 32), store) for classes in (10, 1000)]
    kept = {name: value for name, value in state.items() if not name.startswith("classifier.3.")}
    assert [about["sha256"] for about in found] == [weights_digest(kept)] * 2
    assert found[0]["loaded"] == len(kept)


@pytest.mark.slow
def test_a_fine_tuned_run_is_reproduced_with_the_run_that_it_started_from(do, data_dir, store):
    found = do(weights=f"run:{PRETRAINED.id}", attention="eca", init="identity", freeze="backbone", seed=1)
    again = reproduce(found.id, Runtime(data_dir=str(data_dir), store=str(store.path)))
    assert again.verdict == "identical"
    assert again.again.initial == found.initial


def test_same_names_what_differs_in_fine_tuning(store):
    fields = {"attention": "se", "weights": f"run:{PRETRAINED.id}"}
    assert same(spec(**fields), spec(**{**fields, "attention": "eca", "mechanism_lr": 2.0}), store).differences == (
        "mechanism_lr: 1.0 and 2.0",
    )
    assert same(spec(**fields), spec(weights=fields["weights"]), store).differences == ()
    other = same(spec(**fields), spec(attention="se", freeze="backbone", backbone_lr=0.1), store).differences
    assert {f"weights: 'run:{PRETRAINED.id}' and 'none'", "freeze: 'none' and 'backbone'"} <= set(other)
    assert any("conv1 starts with another weight" in what for what in other)


# A field without effect is no part of the name

EXCHANGED = {"backbone": 'torchvision(name="mobilenet_v3_small")', "site": "se", "attention": "none"}
"""A network without the attention that it was built with has no mechanism."""


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"freeze_epochs": 1}, {}),
        ({"mechanism_lr": 2.0}, {}),
        ({**EXCHANGED, "mechanism_lr": 2.0}, EXCHANGED),
        ({"freeze": "backbone", "freeze_epochs": 2}, {"freeze": "backbone"}),
        ({"freeze": "backbone", "backbone_lr": 0.1, "layer_decay": 0.5}, {"freeze": "backbone"}),
        (
            {"freeze": "all-but-head", "attention": "se", "mechanism_lr": 2},
            {"freeze": "all-but-head", "attention": "se"},
        ),
    ],
    ids=str,
)
def test_what_has_no_effect_gives_no_other_run(one, two):
    assert spec(**one).id == spec(**two).id


# Refused


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"weights": "there-is-none.pt"}, "weights", "No such file"),
        ({"weights": "weights.txt"}, "weights", "neither 'none', 'run:ID', nor a file that ends in .safetensors"),
        ({"weights": "run:abc"}, "weights", "needs the whole id"),
        ({"weights": "x.pt#sha256=12"}, "weights", "64 hex digits"),
        ({"freeze": "bakbone"}, "freeze", "is not one of 'none', 'backbone', 'all-but-head' or pattern:REGEX"),
        ({"freeze": "pattern:("}, "freeze", "no regular expression"),
        ({"freeze": "backbone", "freeze_epochs": 3}, "freeze_epochs", "3 frozen epochs are more than 2"),
        ({"layer_decay": 0.0}, "layer_decay", "greater than 0"),
        ({"backbone_lr": 0.0}, "backbone_lr", "greater than 0"),
        (
            {"weights": "run:0123456789ab", "backbone": 'timm(name="resnet18", pretrained=True)'},
            "weights",
            "would replace those of pretrained=True",
        ),
    ],
)
def test_a_spec_that_cannot_be_is_refused_in_one_line(fields, field, told):
    with pytest.raises(BadSpec, match=r"^[^\n]*$") as caught:
        spec(**fields)
    assert told in caught.value.mistakes[field]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"weights": "run:0123456789ab"}, "no run begins with '0123456789ab'"),
        ({"weights": f"run:{spec(attention='se').id}"}, "was trained with se; give one without a mechanism"),
        ({"weights": f"run:{PRETRAINED.id}", "backbone": "resnet20"}, "not of resnet20"),
        ({"weights": "other.safetensors"}, "is of another network"),
        ({"weights": "other.safetensors", "backbone": "resnet20"}, "of another network"),
        ({"weights": "broken.pt"}, "holds no weights that can be read"),
        ({"weights": "list.pt"}, "holds no state dict but list"),
        ({"freeze": "pattern:layer9.*"}, "matches no parameter of the plain network, as conv1.weight"),
        ({"freeze": "pattern:.*"}, "leaves nothing"),
        ({"backbone": "convnext_tiny(stem='cifar')", "frozen_norm": True, "image_size": 32}, "has no batch norm"),
        ({"backbone": "my_net:plain", "layer_decay": 0.5}, "has neither timm's group_matcher nor a site 'stage'"),
    ],
)
def test_what_does_not_fit_the_network_is_refused_in_one_line(begun, store, monkeypatch, fields, told):
    state = load_file(weights_file(store))
    save_file({**{name: value for name, value in state.items() if "layer2.1" not in name}}, "other.safetensors")
    Path("broken.pt").write_bytes(b"no zip")
    torch.save([1], "list.pt")
    Path("my_net.py").write_text(
        "from torch import nn\n"
        "def plain(classes, in_channels):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(4, classes))\n"
    )
    monkeypatch.syspath_prepend(".")
    with pytest.raises(BadSpec, match=r"^[^\n]*$") as caught:
        begun(spec(**fields))
    assert told in str(caught.value)


def test_several_processes_refuse_what_thaws(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadSpec, match="what thaws needs one process, not 2; 0 works"), gathered(spec(**LATE)):
        pass


def test_the_command_refuses_in_one_line_with_exit_code_2(attnbench):
    result = attnbench("run", "--dataset", "digits", "--weights", "gone.pt", "--tracker", "none")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "weights: 'gone.pt' cannot be read: No such file or directory" in result.stderr


def test_a_report_warns_where_weights_of_one_name_are_not_the_same(store, do):
    first = do(weights=f"run:{PRETRAINED.id}", seed=7)
    other = dataclasses.replace(first, initial={**first.initial, "sha256": "0" * 64})
    told = "records that started from 2 different weights of one name are pooled"
    assert any(told in warning for warning in compare([first, other]).warnings)
    assert not any(told in warning for warning in compare([first, first]).warnings)
