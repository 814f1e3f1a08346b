"""Debian's Dovecot as the IMAP server of a test: its own configuration and mail folders, below one temporary folder."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from itertools import count
from pathlib import Path

PROGRAM = shutil.which("dovecot") or "/usr/sbin/dovecot"
PASSWORD = "sesame-42"
KEY = b"the key of those who make tokens"
START_S = 15.0

CONFIG = """
protocols = imap
listen = 127.0.0.1
base_dir = {home}/run
state_dir = {home}/state
instance_name = monofil-test-{port}
log_path = {home}/log
ssl = {ssl}
disable_plaintext_auth = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
mail_location = maildir:~/Maildir
first_valid_uid = 1
default_login_user = {login}
default_internal_user = {internal}
default_internal_group = {group}
default_process_limit = 20
passdb {{
  driver = {passwords}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={home}/mail/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
  chroot =
}}
{more}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"""


TOKENS = """
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={home}/keys/
username_attribute = sub
"""


class Dovecot:
    """One server; any user, one password. Mails are dropped into a user's Maildir as an MTA would."""

    def __init__(
        self, more: str = "", *, certificate: tuple[Path, Path] | None = None, tokens: bool = False
    ) -> None:
        """`more`: lines of configuration. `certificate`: (its file, its key's), for STARTTLS and for `tls_port`.

        `tokens`: users come with what `token` makes (XOAUTH2), not with the password.
        """
        self.home = Path(tempfile.mkdtemp(prefix="monofil-imap-", dir="/tmp"))
        self.home.chmod(0o755)
        root = os.getuid() == 0
        self._owner = pwd.getpwnam("nobody") if root else pwd.getpwuid(os.getuid())
        with socket.socket() as one, socket.socket() as two:
            for probe in (one, two):
                probe.bind(("127.0.0.1", 0))
            self.port, self.tls_port = (int(probe.getsockname()[1]) for probe in (one, two))
        ssl, passwords = "no", f"static\n  args = password={PASSWORD}"
        if certificate is not None:
            ssl = "yes\nssl_cert = <{}\nssl_key = <{}".format(*certificate)
        if tokens:
            passwords = f"oauth2\n  mechanisms = xoauth2\n  args = {self.home}/tokens.conf"
            (self.home / "tokens.conf").write_text(TOKENS.format(home=self.home))
            keys = self.home / "keys" / "default" / "HS256"
            keys.mkdir(parents=True)
            (keys / "default").write_text(base64.b64encode(KEY).decode())
        me = self._owner.pw_name
        (self.home / "dovecot.conf").write_text(
            CONFIG.format(
                home=self.home, port=self.port, tls_port=self.tls_port if certificate else 0, ssl=ssl,
                passwords=passwords, mechanisms="xoauth2" if tokens else "plain login",
                uid=self._owner.pw_uid, gid=self._owner.pw_gid,
                login="dovenull" if root else me, internal="dovecot" if root else me,
                more=more, group="dovecot" if root else str(self._owner.pw_gid),
            )
        )  # fmt: skip
        for name in ("run", "state", "mail"):
            (self.home / name).mkdir()
            (self.home / name).chmod(0o755)
        self._own(self.home / "mail")
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None

    def _own(self, path: Path) -> None:
        if os.getuid() == 0:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    async def start(self) -> None:
        """It says that it listens as it says it to systemd (sd_notify(3))."""
        told = self.home / "notify"
        told.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ears:
            ears.bind(str(told))
            ears.setblocking(False)
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork and nothing waited for
                [PROGRAM, "-F", "-c", str(self.home / "dovecot.conf")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"NOTIFY_SOCKET": str(told)},
            )
            try:
                async with asyncio.timeout(START_S):
                    while b"READY=1" not in await asyncio.get_running_loop().sock_recv(ears, 4096):
                        pass
            except TimeoutError:
                log = self.home / "log"
                raise AssertionError(log.read_text() if log.exists() else "dovecot said nothing") from None

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def folder(self, user: str) -> Path:
        return self.home / "mail" / user / "Maildir"

    def deliver(self, user: str, raw: bytes, *, seen: bool = False) -> None:
        folder = self.folder(user)
        for path in (folder.parent, folder, folder / "tmp", folder / "new", folder / "cur"):
            if not path.exists():
                path.mkdir()
                self._own(path)
        name = f"17000000{next(self._numbers):02d}.M{os.getpid()}.test"
        written = folder / "tmp" / name
        written.write_bytes(raw)
        self._own(written)
        written.rename(folder / "cur" / f"{name}:2,S" if seen else folder / "new" / name)

    def flags(self, user: str) -> list[str]:
        """The flags of each mail of a user, oldest first."""
        folder = self.folder(user)
        found = [*folder.glob("new/*"), *folder.glob("cur/*")]
        return [path.name.partition(":2,")[2] for path in sorted(found, key=lambda path: path.name)]

    def forget_uids(self, user: str) -> None:
        """As after a restored backup: another UIDVALIDITY."""
        for path in self.folder(user).glob("dovecot*"):
            path.unlink()
        uids = self.folder(user) / "dovecot-uidlist"
        uids.write_text("3 V1234567 N1 G0123456789abcdef0123456789abcdef\n")
        self._own(uids)


def token(user: str, until: float) -> str:
    """An access token (RFC 7519, HS256) that ends at `until`, in unix seconds."""
    said = {"sub": user, "iat": int(until) - 3600, "exp": int(until)}
    parts = b".".join(_url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, said))
    return (parts + b"." + _url(hmac.new(KEY, parts, hashlib.sha256).digest())).decode()


def _url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
