"""The child process that takes mails apart, under limits of memory and time, so that none of them can hurt the server.

Frames on stdin and stdout: four bytes of length (big endian), then a pickle. In: (account, raw). Out: tuple of Heard,
with HTML already cleaned. It ends when stdin does, or when it has grown large; the parent starts another.
"""

from __future__ import annotations

import io
import pickle
import resource
import sys
from dataclasses import replace
from typing import Any, BinaryIO

from routing import letter
from routing.channel import File, Heard, Wrote
from routing.channels import email
from routing.site import Account

CPU_S = 10  # of one mail; 30 MB of base64 take 2 s
MEMORY_BYTES = 768 << 20  # beyond what the interpreter has at its start; 30 MB of mail take 250 MB
GROWN_BYTES = 256 << 20  # then a fresh child is better
MOST_FRAME_BYTES = 96 << 20


class _Ours(pickle.Unpickler):
    """Makes nothing but the values of `routing.channel`, accounts, and times."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("routing.channel", "routing.site") or (module, name) in (
            ("datetime", "datetime"),
            ("datetime", "timezone"),
            ("datetime", "timedelta"),
            ("datetime", "UTC"),
        ):
            found = super().find_class(module, name)
            if isinstance(found, type) or name == "UTC":
                return found
        raise pickle.UnpicklingError(f"not to be made: {module}.{name}")


def load(frame: bytes) -> Any:
    """What a frame of the child holds; raises UnpicklingError for anything that is no value of ours."""
    return _Ours(io.BytesIO(frame)).load()


def _read(stream: BinaryIO) -> bytes | None:
    size = stream.read(4)
    return stream.read(int.from_bytes(size, "big")) if len(size) == 4 else None


def heard(raw: bytes, account: Account) -> tuple[Heard, ...]:
    """As email.parse, with HTML cleaned; what cannot be cleaned goes along as a file."""
    return tuple(
        _cleaned(one) if isinstance(one, Wrote) and one.html else one for one in email.parse(raw, account)
    )


def _cleaned(one: Wrote) -> Wrote:
    html = letter.clean(one.html)
    if html or not one.html.strip():
        return replace(one, html=html)
    whole = File("file", name="message.html", type="text/html", content=one.html.encode("utf-8", "replace"))
    return replace(one, html="", files=(*one.files, whole))


def _limit() -> None:
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - Linux's count of our own pages
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))


def main() -> None:
    cpu_s = int(sys.argv[1]) if len(sys.argv) > 1 else CPU_S
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    heard(b"From: a@example.org\n\nwarm", Account("warm", "email"))
    _limit()
    while (frame := _read(stdin)) is not None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        until = int(usage.ru_utime + usage.ru_stime) + cpu_s
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
        account, raw = load(frame)
        del frame
        answer = pickle.dumps(heard(raw, account), protocol=5)
        if len(answer) > MOST_FRAME_BYTES:
            answer = pickle.dumps(email.quarantined(raw, account, "too large when decoded"), protocol=5)
        stdout.write(len(answer).to_bytes(4, "big") + answer)
        stdout.flush()
        del account, raw, answer
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > GROWN_BYTES:
            return


if __name__ == "__main__":
    main()
