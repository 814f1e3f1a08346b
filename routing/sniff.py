"""What a file is by its bytes: never what its sender says, and nothing that a browser would run.

`looks(content, said)` is its media type; `pixels(content, type)` how large a picture becomes, from its header alone.
"""

from __future__ import annotations

import struct

ANYTHING = "application/octet-stream"
PIXELS = 50_000_000  # larger pictures are never decoded: 200 MB of memory each

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"#!AMR", "audio/amr"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"PK\x03\x04", "application/zip"),
)
_IN_ZIP = frozenset(
    {
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.oasis.opendocument.spreadsheet",
    }
)
_WORDS = frozenset({"text/plain", "text/csv", "text/calendar", "text/vcard", "text/x-vcard"})
_BRANDS = {b"M4A ": "audio/mp4", b"M4B ": "audio/mp4", b"avif": "image/avif", b"heic": "image/heic"}


def looks(content: bytes, said: str = "") -> str:
    """Its media type; ANYTHING when it is none that we know, or claims to be what it is not."""
    said = said.partition(";")[0].strip().lower()
    found = _by_start(content)
    if found == "application/zip" and said in _IN_ZIP:
        return said
    if found == "video/webm" and said == "audio/webm":
        return said
    if found == "audio/ogg" and said == "video/ogg":
        return said
    if found is not None:
        return found
    if said in _WORDS and _is_text(content):
        return said
    return ANYTHING


def _by_start(content: bytes) -> str | None:
    for start, kind in _STARTS:
        if content.startswith(start):
            return kind
    if content[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(content[8:12])
    if content[4:8] == b"ftyp":
        return _BRANDS.get(content[8:12], "video/mp4")
    if len(content) > 1 and content[0] == 0xFF and content[1] & 0xE6 == 0xE2:  # MPEG 1 or 2, layer III
        return "audio/mpeg"
    return None


def _is_text(content: bytes) -> bool:
    if b"\x00" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def pixels(content: bytes, kind: str) -> int | None:
    """Width times height, as its header says; None where there is no readable one. Only PNG, JPEG, GIF and WebP."""
    try:
        match kind:
            case "image/png":
                wide, high = struct.unpack_from(">II", content, 16)
            case "image/gif":
                wide, high = struct.unpack_from("<HH", content, 6)
            case "image/jpeg":
                wide, high = _of_jpeg(content)
            case "image/webp":
                wide, high = _of_webp(content)
            case _:
                return None
    except struct.error:
        return None
    size: int = wide * high
    return size or None


def _of_jpeg(content: bytes) -> tuple[int, int]:
    """ITU T.81 B.2.2: the frame header that follows one of the SOF markers."""
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", content, at)
        if marker == 0xFFFF:  # fill byte
            at += 1
            continue
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            high, wide = struct.unpack_from(">HH", content, at + 5)
            return wide, high
        if marker < 0xFF01 or length < 2:
            return 0, 0
        at += 2 + length


def _of_webp(content: bytes) -> tuple[int, int]:
    """RFC 9649 2: lossy, lossless or extended."""
    match content[12:16]:
        case b"VP8 ":
            wide, high = struct.unpack_from("<HH", content, 26)
            return wide & 0x3FFF, high & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", content, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            low = struct.unpack_from("<HBHB", content, 24)
            return (low[0] | low[1] << 16) + 1, (low[2] | low[3] << 16) + 1
    return 0, 0
