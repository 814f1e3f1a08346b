"""Files of customers: fetched within the rules, known by their bytes, kept for us alone (faults.md rows 29 to 32)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from routing.aio.fetch import Away, Fetcher
from routing.sniff import ANYTHING, PIXELS, looks, pixels
from tests.fakes.provider import Provider

LOCAL = ("127.0.0.0/8",)


def png(wide: int, high: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xc0\x00\x11\x08\x00\x20\x00\x40\x03"
    + bytes(12)
)
GIF = b"GIF89a\x40\x00\x20\x00" + bytes(10)
WEBP_LOSSY = b"RIFF\x00\x00\x00\x00WEBPVP8 \x00\x00\x00\x00\x00\x00\x00\x9d\x01\x2a\x40\x00\x20\x00" + bytes(
    8
)
WEBP_LOSSLESS = (
    b"RIFF\x00\x00\x00\x00WEBPVP8L\x00\x00\x00\x00\x2f" + struct.pack("<I", 63 | 31 << 14) + bytes(8)
)
WEBP_MORE = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x3f\x00\x00\x1f\x00\x00"


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider() as there:
        yield there


@pytest.fixture
async def fetcher(tmp_path: Path) -> AsyncIterator[Fetcher]:
    made = Fetcher(tmp_path, allow=LOCAL)
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("content", "said", "is_"),
    [
        (png(1, 1), "image/png", "image/png"),
        (png(1, 1), "text/html", "image/png"),
        (JPEG, "", "image/jpeg"),
        (GIF, "image/png", "image/gif"),
        (WEBP_LOSSY, "", "image/webp"),
        (b"%PDF-1.7", "application/pdf", "application/pdf"),
        (b"ID3\x03", "audio/mpeg", "audio/mpeg"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4", "video/mp4"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", "audio/wav", "audio/wav"),
        (b"plain words", "text/plain; charset=utf-8", "text/plain"),
        (b"a,b\n", "text/csv", "text/csv"),
        (b"<html><script>alert(1)</script>", "text/html", ANYTHING),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", ANYTHING),
        (b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]>", "application/xml", ANYTHING),
        (b"<html>", "image/png", ANYTHING),
        (b"MZ\x90\x00", "image/jpeg", ANYTHING),
        (b"words\x00", "text/plain", ANYTHING),
        (b"\xff\xfe\x00", "text/plain", ANYTHING),
        (b"PK\x03\x04", "application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text"),
        (b"PK\x03\x04", "text/html", "application/zip"),
        (b"", "image/png", ANYTHING),
    ],
)
def test_a_file_is_what_its_bytes_show(content: bytes, said: str, is_: str) -> None:
    assert looks(content, said) == is_


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (png(64, 32), "image/png"),
        (JPEG, "image/jpeg"),
        (GIF, "image/gif"),
        (WEBP_LOSSY, "image/webp"),
        (WEBP_LOSSLESS, "image/webp"),
        (WEBP_MORE, "image/webp"),
    ],
)
def test_the_size_of_a_picture_is_read_from_its_header_and_a_broken_one_has_none(
    content: bytes, kind: str
) -> None:
    assert pixels(content, kind) == 64 * 32
    for cut in range(len(content)):
        assert pixels(content[:cut], kind) in (None, 64 * 32)


async def test_a_file_is_fetched_and_kept_for_us_alone(
    fetcher: Fetcher, provider: Provider, tmp_path: Path
) -> None:
    provider.files["a.png"] = png(10, 10)
    id = uuid4()
    stored = await fetcher.fetch(f"{provider.base}/files/a.png", id)
    assert (stored.type, stored.failed, stored.bytes) == ("image/png", "", len(png(10, 10)))
    path = fetcher.path(stored.path)
    assert path.read_bytes() == png(10, 10)
    assert path == tmp_path / "attachments" / id.hex[-2:] / str(id)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [each.name for each in path.parent.iterdir()] == [str(id)]


async def test_what_cannot_be_kept_says_why(fetcher: Fetcher, provider: Provider) -> None:
    provider.files |= {"big": b"x" * 5000, "bomb": png(50_000, 50_000), "empty": b""}
    base = f"{provider.base}/files"
    assert (await fetcher.fetch(f"{base}/gone", uuid4())).failed == "expired"
    assert (await fetcher.fetch(f"{base}/big", uuid4(), most=4999)).failed == "too_large"
    assert (await fetcher.fetch(f"{base}/empty", uuid4())).failed == "empty"
    assert (await fetcher.fetch(f"{base}/away", uuid4())).failed == "refused"
    assert (await fetcher.fetch("file:///etc/passwd", uuid4())).failed == "refused"
    bomb = await fetcher.fetch(f"{base}/bomb", uuid4())
    assert (bomb.failed, bomb.type) == ("quarantined", "image/png")
    assert PIXELS < 50_000 * 50_000


async def test_nothing_inside_our_network_is_reached(provider: Provider, tmp_path: Path) -> None:
    fetcher = Fetcher(tmp_path)
    for host in ("127.0.0.1", "localhost", "2130706433", "127.1", "[::1]", "169.254.169.254"):
        for port in (provider.port, 80):
            assert (await fetcher.fetch(f"http://{host}:{port}/files/a.png", uuid4())).failed == "refused"
    await fetcher.close()
    assert provider.asked == []


async def test_a_provider_that_is_down_may_be_asked_again(fetcher: Fetcher, provider: Provider) -> None:
    port = provider.port
    assert provider._runner is not None
    await provider._runner.cleanup()
    with pytest.raises(Away):
        await fetcher.fetch(f"http://127.0.0.1:{port}/files/a.png", uuid4())


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "attachments/../../secret", "attachments"])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="not a stored file"):
        Fetcher(tmp_path).path(path)
