"""What stops a command, as one sentence that names the thing and the cure, with the exit code."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from config.settings import Settings, SettingsError
from routing.aio.cluster import CannotStart as DatabaseCannotStart
from routing.aio.postgres import WrongSchema
from routing.store import Unavailable

FAILED = 1  # the command ran and could not do it
CANNOT_START = 2  # usage, settings, site file, ports, database


class Failure(Exception):
    """Ends a command: `str(failure)` is printed to standard error, and the process exits with `code`."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.code = code


class CannotStart(Failure):
    """The server can't start: exit code 2."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, CANNOT_START)


@contextmanager
def binding(what: str, host: str, port: int, setting: str) -> Iterator[None]:
    """Around the opening of a socket: a port that is taken names itself and its setting (`MONOFIL_HTTP_PORT`)."""
    try:
        yield
    except OSError as error:
        raise CannotStart(_cannot_bind(error, what, host, port, setting)) from error


@contextmanager
def reading_pem(setting: str, path: object) -> Iterator[None]:
    """Around the reading of certificates: a file that holds none names itself and its setting."""
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror or error
        raise CannotStart(f"{path} can't be used as certificates ({why}): look at {setting}.") from error


def _cannot_bind(error: OSError, what: str, host: str, port: int, setting: str) -> str:
    at = f"{what} can't listen on {host} port {port}"
    if error.errno == errno.EADDRINUSE:
        return f"{at}, which another program uses: stop that program or set {setting} to a free port."
    if error.errno == errno.EACCES:
        return f"{at}, which needs more rights: set {setting} to a port above 1023."
    if error.errno == errno.EADDRNOTAVAIL:
        host_setting = re.sub("PORT$", "HOST", setting)
        return f"{at}: this machine has no such address; set {host_setting} to one of its own."
    return f"{at} ({error.strerror or error}): look at {setting}."


def sentence(error: BaseException, settings: Settings | None = None) -> tuple[str, int] | None:
    """(sentence, exit code) of an error whose cause lies outside the program; None for our own mistakes."""
    if isinstance(error, BaseExceptionGroup):
        told = [found for inner in error.exceptions if (found := sentence(inner, settings))]
        return told[0] if told and len(told) == len(error.exceptions) else None
    if isinstance(error, Failure):
        return str(error), error.code
    if isinstance(error, SettingsError | DatabaseCannotStart | WrongSchema):
        return str(error), CANNOT_START
    if (database := _of_database(error, settings)) is not None:
        return database, CANNOT_START
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return _port_of(error, settings), CANNOT_START
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return (
            f"{error.filename or 'A file'} can't be used ({error.strerror}): mend its path or rights.",
            CANNOT_START,
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
        where = error.filename or (settings.data_dir if settings else "the disk")
        return (
            f"{where} takes no more data ({error.strerror}): make room, or set MONOFIL_DATA_DIR.",
            CANNOT_START,
        )
    return None


_CURE = "start it, or mend MONOFIL_DATABASE_URL"


def _of_database(error: BaseException, settings: Settings | None) -> str | None:
    name = _database_name(settings)
    if isinstance(error, Unavailable):
        return f"The database {name} can't be reached ({error}): {_CURE}."
    if isinstance(error, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError):
        return f"The database {name} refuses the user or the password: mend MONOFIL_DATABASE_URL."
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return f"The server has no database {name}: create it, or mend MONOFIL_DATABASE_URL."
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return f"The user may not do this in the database {name} ({error}): grant it the rights of an owner."
    if isinstance(error, asyncpg.UndefinedTableError):
        return f"The database {name} has no tables of Monofil yet: run `monofil db upgrade`."
    if isinstance(error, asyncpg.TooManyConnectionsError | asyncpg.CannotConnectNowError):
        return f"The database {name} takes no connection now ({error}): try again, or raise its limits."
    refused = isinstance(error, ConnectionError | TimeoutError) or type(error).__name__ == "gaierror"
    if (
        settings is not None
        and settings.dsn
        and (refused or isinstance(error, asyncpg.PostgresConnectionError))
    ):
        return f"The database {name} can't be reached: {_CURE}."
    return None


def _database_name(settings: Settings | None) -> str:
    """Host and database without the password."""
    if settings is None or settings.dsn is None:
        return "below the data folder"
    return re.sub(r"^\w+://(?:[^@/]*@)?", "", settings.dsn).split("?")[0]


def _port_of(error: OSError, settings: Settings | None) -> str:
    found = re.search(r"\('([^']*)', (\d+)", str(error))
    if found is None or settings is None:
        return "A port is used by another program: stop it, or set MONOFIL_HTTP_PORT and MONOFIL_SIP_PORT."
    host, port = found[1], int(found[2])
    what, setting = (
        ("SIP", "MONOFIL_SIP_PORT") if port == settings.sip_port else ("HTTP", "MONOFIL_HTTP_PORT")
    )
    return _cannot_bind(error, what, host, port, setting)
