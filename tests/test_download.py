"""Official files: fetched, resumed, checked, unpacked, and read. They are made here, small, in the official layout."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import re
import struct
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torchvision.datasets as official

from attnbench import RunSpec
from attnbench.catalogue.cards import Source
from attnbench.catalogue.registry import DATASETS
from attnbench.data import download
from attnbench.data.splits import Splits, load_splits
from attnbench.errors import DataProblem

NAME = "cifar-10-python.tar.gz"
RAW = "FashionMNIST/raw"
READERS = {"CIFAR10": official.CIFAR10, "CIFAR100": official.CIFAR100}


def cifar(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, object]]:
    """Write files in CIFAR's official layout, four images each, and have torchvision's reader take their md5s."""
    reader, draws, written = READERS[name], np.random.default_rng(0), {}
    folder = root / reader.base_folder
    folder.mkdir(parents=True)

    def write(file: str, content: dict[str, object]) -> str:
        written[file] = content
        (folder / file).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / file).read_bytes()).hexdigest()

    for part in ("train_list", "test_list"):
        kinds = ["labels"] if name == "CIFAR10" else ["coarse_labels", "fine_labels"]
        md5s = []
        for file, _ in getattr(reader, part):
            labels = {kind: draws.integers(0, 10 if kind == "labels" else 100, 4).tolist() for kind in kinds}
            md5s.append([file, write(file, {"data": draws.integers(0, 256, (4, 3072), np.uint8), **labels})])
        monkeypatch.setattr(reader, part, md5s)
    names = [f"class {number}" for number in range(10 if name == "CIFAR10" else 100)]
    md5 = write(reader.meta["filename"], {reader.meta["key"]: names})
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": md5})
    return written


def load(dataset: str, **fields: object) -> Splits:
    return load_splits(RunSpec(dataset=dataset, **fields), "data")


class Server(ThreadingHTTPServer):
    """Serves one file on the loopback; `cuts`: after how many bytes each coming answer breaks off, -1: no answer."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.body, self.ranges, self.moved = body, True, ""
        self.cuts: list[int] = []
        self.log: list[tuple[str | None, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{NAME}"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked, cut = self.headers.get("Range"), self.server.cuts.pop(0) if self.server.cuts else None
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        rest = self.server.body[start:]
        self.server.log.append((asked, len(rest[:cut]) if cut != -1 else 0))
        if cut == -1:
            return
        if self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved)
            self.end_headers()
            return
        self.send_response(416 if not rest else 206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[:cut])

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of a small archive in CIFAR-10's official format."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    cifar(Path("release"), "CIFAR10", monkeypatch)
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as archive:
        archive.add("release/cifar-10-batches-py", "cifar-10-batches-py")
    with Server(body.getvalue()) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def card(server: Server, sha256: str = "") -> Source:
    """CIFAR-10's card with the loopback's address."""
    sha256 = sha256 or hashlib.sha256(server.body).hexdigest()
    return dataclasses.replace(DATASETS.find("CIFAR10").card, files=((server.url, "an md5", sha256),))


def get(server: Server) -> None:
    download.get("CIFAR10", card(server), Path("data"))


def unpacked() -> bool:
    return len(list(Path("data/cifar-10-batches-py").glob("*"))) == 7


def test_missing_files_are_fetched_unpacked_and_read(server, monkeypatch):
    monkeypatch.setattr(DATASETS, "_entries", None)
    known = DATASETS.find("cifar10")
    monkeypatch.setitem(DATASETS._entries, "cifar10", dataclasses.replace(known, card=card(server)))
    splits = load("CIFAR10")
    assert (len(splits.train), len(splits.test)) == (20, 4)
    assert server.log == [(None, len(server.body))]


def test_what_is_there_is_not_fetched_again(server):
    get(server)
    get(server)
    assert len(server.log) == 1


def test_a_broken_connection_is_taken_up_where_it_stopped(server):
    server.cuts = [1000, 500]
    get(server)
    assert server.log == [(None, 1000), ("bytes=1000-", 500), ("bytes=1500-", len(server.body) - 1500)]
    assert unpacked()


def test_a_server_that_cannot_resume_sends_everything_again(server):
    server.cuts, server.ranges = [1000], False
    get(server)
    assert server.log == [(None, 1000), ("bytes=1000-", len(server.body))]
    assert unpacked()


def test_a_server_that_dies_leaves_what_came_and_a_later_call_finishes(server):
    server.cuts = [1000, -1, -1]
    with pytest.raises(DataProblem) as caught:
        get(server)
    assert f"put {NAME} (md5 an md5, sha256 {card(server).files[0][2]}) into data/" in str(caught.value)
    assert Path(f"data/{NAME}.partial").read_bytes() == server.body[:1000]
    server.log.clear()
    get(server)
    assert server.log == [("bytes=1000-", len(server.body) - 1000)]
    assert unpacked()


def test_a_fetch_that_ended_before_its_last_step_needs_no_more_bytes(server):
    Path("data").mkdir()
    Path(f"data/{NAME}.partial").write_bytes(server.body)
    get(server)
    assert unpacked()


def test_a_file_with_another_sha256_is_refused(server):
    with pytest.raises(DataProblem, match=f"{NAME} has SHA-256 .* the official one is {'0' * 64}; delete it"):
        download.get("CIFAR10", card(server, "0" * 64), Path("data"))
    assert not Path("data/cifar-10-batches-py").exists()


@pytest.mark.parametrize("address", ["http://example.org/x.tar", "ftp://example.org/x.tar", "file:///etc/passwd"])
def test_nothing_is_fetched_but_over_https(server, address):
    wanted = dataclasses.replace(card(server), files=((address, "", "0" * 64),))
    with pytest.raises(DataProblem, match=f"{address} is no https address"):
        download.get("CIFAR10", wanted, Path("data"))
    server.moved = address  # an address that is fine, and sends on to one that is not
    with pytest.raises(DataProblem, match=rf"{address} is no https address|'{address}' is not allowed"):
        get(server)
    assert not list(Path("data").glob("x.tar*"))


def test_an_unpacking_that_breaks_off_leaves_no_half_folder_and_the_archive_is_not_fetched_again(server, monkeypatch):
    def half(archive: Path, folder: Path) -> None:
        (folder / "cifar-10-batches-py").mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "unpack", half)
        with pytest.raises(KeyboardInterrupt):
            get(server)
    assert not [path for path in Path("data").iterdir() if path.is_dir()]
    get(server)
    assert unpacked()
    assert len(server.log) == 1


def test_an_archive_that_is_there_is_unpacked_without_a_network(server):
    Path("data").mkdir()
    Path("data", NAME).write_bytes(server.body)
    get(server)
    assert unpacked()
    assert server.log == []


@pytest.mark.parametrize("command", ["data get CIFAR100", "run --tracker none --dataset cifar100"])
def test_without_a_network_the_message_says_what_to_put_where(command, attnbench):
    closed = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    done = attnbench(*command.split(), "--data-dir", "somewhere", env=closed)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith("attnbench: CIFAR100 needs somewhere/cifar-100-python")
    assert "put cifar-100-python.tar.gz (md5 eb9058c3a382ffc7106e4002c42a8d85, sha256 85cd44d0" in line


def stated(name: str) -> dict[str, str]:
    """The md5 of each official file, by its address."""
    return {url: md5 for url, md5, _ in DATASETS.find(name).card.files}


def test_addresses_and_md5s_are_torchvisions_own():
    assert {name: stated(name) for name in READERS} == {
        name: {reader.url: reader.tgz_md5} for name, reader in READERS.items()
    }
    flowers, fashion = official.Flowers102, official.FashionMNIST
    assert stated("Oxford102Flowers") == {
        flowers._download_url_prefix + name: md5 for name, md5 in flowers._file_dict.values()
    }
    # torchvision's own address is http; the makers' repository has the same files
    assert {url.rsplit("/")[-1]: md5 for url, md5 in stated("FashionMNIST").items()} == dict(fashion.resources)


def test_the_address_of_eurosat_is_torchvisions_own(monkeypatch):
    fetch = Mock()
    monkeypatch.setattr(official.eurosat, "download_and_extract_archive", fetch)
    with pytest.raises(RuntimeError):
        official.EuroSAT("nowhere", download=True)
    assert stated("EuroSAT") == {fetch.call_args.args[0]: fetch.call_args.kwargs["md5"]}


def test_every_official_file_has_an_https_address_and_a_sha256():
    for entry in DATASETS:
        for url, _, sha256 in entry.card.files:
            assert url.startswith("https://")
            assert re.fullmatch("[0-9a-f]{64}", sha256), url


@pytest.mark.parametrize("name", READERS)
def test_official_cifar_files_are_read_right(name, monkeypatch, capsys):
    written = cifar(Path("data"), name, monkeypatch)
    splits = load(name.lower())
    for split, listed in ((splits.train, "train_list"), (splits.test, "test_list")):
        files = [written[file] for file, _ in getattr(READERS[name], listed)]
        rows = np.concatenate([file["data"] for file in files])
        labels = [label for file in files for label in file["labels" if name == "CIFAR10" else "fine_labels"]]
        order = list(map(int, split.source.files))
        assert sorted(order) == list(range(len(rows)))
        np.testing.assert_array_equal(split.source.images[:, 3, 5, 1], rows[order, 1024 + 3 * 32 + 5])
        np.testing.assert_array_equal(split.source.images, rows[order].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        assert split.labels.tolist() == [labels[place] for place in order]
    assert splits.train.source.names[1] == {"CIFAR10": "automobile", "CIFAR100": "aquarium_fish"}[name]
    warnings = capsys.readouterr().err
    assert f"{name} test has 4 images here, 10,000 as released" in warnings
    assert f"0 of the 4 images of {name} test are official ones" in warnings


@pytest.mark.parametrize("damage", ["truncated", "lost"])
def test_a_damaged_official_file_is_a_message_that_names_where_it_is(damage, monkeypatch):
    cifar(Path("data"), "CIFAR10", monkeypatch)
    file = Path("data/cifar-10-batches-py/data_batch_2")
    file.write_bytes(file.read_bytes()[:-9]) if damage == "truncated" else file.unlink()
    with pytest.raises(DataProblem, match="data/cifar-10-batches-py"):
        load("CIFAR10")


def idx(values: np.ndarray) -> bytes:
    """MNIST's format: a magic number with the number of dimensions, the dimensions, the bytes."""
    return struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def fashion() -> dict[str, np.ndarray]:
    """The four official files, zipped as they come and then unpacked; a value for each name."""
    known, draws, folder, written = DATASETS.find("FashionMNIST"), np.random.default_rng(0), Path("data", RAW), {}
    folder.mkdir(parents=True)
    for part, count in (("train", 6), ("t10k", 3)):
        written[f"{part}-images-idx3-ubyte"] = draws.integers(0, 256, (count, 28, 28), np.uint8)
        written[f"{part}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8)
    files = []
    for url, md5, _ in known.card.files:
        file = folder / url.rsplit("/", 1)[-1]
        file.write_bytes(gzip.compress(idx(written[file.stem])))
        files.append((url, md5, hashlib.sha256(file.read_bytes()).hexdigest()))
    download.get("FashionMNIST", dataclasses.replace(known.card, files=tuple(files)), Path("data"))
    return written


def test_official_fashion_files_are_unzipped_and_read_right(fashion):
    splits = load("fashionmnist")
    for split, part in ((splits.train, "train"), (splits.test, "t10k")):
        order = split.labels  # an image's label is its number in the file
        assert sorted(order) == list(range(len(fashion[f"{part}-labels-idx1-ubyte"])))
        np.testing.assert_array_equal(split.source.images[..., 0], fashion[f"{part}-images-idx3-ubyte"][order])
    assert (splits.channels, splits.image_size, splits.train.source.names[0]) == (1, 28, "T-shirt/top")


@pytest.mark.parametrize("damage", ["0 bytes", "10 bytes", "1000 bytes", "a page"])
def test_a_damaged_fashion_file_is_a_message_that_names_where_it_is(damage, fashion):
    file = Path("data", RAW, "train-images-idx3-ubyte")
    number, what = damage.split()
    file.write_bytes(file.read_bytes()[: int(number)] if what == "bytes" else b"<html>Not found</html>")
    with pytest.raises(DataProblem, match="FashionMNIST in data"):
        load("FashionMNIST")
