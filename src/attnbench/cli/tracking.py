"""Verbs on MLflow, which mirrors the store: sync, ui."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import Any

from attnbench.cli.browser import browse
from attnbench.cli.flags import StoreFlag
from attnbench.console import say
from attnbench.errors import AttnbenchError
from attnbench.store.naming import runs_page

POLL_SECONDS = 0.3


def sync(store: StoreFlag = None) -> int:
    """Fill the MLflow tracking server from the store; doing it twice changes nothing."""
    from attnbench.store.mlflow import sync as send
    from attnbench.store.runs import Store

    home = Store(store) if store else Store.default()
    if store and not home.path.is_dir():
        raise AttnbenchError(f"--store {store}: no such folder")
    there, failed = send(home)
    print(f"{there} runs are in MLflow" + (f", {failed} could not be sent" if failed else ""))
    return int(failed > 0)


def ui(port: int = 5000, host: str = "127.0.0.1") -> int:
    """Open the runs in MLflow's own pages, which nobody but this machine reaches unless --host says so.

    Where MLFLOW_TRACKING_URI names a server, its pages are opened and no other server is started.

    Args:
        port: Port of the server.
        host: Address that it listens at; 0.0.0.0 lets everybody on the network read and change the runs.
    """
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    if server.startswith(("http:", "https:")):
        try:
            _open(server)
        except (OSError, ValueError, HTTPException) as problem:
            raise AttnbenchError(f"MLflow at {server} does not answer: {problem}") from None
        return 0
    _check_port(port)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port)]
    command += ["--backend-store-uri", server] if server else []
    process = subprocess.Popen(command, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"})
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    address = f"http://{f'[{near}]' if ':' in near else near}:{port}"
    threading.Thread(target=_open_once_it_answers, args=(address, process), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 0


def _open_once_it_answers(server: str, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError, ValueError, HTTPException):
            _open(server)
            return
        time.sleep(POLL_SECONDS)


def _open(server: str) -> None:
    """Say where a server shows the runs, and show them in a browser where somebody sits before one.

    Raises:
        OSError, ValueError, HTTPException: it does not answer, or not as MLflow does.
    """
    query = urllib.parse.urlencode({"max_results": 1000})
    with urllib.request.urlopen(f"{server.rstrip('/')}/api/2.0/mlflow/experiments/search?{query}", timeout=5) as answer:
        told = json.load(answer)
    if not isinstance(told, dict):
        raise ValueError("its answer is no mapping")
    experiments = told.get("experiments", [])
    key = _meant(experiments)
    page = runs_page(server, key) if key else f"{server.rstrip('/')}/#/experiments"
    say(f"{'the runs' if key else 'no runs are there yet; the experiments'}: {page}")
    browse(page)


def _meant(experiments: list[dict[str, Any]]) -> str:
    """The experiment that somebody wants to see: the one named in the environment, ours, or the one last changed."""
    by_name = {each["name"]: each for each in experiments if each["name"] != "Default"}
    for name in (os.environ.get("MLFLOW_EXPERIMENT_NAME", ""), "attnbench"):
        if name in by_name:
            return str(by_name[name]["experiment_id"])
    latest = max(by_name.values(), key=lambda each: int(each.get("last_update_time", 0)), default={})
    return str(latest.get("experiment_id", ""))


def _check_port(port: int) -> None:
    """Refuse a port that is taken, before MLflow is started.

    Raises:
        AttnbenchError: another program listens there, or there is no such port.
    """
    if not 0 < port < 65536:
        raise AttnbenchError(f"--port {port} must be between 1 and 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as problem:
            instead = port + 1 if port < 65535 else 5001
            raise AttnbenchError(
                f"port {port} cannot be used ({problem.strerror}); try attnbench ui --port {instead}"
            ) from None
