"""The command `monofil`."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import platform
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from config import logs
from config import settings as settings_of
from config.failures import CANNOT_START, FAILED, Failure, sentence
from config.settings import Settings

app = typer.Typer(
    name="monofil",
    help="A hotline server: telephone and written channels in one distribution engine, under one case history.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
user_app = typer.Typer(help="People who sign in.", no_args_is_help=True)
secret_app = typer.Typer(no_args_is_help=True, help="Secrets of channels.")
db_app = typer.Typer(help="The database.", no_args_is_help=True)
tree_app = typer.Typer(help="Trees, before they are published.", no_args_is_help=True)
app.add_typer(user_app, name="user")
app.add_typer(secret_app, name="secret")
app.add_typer(db_app, name="db")
app.add_typer(tree_app, name="tree")

T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="Write JSON for programs.")]
Organisation = Annotated[
    str | None, typer.Option(help="Short name of the organisation, where there are several.")
]
Lang = Annotated[str, typer.Option("--lang", help="Language of the answer: en or fr.")]
SiteFile = Annotated[Path, typer.Argument(metavar="SITE.yaml", help="The site file.")]

_settings: Settings | None = None


# typer's own error of usage; its root class has no public name of its own
USAGE = cast("type[Any]", typer.BadParameter.__mro__[2])


def _language() -> str:
    spoken = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "fr" if spoken.lower().startswith("fr") else "en"


LANGUAGE = _language()


def _load() -> Settings:
    global _settings
    _settings = settings_of.load()
    logs.set_up(_settings.log_level, _settings.log_format, keep_personal=_settings.log_personal)
    return _settings


def _quiet() -> Settings:
    """The settings for a short command: only what goes wrong is logged."""
    loaded = _load()
    if not loaded.model_fields_set & {"log_level"}:
        logs.set_up("error", loaded.log_format, keep_personal=loaded.log_personal)
    return loaded


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def _serve(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop where it is there; what nobody handles is logged and counted."""

    async def watched() -> T:
        logs.watch(asyncio.get_running_loop())
        return await work

    try:
        import uvloop
    except ImportError:
        return asyncio.run(watched())
    return uvloop.run(watched())


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str))


def _lines(sentences: list[str]) -> None:
    for line in sentences:
        print(line, file=sys.stderr)


def _exit(code: int) -> NoReturn:
    raise typer.Exit(code)


@app.command()
def serve(
    site: Annotated[
        Path | None,
        typer.Argument(metavar="[SITE.yaml]", help="Applied when the database holds no site yet."),
    ] = None,
) -> None:
    """Run the server until SIGTERM; running calls may then end (MONOFIL_DRAIN_S)."""
    loaded = _load()
    if site is not None:
        _checked(site, LANGUAGE)
    wiring = _part("config.wiring")
    _exit(_serve(wiring.serve(loaded, site)) or 0)


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Play one scripted minute, confirm each step, and end.")
    ] = False,
) -> None:
    """Run the server with the sample site, advisors whose phones answer, and callers."""
    loaded = _load()
    _exit(_serve(_part("config.demo").run(loaded, once=once)) or 0)


def _part(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise Failure(
            f"{name} is not part of this installation: install Monofil again.", CANNOT_START
        ) from None


def _checked(path: Path, language: str) -> Any:
    """The Site in a file without mistakes; else every mistake is printed, and the process ends with 2."""
    from config import site as site_file

    checked = site_file.check(path, site_file.shipped_sounds() or None)
    _lines([warning.say(language) for warning in checked.warnings])
    if checked.site is None:
        _lines(checked.sentences(language))
        many = f"{len(checked.mistakes)} mistake{'s' if len(checked.mistakes) > 1 else ''}"
        raise Failure(f"{path} has {many}: mend what is listed above.", CANNOT_START)
    return checked.site


@app.command()
def check(site: SiteFile, as_json: Json = False, lang: Lang = LANGUAGE) -> None:
    """Tell every mistake of a site file and its trees, with line and cure."""
    from config import site as site_file

    checked = site_file.check(site, site_file.shipped_sounds() or None)
    if as_json:
        _print_json(
            [
                {
                    "file": m.file,
                    "line": m.line or None,
                    "path": m.where,
                    "code": m.code,
                    "what": m.words(lang)[0],
                    "cure": m.words(lang)[1],
                    "warning": m.warning,
                }
                for m in (*checked.mistakes, *checked.warnings)
            ]
        )
    else:
        _lines([m.say(lang) for m in checked.warnings])
        _lines(checked.sentences(lang))
        if checked.site is not None:
            found = checked.site
            print(
                f"{site}: no mistake. {len(found.queues)} queues, {len(found.advisors)} advisors, "
                f"{len(found.numbers)} numbers, {len(found.trees)} trees."
            )
    _exit(0 if checked.site is not None else CANNOT_START)


@app.command()
def apply(
    site: SiteFile,
    force: Annotated[
        bool, typer.Option(help="Also when that loses changes made since the last apply.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a site file into the running server, or into the database while no server runs."""
    from config import commands

    loaded = _quiet()
    applied = _run(commands.apply(loaded, _checked(site, LANGUAGE), force=force))
    if as_json:
        _print_json(asdict(applied))
    if applied.refused:
        if not as_json:
            _lines(list(applied.lost))
        raise Failure(
            "The site has been changed since the last apply; the lines above would change back. "
            "Take them into the file (`monofil export`), or lose them with --force."
        )
    if not as_json:
        if applied.lost:
            _lines(list(applied.lost))
        done = "now in force" if applied.changed else "in force already; nothing changed"
        print(f"{site}: version {applied.version} is {done}.")


@app.command()
def export(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file.")] = None,
    organisation: Organisation = None,
) -> None:
    """Write the site that is in force as YAML; to apply it changes nothing."""
    from config import commands
    from config.site import export as written

    text = written(_run(commands.export(_quiet(), organisation)).site)
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")


@app.command()
def settings(as_json: Json = False) -> None:
    """Print every setting: its variable, meaning, unit, default and value."""
    described = list(settings_of.describe(_quiet()))
    if as_json:
        _print_json([asdict(item) for item in described])
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table("Variable", "Meaning", "Unit", "Default", "Value", show_lines=False, pad_edge=False)
    group = ""
    for item in described:
        if group and group != item.group:
            table.add_section()
        group = item.group
        style = "bold" if item.is_set else "none"
        table.add_row(
            *(escape(part) for part in (item.variable, item.meaning, item.unit, item.default, item.value)),
            style=style,
        )
    console.print(table)
    console.print(
        "Bold values were set. A secret may be given as a file: MONOFIL_DATABASE_URL_FILE=/run/secrets/db."
    )


@app.command()
def why(
    interaction: Annotated[str, typer.Argument(help="The id of an interaction.")],
    organisation: Organisation = None,
    as_json: Json = False,
    lang: Lang = LANGUAGE,
) -> None:
    """Tell why an interaction was offered to whom it was offered."""
    from config import commands

    offers = _run(commands.why(_quiet(), interaction, lang, organisation))
    if as_json:
        _print_json(offers)
        return
    if not offers:
        print("It was never offered to anybody." if lang != "fr" else "Elle n'a été proposée à personne.")
    for offer in offers:
        print(f"{offer['at']} → {offer['advisor']} ({offer['how'] or '…'})")
        for line in offer["sentences"]:
            print(f"  {line}")


def _password(given: bool) -> tuple[str, bool]:
    """(password, was it made up). With --stdin the first line of standard input."""
    from cti.aio.sessions import made_up_password

    if not given:
        return made_up_password(), True
    text = sys.stdin.readline().rstrip("\r\n")
    if len(text) < 12:
        raise Failure(
            "A password has at least 12 characters: give a longer one on standard input.", CANNOT_START
        )
    return text, False


@user_app.command("passwd")
def user_passwd(
    login: Annotated[str, typer.Argument(help="Who.")],
    phone: Annotated[
        bool, typer.Option("--phone", help="The password of their phone account instead.")
    ] = False,
    stdin: Annotated[bool, typer.Option("--stdin", help="Take the password from standard input.")] = False,
    organisation: Organisation = None,
    as_json: Json = False,
) -> None:
    """Set a new password: one made up and shown once, or the one on standard input. Ends their sign-ins."""
    from config import commands

    loaded = _quiet()
    password, made_up = _password(stdin)
    account = _run(commands.set_password(loaded, login, password, phone=phone, organisation=organisation))
    _tell_password(account, password if made_up else None, as_json, loaded.sip_realm if phone else None)


@user_app.command("add")
def user_add(
    login: Annotated[str, typer.Argument(help="Short name in small letters.")],
    first_name: Annotated[str, typer.Option("--first", help="First name.")],
    last_name: Annotated[str, typer.Option("--last", help="Last name.")],
    role: Annotated[
        list[str] | None, typer.Option("--role", help="advisor, supervisor or admin; may be repeated.")
    ] = None,
    phone: Annotated[str | None, typer.Option("--phone", help="User part of their phone account.")] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Take the password from standard input.")] = False,
    organisation: Organisation = None,
    as_json: Json = False,
) -> None:
    """Add a person to the site that is in force, with a password."""
    from config import commands
    from routing.site import Advisor

    loaded = _quiet()
    password, made_up = _password(stdin)
    person = Advisor(login, first_name, last_name, roles=tuple(role or ["advisor"]), phone=phone)
    _run(commands.add_user(loaded, person, password, organisation))
    _tell_password(login, password if made_up else None, as_json, None)


def _tell_password(account: str, password: str | None, as_json: bool, realm: str | None) -> None:
    if as_json:
        told = {"account": account, "password": password, "realm": realm}
        _print_json({key: value for key, value in told.items() if value is not None})
    elif password is None:
        print(f"The password of {account} is set.")
    else:
        print(f"{account}: {password}\nIt is shown this once and kept nowhere.")


@secret_app.command("set")
def secret_set(
    account: Annotated[str, typer.Argument(help="A channel's account in the site file.")],
    name: Annotated[str, typer.Argument(help="Which secret, like page_token; `monofil secret list` tells.")],
    organisation: Organisation = None,
) -> None:
    """Keep a secret of a channel, read from standard input, in the database."""
    from config import commands

    value = sys.stdin.readline().rstrip("\r\n")
    if not value:
        raise Failure("Give the secret on standard input, in one line.", CANNOT_START)
    _run(commands.set_channel_secret(_quiet(), account, name, value, organisation))
    print(f"The {name} of {account} is set.")


SECRET_STATES = {"needed": "missing", "optional": "not set (optional)", "made": "made by the server"}


@secret_app.command("list")
def secret_list(organisation: Organisation = None, as_json: Json = False) -> None:
    """Tell which secrets the channels need, and which are there; never their text."""
    from config import commands

    found = _run(commands.channel_secrets(_quiet(), organisation))
    if as_json:
        _print_json([asdict(row) for row in found])
        return
    for row in found:
        state = "set" if row.is_set else SECRET_STATES[row.need]
        print(f"{row.account} ({row.channel}) {row.name}: {state}")


@app.command("webhooks")
def webhooks(
    account: Annotated[str | None, typer.Argument(help="Only those of this account.")] = None,
    organisation: Organisation = None,
    as_json: Json = False,
) -> None:
    """List the last stored requests of providers, and what became of them."""
    from config import commands

    found = _run(commands.requests(_quiet(), account, organisation))
    if as_json:
        _print_json(
            [
                {
                    "id": str(it.request.id),
                    "account": it.request.account,
                    "at": it.request.at.isoformat(),
                    "handled_at": it.handled_at.isoformat() if it.handled_at else None,
                    "tries": it.tries,
                    "result": dict(it.result),
                }
                for it in found
            ]
        )
        return
    for it in found:
        state = "handled" if it.handled_at else "waiting"
        became = commands.what_became(it.result)
        words = f"{state}: {became}" if became else state
        print(f"{it.request.id} {it.request.at:%Y-%m-%d %H:%M:%S} {it.request.account}: {words}")


@app.command("replay-webhook")
def replay_webhook(
    request: Annotated[str, typer.Argument(metavar="ID", help="The id of a stored request.")],
    organisation: Organisation = None,
) -> None:
    """Handle a stored request of a provider again; what is known already changes nothing."""
    from config import commands

    found = _run(commands.replay(_quiet(), request, organisation))
    print(f"{found.request.id} of {found.request.account} will be handled again by the running server.")


@db_app.command("upgrade")
def db_upgrade(as_json: Json = False) -> None:
    """Bring the tables up to this version."""
    from config import commands

    done = _run(commands.upgrade(_quiet()))
    if as_json:
        _print_json({"applied": done})
    else:
        print(f"Applied: {', '.join(f'{number:04}' for number in done)}." if done else "Nothing to do.")


@db_app.command("status")
def db_status(as_json: Json = False) -> None:
    """Tell the database's version, place, size and newest event, and whether each migration was applied."""
    from config import commands

    found = _run(commands.status(_quiet()))
    if as_json:
        names = ("number", "name", "applied")
        _print_json(
            {**asdict(found), "migrations": [dict(zip(names, m, strict=True)) for m in found.migrations]}
        )
    else:
        newest = (
            f"; the newest {found.newest_event_at:%Y-%m-%d %H:%M:%S} UTC" if found.newest_event_at else ""
        )
        print(f"PostgreSQL {found.postgresql}: {found.place}")
        print(f"{found.size_bytes / 1e6:.1f} MB, {found.events} events{newest}")
        for number, name, applied in found.migrations:
            print(f"{number:04} {name}: {'applied' if applied else 'to be applied (monofil db upgrade)'}")
    _exit(0 if all(applied for _, _, applied in found.migrations) else FAILED)


@tree_app.command("check")
def tree_check(
    files: Annotated[list[Path], typer.Argument(metavar="TREE.yaml…", help="Tree files; subtrees together.")],
    as_json: Json = False,
) -> None:
    """Tell every mistake of tree files by themselves; `monofil check` also knows queues and hours."""
    from config.document import read
    from config.site import shipped_sounds, shipped_texts
    from ivr import tree
    from ivr.text import in_writing

    documents = {file: read(_text(file), str(file)) for file in files}
    trees = {
        str(d.data.get("tree", f.stem)): d.data for f, d in documents.items() if isinstance(d.data, dict)
    }
    context = tree.Context(prompts=shipped_sounds() or None, texts=in_writing(shipped_texts()), trees=trees)
    told: list[dict[str, Any]] = []
    for file, document in documents.items():
        told += [
            {
                "file": m.file,
                "line": m.line,
                "path": m.where,
                "what": m.words()[0],
                "cure": m.words()[1],
                "warning": False,
            }
            for m in document.mistakes
        ]
        if isinstance(document.data, dict):
            told += [
                {
                    "file": str(file),
                    "line": m.line,
                    "path": m.path,
                    "what": m.what,
                    "cure": m.cure,
                    "warning": m.warning,
                }
                for m in tree.check(document.data, context, document.line)
            ]
    if as_json:
        _print_json(told)
    else:
        _lines([f"{m['file']}:{m['line']}: {m['path']}: {m['what']}; {m['cure']}." for m in told])
    wrong = any(not m["warning"] for m in told)
    if not wrong and not as_json:
        print(f"{', '.join(map(str, files))}: no mistake.")
    _exit(CANNOT_START if wrong else 0)


@tree_app.command("simulate")
def tree_simulate(
    files: Annotated[
        list[Path], typer.Argument(metavar="TEST.yaml…", help="Flow tests: caller, clock, keys, nodes.")
    ],
    as_json: Json = False,
) -> None:
    """Walk trees as flow tests say, without a call, and compare the nodes passed."""
    from config.site import shipped_texts

    flowtest = _part("ivr.flowtest")
    results = [
        (
            file,
            flowtest.run_file(
                _text(file), lambda name, f=file: _text(f.parent / name), texts=shipped_texts()
            ),
        )
        for file in files
    ]
    if as_json:
        _print_json([{"file": str(file), "mistakes": list(wrong)} for file, wrong in results])
    else:
        for file, wrong in results:
            _lines([f"{file}: {line}" for line in wrong] or [f"{file}: as expected."])
    _exit(FAILED if any(wrong for _, wrong in results) else 0)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise Failure(f"{file} can't be read ({reason}): mend its path or rights.", CANNOT_START) from None


BENCHES = ("relay", "sip", "engine", "durable", "call", "webhooks", "desk", "inbox")


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Which; all if none is named.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter runs: ratios rather than figures.")] = False,
) -> None:
    """Measure, with the reference in the same run: a table and one JSON line each. Needs a checkout."""
    root = Path(__file__).resolve().parent.parent
    folder = root / "tests" / "bench"
    if not (folder / "__init__.py").is_file():
        raise Failure(
            "The benchmarks are not in the wheel: run `monofil bench` from a checkout of the source.",
            CANNOT_START,
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    if unknown := [name for name in names or () if name not in BENCHES]:
        raise Failure(f"There is no benchmark {unknown[0]}: choose from {', '.join(BENCHES)}.", CANNOT_START)
    logs.set_up("warning")
    cannot = importlib.import_module("tests.bench.figures").CannotMeasure
    missed = False
    for name in names or BENCHES:
        print(f"== {name} ==", flush=True)
        try:
            importlib.import_module(f"tests.bench.{name}").run(quick)
        except cannot as why:
            missed = True
            print(f"monofil: {name} was not measured: {why}.", file=sys.stderr)
    _exit(FAILED if missed else 0)


@app.command()
def version(as_json: Json = False) -> None:
    """Print the versions of Monofil, Python and PostgreSQL."""
    from routing.aio.cluster import find_binaries

    try:
        own = metadata.version("monofil")
    except metadata.PackageNotFoundError:
        own = "not installed (checkout)"
    found = find_binaries()
    told = {
        "monofil": own,
        "python": platform.python_version(),
        "postgresql": found.version if found else "none found",
        "machine": f"{platform.system()} {platform.machine()}",
    }
    if as_json:
        _print_json(told)
    else:
        print("\n".join(f"{name} {text}" for name, text in told.items()))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command. Errors whose cause is outside the program are one sentence; exit codes 0, 1 and 2."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except typer.Abort:
        code = 130
    except USAGE as error:
        error.show()
        code = CANNOT_START
    except typer.Exit as error:
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # `monofil export | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except BaseException as error:
        if (told := sentence(error, _settings)) is None:
            raise
        print(f"monofil: {told[0]}", file=sys.stderr)
        code = told[1]
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
