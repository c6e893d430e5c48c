"""A bare `mlflow ui` after the classic command, in a real browser: what a person sees who types the two lines."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import HANG, ROOT, patient
from playwright.sync_api import Browser, Page, expect
from tracking import answering, unused_port

pytestmark = pytest.mark.slow

PARAMS = {
    "dataset": "digits", "attention_type": "se", "epochs": "2", "batch_size": "32", "lr": "0.001",
    "weight_decay": "0.0001", "experiment_name": "Visual Attention Benchmark",
}  # fmt: skip
PATIENCE = 1000 * HANG  # ms


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the classic command was run twice, without attention and with SE."""
    home = tmp_path_factory.mktemp("classic")
    command = patient(ROOT / "run_experiment.py", "--dataset", "digits", "--epochs", 2, "--image_size", 8)
    command += ["--train_limit", "64", "--test_limit", "32", "--attention_type"]
    for attention in ("none", "se"):
        done = subprocess.run([*command, attention], cwd=home, check=True, capture_output=True, timeout=HANG)
        with (home / "said.txt").open("ab") as said:
            said.write(done.stderr)
    return home


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """`mlflow ui` with no other argument than a free port, in that folder."""
    port = unused_port()
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port)]
    with answering(command, port, folder, MLFLOW_DISABLE_TELEMETRY="true"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    """A page that waits for a slow server."""
    opened = browser.new_page(viewport={"width": 1600, "height": 1200})
    opened.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    return opened


@pytest.fixture(scope="module")
def runs(address: str) -> dict[str, Any]:
    """The server's two runs by mechanism."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name("Visual Attention Benchmark")
    return {run.data.params["attention_type"]: run for run in client.search_runs([experiment.experiment_id])}


def _home(address: str, run: Any) -> str:
    return f"{address}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"


def test_the_page_of_a_run_shows_its_seven_params(page, address, runs):
    page.goto(_home(address, runs["se"]))
    for name, value in PARAMS.items():
        row = page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))
        expect(row.get_by_text(value, exact=True).first).to_be_visible()


def test_the_metrics_of_a_run_are_curves_with_a_point_per_epoch(page, address, runs):
    page.goto(f"{_home(address, runs['se'])}/model-metrics")
    for name in ("train_loss", "train_accuracy"):
        chart = page.get_by_test_id("experiment-view-compare-runs-card").filter(has=page.get_by_title(name, exact=True))
        expect(chart.locator("svg.main-svg .scatterlayer path.point")).to_have_count(2)
        expect(chart.locator("svg.main-svg .scatterlayer path.js-line[d*=L]").first).to_be_attached()


def test_a_person_walks_from_the_front_page_to_the_runs_and_compares_them(page, address, runs):
    page.goto(address)
    page.get_by_role("button", name="Model training").click()  # the toggle that a bare `mlflow ui` needs
    page.get_by_role("link", name="Visual Attention Benchmark").first.click()
    page.wait_for_url(re.compile(r"/experiments/\d+/runs\?"))
    for attention in runs:
        expect(page.get_by_role("link", name=f"digits-{attention}").first).to_be_visible()
    boxes = page.get_by_role("checkbox")
    boxes.first.check()  # the one in the heading takes all
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("Comparing 2 Runs from 1 Experiment")).to_be_visible()


def test_the_address_that_every_run_ends_with_shows_the_runs(page, address, runs, folder):
    (told,) = set(re.findall(r"http://127.0.0.1:5000(/#/experiments/\S+)", (folder / "said.txt").read_text()))
    page.goto("about:blank")
    page.goto(f"{address}{told}")
    for attention in runs:
        expect(page.get_by_role("link", name=f"digits-{attention}").first).to_be_visible()


def test_the_compare_page_shows_both_runs(page, address, runs):
    ids = ",".join(f'"{run.info.run_id}"' for run in runs.values())
    page.goto(f'{address}/#/compare-runs?runs=[{ids}]&experiments=["{runs["se"].info.experiment_id}"]')
    expect(page.get_by_text("Comparing 2 Runs from 1 Experiment")).to_be_visible()
    for attention, run in runs.items():
        expect(page.get_by_role("link", name=run.info.run_id)).to_be_visible()
        expect(page.get_by_text(f"digits-{attention}", exact=True)).to_be_visible()
    row = page.locator("tr").filter(has=page.get_by_text("attention_type", exact=True))
    expect(row).to_contain_text("none")
    expect(row).to_contain_text("se")
