"""The benchmark of intervals and verdicts: its truths are true, and it tells statistics that work from broken ones."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT

from attnbench.analysis import best, pooling, stats, verdicts

LEVELS = [75.0, 80.0]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with its page in this test's folder and one setting of each kind."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script = importlib.import_module("verdict_coverage")
    page = Path("statistics.md").resolve()
    page.write_text("Before.\n\n<!-- coverage -->\nold\n<!-- end -->\n\nAfter.\n")
    monkeypatch.setattr(script, "PAGE", page)
    one_of_each = [script.Coverage("equal", 6), script.Errors("paired", 3, 0.0), script.Power(5, 1)]
    monkeypatch.setattr(script, "SETTINGS", [*one_of_each, script.Further(0.8, 0)])
    return script


@pytest.fixture
def world(benchmark):
    return benchmark.World(0.3, rho=0.6, size=200)


def test_the_truth_about_this_test_set_is_what_many_seeds_give(benchmark, world):
    rng = np.random.default_rng(0)
    effects = world.image_effects(2, rng)
    ability = world.ability_on_new(LEVELS)
    measured = 100 * world.right(ability, effects, 10_000, rng).mean((1, 2))
    np.testing.assert_allclose(measured, world.on_these(ability, effects), atol=0.3)


def test_abilities_for_these_images_give_the_accuracies_asked_for(world):
    effects = world.image_effects(2, np.random.default_rng(0))
    np.testing.assert_allclose(world.on_these(world.ability_on_these(LEVELS, effects), effects), LEVELS, atol=1e-9)


def test_the_truth_about_new_images_is_what_many_test_sets_give(world):
    rng, ability = np.random.default_rng(0), world.ability_on_new(LEVELS)
    many = [world.right(ability, world.image_effects(2, rng), 2, rng).mean((1, 2)) for _ in range(5_000)]
    np.testing.assert_allclose(100 * np.mean(many, 0), LEVELS, atol=0.4)
    np.testing.assert_allclose(world.on_new(ability), LEVELS)


def test_spreads_between_seeds_and_between_test_sets_are_what_many_of_them_give(world):
    rng, ability = np.random.default_rng(0), world.ability_on_new(LEVELS[:1])
    between_seeds, truths = [], []
    for _ in range(400):
        effects = world.image_effects(1, rng)
        between_seeds.append((100 * world.right(ability, effects, 20, rng).mean(2)).var(ddof=1))
        truths.append(world.on_these(ability, effects)[0])
    assert np.sqrt(np.mean(between_seeds)) == pytest.approx(world.run_spread(LEVELS[0]), rel=0.05)
    assert np.std(truths) == pytest.approx(world.image_spread(LEVELS[0]), rel=0.1)


def test_arms_go_together_over_seeds_less_than_their_seed_effects_do(world):
    rng = np.random.default_rng(0)
    right = world.right(world.ability_on_new(LEVELS), world.image_effects(2, rng), 10_000, rng)
    assert 0.4 < np.corrcoef(right.mean(2))[0, 1] < 0.6


def test_a_difference_called_detectable_is_that_many_standard_deviations(benchmark):
    size, points = benchmark.planned(8, 3)
    assert points / benchmark.USUAL.run_spread(benchmark.LEVEL) == pytest.approx(size, rel=0.1)


def test_the_command_renders_a_table_of_each_kind_into_the_page(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "QUICK", 12)
    assert benchmark.main(["--quick", "--jobs", "1", "--write"]) == 0, capsys.readouterr().out
    page = benchmark.PAGE.read_text()
    assert page.startswith("Before.\n\n<!-- coverage -->\n12 studies a setting, `--quick`")
    assert page.endswith("<!-- end -->\n\nAfter.\n")
    assert [page.count(f"**{kind}**") for kind in ("Coverage", "Errors", "Power", "Further")] == [1] * 4
    assert page.count("\n|") == 3 * 4, "a head, a rule and a row each"
    assert "everything that must hold does" in capsys.readouterr().out


def test_numbers_do_not_depend_on_the_number_of_processes(benchmark):
    one, two = (benchmark.rendered(benchmark.simulated(2, jobs), True) for jobs in (1, 2))
    assert one == two


def test_intervals_that_are_too_narrow_are_found_out(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "SETTINGS", benchmark.SETTINGS[:1])
    monkeypatch.setattr(benchmark, "QUICK", 30)
    assert benchmark.main(["--quick", "--jobs", "1"]) == 0
    around = stats.around
    monkeypatch.setattr(stats, "around", lambda mean, error, *more: around(mean, error / 4, *more))
    assert benchmark.main(["--quick", "--jobs", "1"]) == 1
    assert "does not hold: Coverage(regime='equal', seeds=6): difference: this test set " in capsys.readouterr().out


def test_verdicts_that_claim_too_much_are_found_out(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "SETTINGS", benchmark.SETTINGS[1:2])
    monkeypatch.setattr(benchmark, "QUICK", 60)
    assert benchmark.main(["--quick", "--jobs", "1"]) == 0
    monkeypatch.setattr(verdicts, "holm", lambda p_values: [0.2 * p for p in p_values])
    assert benchmark.main(["--quick", "--jobs", "1"]) == 1
    assert "does not hold: Errors(plan='paired', arms=3, rho=0.0): " in capsys.readouterr().out


@pytest.fixture
def several(benchmark: ModuleType) -> ModuleType:
    """The script on several data sets; its page has a block of its own."""
    benchmark.PAGE.write_text(
        "Before.\n\n<!-- across -->\nold\n<!-- end -->\n\n<!-- coverage -->\nkept\n<!-- end -->\n"
    )
    return importlib.import_module("across_coverage")


def test_several_data_sets_have_tables_of_their_own(benchmark, several, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "QUICK", 12)
    settings = [several.Like(3, 5, "different", "moderate"), several.Claims(4, (3, 3), 1.0, 1, 0.0)]
    assert benchmark.main(["--quick", "--jobs", "1", "--write"], settings, "across") == 0, capsys.readouterr().out
    page = benchmark.PAGE.read_text()
    assert page.startswith("Before.\n\n<!-- across -->\n12 studies a setting, `--quick`")
    assert page.endswith("<!-- end -->\n\n<!-- coverage -->\nkept\n<!-- end -->\n")
    assert [page.count(f"**{kind}**") for kind in ("Like", "Claims")] == [1, 1]


def test_an_interval_that_takes_data_sets_for_known_is_found_out(benchmark, several, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "QUICK", 40)
    settings = [several.Like(4, 5, "different", "large")]
    assert benchmark.main(["--quick", "--jobs", "1"], settings, "across") == 0
    monkeypatch.setattr(pooling, "_between", lambda effects, variances: (0.0, 0.0, 0.0))
    assert benchmark.main(["--quick", "--jobs", "1"], settings, "across") == 1
    assert "does not hold: Like(sets=4, seeds=5, spreads='different', tau='large', skewed=False): mean " in (
        capsys.readouterr().out
    )


# Many arms


@pytest.fixture
def many(benchmark) -> ModuleType:
    """The script about many arms, which writes into the same page."""
    benchmark.PAGE.write_text("<!-- many -->\nold\n<!-- end -->\n")
    return importlib.import_module("many_coverage")


def test_the_command_about_many_arms_renders_a_table_of_each_kind(benchmark, many, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "QUICK", 12)
    one_of_each = [
        many.Picked(3, 5, "tied"),
        many.BestSet(3, 4, "one wide", 1.0, 2.0),
        many.Winner(3, 5),
        many.High(99.5, 60, 6, 0.1),
    ]
    asked = ["--quick", "--jobs", "1", "--write"]
    assert benchmark.main(asked, one_of_each, "many") == 0, capsys.readouterr().out
    page = benchmark.PAGE.read_text()
    assert [page.count(f"**{kind}**") for kind in ("Picked", "BestSet", "Winner", "High")] == [1] * 4
    assert "-->\nold" not in page


def test_arms_of_every_shape_have_the_spread_that_is_said(many):
    rng = np.random.default_rng(0)
    for shape in ("alike", *many.SHAPES):
        values = many.drawn(shape, np.full(4, 75.0), np.full(4, 20_000), rng)
        wide = np.array([own.std() for own in values]) / many.SPREAD / many.spreads(shape, 4)
        assert wide[1:] == pytest.approx(wide[0], rel=0.1)
        assert wide[0] == pytest.approx(4.4 if shape == "left-tailed" else 1.0, rel=0.06), shape


def test_a_set_that_lets_too_many_go_is_found_out(benchmark, many, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "QUICK", 40)
    setting = [many.BestSet(12, 5, "alike", 0.0)]
    assert benchmark.main(["--quick", "--jobs", "1"], setting, "many") == 0
    significant = best._significant
    monkeypatch.setattr(best, "_significant", lambda gap, *rest: significant(2 * gap, *rest))
    assert benchmark.main(["--quick", "--jobs", "1"], setting, "many") == 1
    assert "does not hold: BestSet(arms=12, " in capsys.readouterr().out
