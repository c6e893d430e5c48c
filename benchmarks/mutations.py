"""Inputs that are nearly right: a valid file with bytes flipped, cut, doubled or replaced, or a value of another type.

Random bytes are refused at the first look; what finds mistakes is right but for one thing.
"""

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

DEEP = 3000
"""How deeply brackets are nested: deeper than Python's own stack."""
TOKENS = [
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\xc3", b"NaN", b"-Infinity", b"1e999", b"-1", b"0",
    b"9" * 5000,
    b"18446744073709551616", b"null", b"true", b"[]", b"{}", b'""', b"[" * DEEP, b'{"a":' * DEEP, b"(" * DEEP,
    b"- " * DEEP,
    b"../../../../etc/passwd", b"/dev/zero", b"=cmd|' /C calc'!A0", b"<script>alert(1)</script>", b"\x1b[2J",
    b"!!python/object/apply:os.system ['true']", b"cos\nsystem\n(S'true'\ntR.", b"os:system", b"*a", b"&a [*a, *a]",
    b"<<: *a", b"\xe2\x80\xae", "\U0001d7d8".encode(), b"se(reduction=" + b"9" * 400 + b")", b"__import__('os')",
]  # fmt: skip
"""What strangers write in places where something else is expected."""
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2**63, 10**400, 1e308, -0.0, float("nan"), float("inf"), "", "x:y", "../../x", "\0",
    "\x1b[2J", "=1+1", "<b>", "é" * 300, [], {}, [[]], [None], {"a": {}}, [1, "a", None], "none", "done", "test", 0.5,
    [0] * 1000,
]  # fmt: skip
"""Values put in the place of others."""
LENGTHS = (1, 2, 4, 16, 100)
NAMES = ["", "folder", "seed", "é", "__class__", "a" * 200]


Pick = Callable[[int, int], int]
"""Draws a whole number between two, both included: hypothesis, which makes a fault small, or a fast generator."""


def changed(pick: Pick, valid: Sequence[bytes], of_json: bool) -> bytes:
    """A file that is nearly right, or once in a while one that is nothing like it."""
    base = valid[pick(0, len(valid) - 1)]
    match pick(0, 9):
        case 0:
            return bytes(pick(0, 255) for _ in range(pick(0, 40)))
        case 1:
            return TOKENS[pick(0, len(TOKENS) - 1)]
        case kind:
            return _changed_json(pick, base) if of_json and kind < 7 else _changed_bytes(pick, base)


def _changed_bytes(pick: Pick, valid: bytes) -> bytes:
    """One to three changes of the bytes of a file."""
    content = bytearray(valid)
    for _ in range(pick(1, 3)):
        place, length = pick(0, len(content)), LENGTHS[pick(0, len(LENGTHS) - 1)]
        match pick(0, 5):
            case 0 if place < len(content):
                content[place] ^= 1 << pick(0, 7)
            case 1:
                del content[place:]
            case 2:
                del content[place : place + length]
            case 3:
                content[place:place] = content[place : place + length]
            case 4:
                content[place : place + length] = TOKENS[pick(0, len(TOKENS) - 1)]
            case _:
                content[place : place + length] = bytes(pick(0, 255) for _ in range(pick(0, 8)))
    return bytes(content)


def _changed_json(pick: Pick, valid: bytes) -> bytes:
    """One to three values of a JSON file replaced, left out, or put under another name."""
    values = json.loads(valid)
    for _ in range(pick(1, 3)):
        places = _places(values)
        if not places:
            break
        holder, key = places[pick(0, len(places) - 1)]
        match pick(0, 4):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[NAMES[pick(0, len(NAMES) - 1)]] = holder.pop(key)
            case 2:
                holder[key] = pick(-(1 << 70), 1 << 70) >> pick(0, 70)
            case _:
                holder[key] = copy.deepcopy(VALUES[pick(0, len(VALUES) - 1)])
    return json.dumps(values, ensure_ascii=bool(pick(0, 1))).encode("utf-8", "surrogatepass")


def _places(values: Any) -> list[tuple[Any, Any]]:
    """Every value in JSON, as what holds it and its key there."""
    inside = (
        list(values.items())
        if isinstance(values, dict)
        else list(enumerate(values))
        if isinstance(values, list)
        else []
    )
    return [place for key, value in inside for place in [(values, key), *_places(value)]]
