"""The pixels of each kind of picture: scaled, turned, laid on white, or refused; and which files are lossless."""

import hashlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from test_data import FOLDER, load, pictures

from attnbench.catalogue.registry import DATASETS
from attnbench.data import decode, pixels
from attnbench.data.cache import decoded
from attnbench.data.folders import Folder
from attnbench.errors import DataProblem

RNG = np.random.default_rng(3)
COLOUR = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (8, 8), dtype=np.uint8)


@pytest.fixture
def mine() -> Path:
    return pictures(Path("mine"))


def stored(picture: Image.Image, form: str, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


def seen(content: bytes, channels: int = 3) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return pixels.decoded(picture, channels)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, 2)


SIXTEEN = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bits_a_pixel_are_scaled_from_black_to_white(form):
    values = seen(stored(Image.fromarray(SIXTEEN), form))
    np.testing.assert_array_equal(values, grey(np.rint(SIXTEEN / 257).astype(np.uint8)))
    assert (values.min(), values.max()) == (0, 255)


def test_16_bits_a_colour_are_scaled_from_black_to_white():
    """Written by hand, since Pillow writes no such PNG."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + np.repeat(row[:, None], 3, 1).astype(">u2").tobytes() for row in SIXTEEN)
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.abs(seen(content).astype(int) - grey(SIXTEEN / 257)).max() <= 1


def test_a_tiff_whose_0_is_white_is_shown_so():
    content = stored(Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)), "TIFF")
    black, white = (struct.pack("<HHIHH", 262, 3, 1, zero, 0) for zero in (1, 0))
    assert content.count(black) == 1
    assert seen(content, 1)[0, :, 0].tolist() == [0, 128, 255]
    assert seen(content.replace(black, white), 1)[0, :, 0].tolist() == [255, 127, 0]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_a_viewer_shows_them(orientation, form):
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    turn = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
            6: np.rot90(upright, 1), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1)}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = stored(Image.fromarray(np.ascontiguousarray(turn[orientation])), form, exif=exif)
    np.testing.assert_array_equal(seen(content, 1)[..., 0], upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_turn_nothing():
    content = stored(Image.fromarray(COLOUR), "PNG", exif=b"Exif\0\0MM\0\x2a\0\0\0\xff")
    np.testing.assert_array_equal(seen(content), COLOUR)


ALPHA = np.tile(np.array([0, 64, 128, 255], np.uint8), (8, 2))


def on_white(values: np.ndarray) -> np.ndarray:
    share = ALPHA[..., None] / 255
    return values * share + 255 * (1 - share)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "colour", "grey"])
def test_what_is_transparent_lies_on_white(mode):
    if mode in ("RGBA", "LA"):
        colours = COLOUR if mode == "RGBA" else GREY[..., None]
        content = stored(Image.fromarray(np.dstack([colours, ALPHA]), mode), "PNG")
        expected = on_white(COLOUR if mode == "RGBA" else grey(GREY))
    elif mode == "colour":  # one colour stands for transparency
        content = stored(Image.fromarray(COLOUR), "PNG", transparency=tuple(COLOUR[2, 2].tolist()))
        expected = np.where((COLOUR[2, 2] == COLOUR).all(2, keepdims=True), 255, COLOUR)
    else:
        content = stored(Image.fromarray(GREY), "PNG", transparency=int(GREY[2, 2]))
        expected = grey(np.where(GREY[2, 2] == GREY, 255, GREY))
    assert np.abs(seen(content) - expected).max() <= 1


def test_a_palette_with_transparent_entries_lies_on_white_and_warns_nobody():
    picture = Image.fromarray(COLOUR).quantize(16)
    content = stored(picture, "PNG", transparency=bytes([0] * 4 + [255] * 12))
    numbers, palette = np.asarray(picture), np.array(picture.getpalette()).reshape(-1, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = seen(content)
    np.testing.assert_array_equal(values, np.where((numbers < 4)[..., None], 255, palette[numbers]))


def test_one_bit_is_black_and_white():
    bits = GREY > 100
    np.testing.assert_array_equal(seen(stored(Image.fromarray(bits), "PNG")), grey(bits * np.uint8(255)))


def test_cmyk_is_read_as_pillow_reads_it_and_looks_like_the_image():
    smooth = np.full((16, 16, 3), (200, 60, 30), np.uint8)
    values = seen(stored(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(values.astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "HSV"])
def test_other_colour_spaces_become_rgb(mode):
    smooth = Image.fromarray(np.full((16, 16, 3), (200, 60, 30), np.uint8))
    if mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        picture = ImageCms.applyTransform(smooth, transform)
    else:
        picture = smooth.convert(mode)
    assert np.abs(pixels.decoded(picture, 3).astype(int) - np.asarray(smooth)).max() <= 4


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_taken(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if form == "WEBP" else {}
    content = stored(frames[0], form, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(seen(content), np.asarray(frames[0]))


@pytest.mark.parametrize(("kind", "what"), [(np.float32, "floating-point numbers"), (np.int32, "32-bit integers")])
def test_numbers_without_a_known_white_are_refused_with_the_files_name(kind, what, mine):
    Image.fromarray(np.linspace(0, 1000, 64).reshape(8, 8).astype(kind)).save("mine/dog/depth.tiff")
    with pytest.raises(DataProblem, match=rf"mine/dog/depth\.tiff is no readable image: it holds {what}.*8 or 16 bits"):
        load(FOLDER)


@pytest.mark.parametrize("side", [10_000, 14_000])
def test_a_very_large_image_is_decoded_or_named_and_no_warning_is_shown(side, mine, recwarn):
    Image.new("1", (side, side)).save("mine/dog/huge.png")
    if side == 10_000:
        assert load(FOLDER, image_size=8).image_size == 8
    else:
        with pytest.raises(DataProblem, match=r"mine/dog/huge\.png is no readable image: it is too large"):
            load(FOLDER, image_size=8)
    assert not [warning for warning in recwarn if "Decompression" in str(warning.category)]


def test_a_grey_data_set_reads_colour_as_grey(mine):
    raw = Folder.of(mine).raw({"cat": 0, "dog": 1})
    chunks = list(decode.decoding(raw, None, "mine", channels=1))
    assert {image.values.shape for chunk in chunks for image in chunk} == {(8, 8, 1)}


LOSSLESS: list[tuple[str, dict[str, object]]] = [
    ("PNG", {}),
    ("BMP", {}),
    ("GIF", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_deflate"}),
]
LOSSLESS += [("WEBP", {"lossless": True}), ("PPM", {}), ("TGA", {})]
LOSSY = [("JPEG", {}), ("WEBP", {}), ("JPEG2000", {}), ("TIFF", {"compression": "jpeg"}), ("MPO", {})]


@pytest.mark.parametrize(("form", "options"), LOSSLESS + LOSSY, ids=str)
def test_lossless_files_are_known_by_their_pixels_and_others_by_their_bytes(form, options):
    content = stored(Image.fromarray(COLOUR), form, **options)
    with Image.open(io.BytesIO(content)) as picture:
        assert pixels.exact(picture, content) == ((form, options) in LOSSLESS)


@pytest.mark.parametrize(
    "extra", [{"exif": b"Exif\0\0MM\0\x2a\0\0\0\x08\0\0\0\0\0\0"}, {"icc_profile": b"x" * 40}], ids=list
)
@pytest.mark.parametrize("lossless", [True, False])
def test_webp_with_other_chunks_is_still_told_apart(lossless, extra):
    content = stored(Image.fromarray(COLOUR), "WEBP", lossless=lossless, **extra)
    assert content[12:16] == b"VP8X"
    with Image.open(io.BytesIO(content)) as picture:
        assert pixels.exact(picture, content) == lossless


def test_a_jpeg_with_a_png_ending_is_known_by_its_bytes(mine):
    Image.fromarray(COLOUR).save("mine/cat/00.png", "JPEG")
    key = hashlib.sha256(Path("mine/cat/00.png").read_bytes()).digest()[:16]
    assert key in {each.tobytes() for each in decoded(DATASETS.resolve(FOLDER), "train", 8, ".").keys}
