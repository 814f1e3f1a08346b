"""An authority of a test's own, which makes server certificates (Debian's openssl)."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROGRAM = "openssl"


class Authority:
    """`certificate` is what those who trust it are given."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = folder / "authority.key"
        self.certificate = folder / "authority.pem"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", "/CN=Authority of a test", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def of(self, *names: str, name: str = "server") -> tuple[Path, Path]:
        """(certificate, key) of a server with these names, such as DNS:localhost or IP:127.0.0.1."""
        key, asked, made = (self._folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        _openssl(
            *(
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                f"/CN={name}",
            ),
            *("-addext", f"subjectAltName={','.join(names)}", "-keyout", key, "-out", asked),
        )
        _openssl(
            *("x509", "-req", "-in", asked, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
            *("-days", "2", "-copy_extensions", "copy", "-out", made),
        )
        return made, key


def _openssl(*arguments: str | Path) -> None:
    subprocess.run([PROGRAM, *map(str, arguments)], check=True, capture_output=True, timeout=20)
