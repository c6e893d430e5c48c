"""Folders of images as people have them: what counts as an image, what is passed over, and what is refused."""

import io
from pathlib import Path

import pytest
from PIL import Image
from test_data import FOLDER, NOISE, load, pictures

from attnbench.data import decode
from attnbench.data.folders import endings
from attnbench.errors import DataProblem
from attnbench.examine.datasets import check
from attnbench.spec.run import Runtime
from attnbench.store.runs import Store


def stored(picture: Image.Image, form: str) -> bytes:
    content = io.BytesIO()
    picture.save(content, form)
    return content.getvalue()


@pytest.fixture
def mine() -> Path:
    return pictures(Path("mine"))


DROPPINGS = ["._00.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png"]


def test_what_systems_leave_behind_is_passed_over_without_a_word(mine, capsys):
    before = load(FOLDER)
    for name in DROPPINGS:
        Path("mine/cat", name).write_bytes(b"\0\5\x16\7")
    for folder in (".ipynb_checkpoints", "__MACOSX", "cat/.thumbnails", "cat/__MACOSX"):
        pictures(Path("mine", folder), "inner", seed=9)
    after = load(FOLDER)
    assert after.data_fingerprint == before.data_fingerprint
    assert "left out" not in capsys.readouterr().err


def test_files_that_are_no_images_are_counted_in_one_line(mine, capsys):
    for number in range(3):
        Path(f"mine/cat/{number}.txt").write_text("a note")
    Path("mine/dog/README").write_text("a note")
    Path("mine/dog/dead.png").symlink_to("nowhere.png")
    load(FOLDER)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert "4 other files are left out (.txt 3, README 1)" in line
    check(FOLDER, Path())
    assert "4 other files are left out (.txt 3, README 1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ending", "form"),
    [(".gif", "GIF"), (".jfif", "JPEG"), (".JPG", "JPEG"), (".Png", "PNG"), (".ppm", "PPM"), (".jp2", "JPEG2000"),
     (".tga", "TGA"), (".WEBP", "WEBP"), (".avif", "AVIF"), (".jpg", "WEBP")],
)  # fmt: skip
def test_an_ending_that_pillow_opens_is_an_image_in_any_case(ending, form, mine):
    if ending.lower() not in endings():
        assert ending == ".avif", "only AVIF depends on how Pillow was built"
        return
    NOISE.save(f"mine/cat/more{ending}", form)
    assert f"cat/more{ending}" in load(FOLDER).train.source.files


def test_formats_that_pillow_recognises_but_cannot_decode_are_no_images():
    assert not {".mpg", ".h5", ".grib", ".wmf", ".eps"} & endings()
    assert {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif"} <= endings()


def test_every_broken_file_is_named_at_once(mine):
    for name in ("cat/03.png", "dog/05.png", "dog/07.png"):
        Path("mine", name).write_text("<html>404</html>" if name != "dog/05.png" else "")
    with pytest.raises(DataProblem) as caught:
        load(FOLDER)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("3 files are no readable images: mine/cat/03.png (of no known format)")
    assert "mine/dog/05.png (it is empty)" in line
    assert "mine/dog/07.png" in line


def test_of_very_many_broken_files_the_first_are_named_and_the_others_counted(mine):
    for file in mine.rglob("*.png"):
        file.write_text("no image")
    with pytest.raises(DataProblem, match=f"20 files are no readable images: .*; and {20 - decode.NAMED} more"):
        load(FOLDER)


def test_broken_files_in_different_chunks_are_all_named(mine, monkeypatch):
    monkeypatch.setattr(decode, "CHUNK", 4)
    for name in ("cat/00.png", "dog/09.png"):
        Path("mine", name).write_text("no image")
    with pytest.raises(DataProblem, match=r"cat/00\.png.*dog/09\.png"):
        load(FOLDER)


DAMAGED = {
    "empty": b"",
    "text": b"Not found",
    "half a PNG": stored(NOISE, "png")[:-100],
    "half a JPEG": stored(NOISE, "jpeg")[:-100],
    "a BMP 2 billion pixels wide": stored(NOISE, "bmp").replace(b"\x08\0\0\0", b"\xff\xff\xff\x7f", 1),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_picture_is_named_and_once_it_is_mended_all_is_well(damage, mine):
    Path("mine/dog/zz.png").write_bytes(DAMAGED[damage])
    with pytest.raises(DataProblem, match=r"mine/dog/zz\.png is no readable image"):
        load(FOLDER)
    assert not [path for path in Path(".cache").iterdir() if path.is_dir()]
    NOISE.save("mine/dog/zz.png")
    assert len(load(FOLDER).train.source.labels) == 21


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ('imagefolder(path="nowhere")', "nowhere.*one folder a class"),
        ('imagefolder(path="mine/cat")', "mine/cat.*one folder a class"),
        ('imagefolder(path="empty")', "empty.*one folder a class"),
        ('imagefolder(path="mine", test="birds")', "birds has other classes than mine: bird, dog"),
        ("imagefolder", "path"),
        ('imagefolder(path="mine", test="mine")', "share images"),
        ('imagefolder(path="mine", test="mine/../mine/cat")', "share images"),
        (
            'imagefolder(path="whole")',
            r'whole holds the parts .*\(test, train\).*path="whole/train", test="whole/test"',
        ),
        (f'imagefolder(path="{"a" * 300}")', "cannot be read: File name too long"),
        ('imagefolder(path="~nobody_there/x")', "~nobody_there/x cannot be read"),
    ],
)
def test_a_folder_that_cannot_be_a_data_set_is_refused(dataset, message, mine):
    Path("empty").mkdir()
    for part in ("train", "test"):
        pictures(Path("whole", part))
    pictures(Path("birds"), "bird cat")
    with pytest.raises(DataProblem, match=message):
        load(dataset)


UNLEARNABLE = {
    "one class": ("mine/cat mine/cat/deep", r"one class folder only, cat; .*did you mean path=.mine/cat"),
    "an empty class": ("mine/cat mine/dog mine/fox!", r"mine/fox has 0 images; a class needs at least 2 images"),
    "one image a class": ("mine/cat: mine/dog:", r"mine/cat \(and 1 more classes\) has 1 image; .* at least 2 images"),
    "no images": ("mine/cat! mine/dog!", r"mine holds no images in its folders \(cat, dog\); one folder a class"),
}


@pytest.mark.parametrize("case", UNLEARNABLE)
def test_a_folder_that_nothing_can_be_learned_from_is_refused_in_one_line(case):
    folders, message = UNLEARNABLE[case]
    for seed, folder in enumerate(folders.split()):
        path = Path(folder.rstrip("!:"))
        pictures(path.parent, path.name, {"!": 0, ":": 1}.get(folder[-1], 4), seed=seed)
    with pytest.raises(DataProblem, match=message) as caught:
        load(FOLDER)
    assert len(str(caught.value).splitlines()) == 1


def test_a_test_folder_needs_one_image_a_class(mine):
    pictures(Path("theirs"), count=1, seed=4)
    dataset = 'imagefolder(path="mine", test="theirs")'
    assert len(load(dataset).test) == 2
    Path("theirs/dog/00.png").unlink()
    with pytest.raises(DataProblem, match="theirs/dog has 0 images; a class needs at least 1 image:"):
        load(dataset)


def test_links_are_followed_but_not_in_a_circle(mine):
    before = load(FOLDER)
    Path("linked").mkdir()
    for name in ("cat", "dog"):
        Path("linked", name).symlink_to(Path("mine", name).resolve())
    Path("mine/dog/up").symlink_to(Path("linked").resolve())
    Path("mine/dog/self").symlink_to(Path("mine/dog").resolve())
    assert load('imagefolder(path="linked")').data_fingerprint == before.data_fingerprint


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", str(Path("home").resolve()))
    pictures(Path("home/mine"))
    pictures(Path("home/theirs"), seed=1)
    splits = load('imagefolder(path="~/mine", test="~/theirs")', Path("~/data"))
    assert len(splits.test) == 20
    assert Path("home/data/.cache").is_dir()
    runtime = Runtime(store="~/runs", data_dir="~/data")
    assert (runtime.store, runtime.data_dir) == (str(Path("home/runs").resolve()), str(Path("home/data").resolve()))
    assert Store("~/runs").path == Path(runtime.store)
    assert not Path("~").exists()


def test_data_check_takes_an_image_size(mine, attnbench):
    Image.new("RGB", (12, 9)).save("mine/dog/00.png")
    command = ["data", "check", FOLDER, "--data-dir", "."]
    refused = attnbench(*command)
    assert refused.returncode == 2
    assert "give image_size, as in --image-size 8" in refused.stderr
    assert attnbench(*command, "--image-size", "8").returncode == 0
