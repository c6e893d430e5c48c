"""From an opened picture to 8 bits a pixel, as a viewer shows it; and whether its format keeps pixels exactly.

The first frame of several; turned as its EXIF data ask; what is transparent lies on white; 16 bits a pixel are scaled
to 8, black to black and white to white. Modes whose range is not known (32 bits, floating point) are refused.
"""

from typing import Any

import numpy as np

ROUNDED = {"JPEG", "MPO", "JPEG2000", "AVIF", "PCD", "DDS", "BLP", "FTEX", "ICNS"}
"""Formats (or some of their kinds) whose decoders may round differently."""
_ORIENTATION, _BITS, _PHOTOMETRIC = 0x0112, 258, 262
"""Tags of EXIF data and of TIFF files."""
_UNBOUNDED = {"I": "32-bit integers", "F": "floating-point numbers"}


def decoded(picture: Any, channels: int) -> np.ndarray:
    """The pixels of a picture opened by Pillow: uint8 H W C, grey for one channel, else RGB.

    Raises:
        ValueError: numbers whose black and white are not known.
    """
    from PIL import Image

    picture.load()  # a TIFF is turned by that already, and asks for it no more
    scaled = _to_8_bits(picture)
    if scaled.has_transparency_data or scaled.mode in ("La", "RGBa"):
        above = scaled.convert("RGBA")
        scaled = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    values = np.asarray(_turned(scaled, picture).convert("L" if channels == 1 else "RGB"))
    return values if values.ndim == 3 else values[..., None]


def exact(picture: Any, content: bytes) -> bool:
    """Whether every decoder gives the same pixels of this file: true of lossless formats."""
    if picture.format == "WEBP":
        return b"VP8L" in _webp_chunks(content) and b"ANMF" not in _webp_chunks(content)
    compression = str(picture.info.get("compression", "")) if picture.format == "TIFF" else ""
    return picture.format not in ROUNDED and "jpeg" not in compression and "webp" not in compression


def _to_8_bits(picture: Any) -> Any:
    from PIL import Image

    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        values, white = np.asarray(picture).astype(np.int64), 65_535
        if picture.format == "TIFF":
            white = 2 ** int(picture.tag_v2.get(_BITS, (16,))[0]) - 1
            values = white - values if picture.tag_v2.get(_PHOTOMETRIC) == 0 else values  # 0 is white
        return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))
    if picture.mode in _UNBOUNDED:
        raise ValueError(
            f"it holds {_UNBOUNDED[picture.mode]}, whose black and white are unknown; save it with 8 or 16 bits"
        )
    return picture


def _turned(image: Any, picture: Any) -> Any:
    """Turned as the EXIF data of the file ask."""
    from PIL.Image import Transpose as To

    turns = {2: To.FLIP_LEFT_RIGHT, 3: To.ROTATE_180, 4: To.FLIP_TOP_BOTTOM, 5: To.TRANSPOSE}
    turns |= {6: To.ROTATE_270, 7: To.TRANSVERSE, 8: To.ROTATE_90}
    try:
        asked = picture.getexif().get(_ORIENTATION)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError):  # damaged EXIF data ask for nothing
        return image
    return image.transpose(turns[asked]) if asked in turns else image


def _webp_chunks(content: bytes) -> set[bytes]:
    """The names of the chunks of a WebP file: `VP8L` holds lossless pixels, `VP8 ` others, `ANMF` frames."""
    names, place = set(), 12  # behind RIFF, the size, and WEBP
    while place + 8 <= len(content):
        names.add(content[place : place + 4])
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return names
