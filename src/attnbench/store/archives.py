"""Zip files that strangers made: opened only where what they hold is bounded, before any of it is read."""

import struct
import zipfile
from typing import IO

END = struct.Struct("<4s4H2LH")
"""The record at the end of a zip file: mark, disks and entries, size and place of the directory, size of a comment."""
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Kinds of compression that unpack no more than is asked for at a time."""
MOST_DIRECTORY = 16 << 20
"""Bytes of the list of members."""


def archive(source: IO[bytes], most: int, most_bytes: int) -> zipfile.ZipFile:
    """Open a zip file; nothing of it is unpacked.

    Args:
        most: members that it may have at most.
        most_bytes: what they may hold, unpacked and together.

    Raises:
        ValueError: it is none, it may hold more, or it is of a kind that we never write.
    """
    _bound(source)
    try:
        found = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, NotImplementedError, OSError, struct.error) as problem:
        raise ValueError(f"is no sound zip file ({problem})") from None
    members = found.infolist()
    names = {member.filename for member in members}
    total = sum(member.file_size for member in members)
    if len(members) > most or len(names) < len(members):
        raise ValueError(f"has {len(members):,} members, of {len(names):,} names; at most {most:,} are read")
    if total > most_bytes:
        raise ValueError(f"holds {total:,} bytes; at most {most_bytes:,} are unpacked")
    if any(member.flag_bits & 1 or member.compress_type not in KINDS for member in members):
        raise ValueError("is encrypted, or compressed in another way than by deflate")
    return found


def _bound(source: IO[bytes]) -> None:
    """Look at the end before `zipfile` does, which would make an object of each member that the list there names.

    Raises:
        ValueError: there is no such end, behind which nothing lies, or its list is too long.
    """
    size = source.seek(0, 2)
    source.seek(max(0, size - END.size - 20))
    tail = source.read()
    if len(tail) < END.size or not tail[-END.size :].startswith(b"PK\5\6"):
        raise ValueError("is no zip file, or has something behind its end")
    if tail.startswith(b"PK\6\7"):
        raise ValueError("is a zip file of the 64-bit kind, which is not read")
    _, _, _, _, _, directory, _, _ = END.unpack(tail[-END.size :])
    if directory > MOST_DIRECTORY:
        raise ValueError(f"has a list of members of {directory:,} bytes; at most {MOST_DIRECTORY:,} are read")
    source.seek(0)
