"""Archives of strangers: what leads out of the folder, links, and bombs are refused, and nothing of them is left."""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from attnbench.data import unpacking
from attnbench.data.unpacking import unpack
from attnbench.errors import DataProblem

Make = Callable[[str, bytes], Path]


def tar(name: str, content: bytes, kind: bytes = tarfile.REGTYPE, target: str = "") -> Path:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(content), kind, target
    with tarfile.open("made.tar.gz", "w:gz") as made:
        made.addfile(member, io.BytesIO(content))
    return Path("made.tar.gz")


def zipped(name: str, content: bytes, mode: int = stat.S_IFREG) -> Path:
    member = zipfile.ZipInfo(name)
    member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, (mode | 0o644) << 16
    with zipfile.ZipFile("made.zip", "w") as made:
        made.writestr(member, content)
    return Path("made.zip")


EITHER = pytest.mark.parametrize("make", [tar, zipped])


def refusal(archive: Path) -> str:
    """Why an archive is not unpacked; nothing of it was written beside the folder."""
    before = {path for path in Path.cwd().rglob("*") if Path("out") not in path.relative_to(Path.cwd()).parents}
    Path("out").mkdir(exist_ok=True)
    with pytest.raises(DataProblem) as told:
        unpack(archive, Path("out"))
    after = {path for path in Path.cwd().rglob("*") if Path("out") not in path.relative_to(Path.cwd()).parents}
    assert after - before <= {Path.cwd() / "out"}
    return str(told.value)


@EITHER
def test_files_and_folders_are_unpacked(make: Make):
    unpack(make("a/b/c.txt", b"hello"), Path("out"))
    assert Path("out/a/b/c.txt").read_bytes() == b"hello"


def test_a_single_gzip_file_is_unpacked_under_its_name_without_the_ending():
    Path("labels.gz").write_bytes(gzip.compress(b"hello"))
    Path("out").mkdir()
    unpack(Path("labels.gz"), Path("out"))
    assert Path("out/labels").read_bytes() == b"hello"


@EITHER
@pytest.mark.parametrize("name", ["../evil", "/tmp/attnbench-evil", "a/../../evil", "..\\evil", "c:/evil"])
def test_a_path_that_leads_out_is_refused(make: Make, name: str):
    assert "would lie outside of the folder" in refusal(make(name, b"evil"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_of_a_tar_are_refused(kind: bytes):
    assert "is no file" in refusal(tar("link", b"", kind, "/etc/passwd"))


def test_a_link_of_a_zip_is_refused():
    assert "is no file" in refusal(zipped("link", b"/etc/passwd", stat.S_IFLNK))


@EITHER
def test_a_bomb_is_refused_before_it_is_unpacked(make: Make):
    assert "unpacks to more than" in refusal(make("zeros", bytes(32 << 20)))
    assert sum(path.stat().st_size for path in Path("out").rglob("*")) <= 4 << 20


def test_a_bomb_of_one_gzip_file_is_refused():
    Path("zeros.gz").write_bytes(gzip.compress(bytes(32 << 20)))
    assert "unpacks to more than" in refusal(Path("zeros.gz"))


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpacking, "MOST_MEMBERS", 2)
    with tarfile.open("many.tar.gz", "w:gz") as made:
        for number in range(3):
            made.addfile(tarfile.TarInfo(str(number)))
    assert "more than 2 members" in refusal(Path("many.tar.gz"))


@EITHER
def test_an_archive_cut_short_anywhere_is_a_message_or_all_that_was_in_it(make: Make):
    content = bytes(range(256)) * 40
    whole = make("a.bin", content).read_bytes()
    file = Path(f"cut{''.join(make('x', b'').suffixes)}")
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        file.write_bytes(whole[:length])
        try:
            unpack(file, Path("out"))
        except DataProblem:
            continue
        assert Path("out/a.bin").read_bytes() == content  # only the empty end of a tar was cut off
