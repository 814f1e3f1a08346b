"""Mail over TLS with true certificates, and logins by access token: Dovecot, aiosmtpd, our own listener."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import smtplib
import ssl
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult

from routing.aio.clock import SystemClock
from routing.aio.mail import FileCursors, Mailbox, Sender, showing, trusting
from routing.aio.tokens import NoToken, Tokens
from routing.channel import Failed, Failure, MailCall, Reply
from routing.channels.email import _result
from routing.site import Account
from tests.fakes import authority, dovecot
from tests.fakes.authority import Authority
from tests.fakes.dovecot import PASSWORD, Dovecot
from tests.installed import needs
from tests.routing.test_mail import DEADLINE_S, SERVICE, States, Taken, listening, numbered

NEEDS_DOVECOT, NEEDS_OPENSSL = needs(dovecot.PROGRAM), needs(authority.PROGRAM)
CALL = MailCall("service@exemple.fr", "jean@client.example", b"Subject: x\r\nDate: now\r\n\r\nBonjour\r\n")


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def box(
    server: Dovecot, taken: Taken, states: States, how: str, host: str = "localhost", **more: Any
) -> Mailbox:
    settings = {
        **SERVICE.settings,
        "imap_host": host,
        "imap_port": str(server.tls_port if how == "tls" else server.port),
        "imap_tls": how,
        "imap_user": "service",
        **more.pop("settings", {}),
    }
    secrets = more.pop("secrets", {"imap_password": PASSWORD})
    cursors = FileCursors(server.home / "cursors.json")
    more = {"backoff_s": (0.05, 0.2), **more}
    return Mailbox(replace(SERVICE, settings=settings), secrets, taken, cursors, told=states, **more)


@contextlib.asynccontextmanager
async def serving(**more: Any) -> AsyncIterator[Dovecot]:
    server = Dovecot(**more)
    try:
        await server.start()
        yield server
    finally:
        server.close()


@contextlib.asynccontextmanager
async def following(mailbox: Mailbox) -> AsyncIterator[None]:
    await mailbox.start()
    try:
        yield
    finally:
        await mailbox.close()


# Mailboxes


@pytest.mark.peer
@NEEDS_DOVECOT
@NEEDS_OPENSSL
async def test_a_mailbox_is_read_over_tls_from_a_server_of_the_company_s_own_authority(
    trusted: Authority,
) -> None:
    async with serving(certificate=trusted.of("DNS:localhost", "IP:127.0.0.1")) as server:
        for n, (how, host) in enumerate(
            (("tls", "localhost"), ("starttls", "localhost"), ("tls", "127.0.0.1"))
        ):
            taken, states = Taken(), States()
            server.deliver("service", numbered(n))
            async with following(box(server, taken, states, how, host, tls=trusting(trusted.certificate))):
                assert await states.next() == ("up", ""), how
                assert await taken.id() == f"<{n}@x>"


@pytest.mark.peer
@NEEDS_DOVECOT
@NEEDS_OPENSSL
async def test_a_certificate_that_proves_nothing_is_refused_with_the_reason_on_the_board(
    trusted: Authority,
) -> None:
    async with serving(certificate=trusted.of("DNS:mail.other.example", name="other")) as server:
        server.deliver("service", numbered(1))
        for how in ("tls", "starttls"):
            for tls, why in (
                (trusting(trusted.certificate), "Hostname mismatch"),
                (None, "unable to get local issuer"),
            ):
                taken, states = Taken(), States()
                async with following(box(server, taken, states, how, tls=tls)):
                    state, reason = await states.next()
                assert state == "down"
                assert reason.startswith("certificate refused: "), reason
                assert why in reason
                assert taken.mails.empty()
        assert server.flags("service") == [""], "nobody has logged in"


@pytest.mark.peer
@NEEDS_DOVECOT
@NEEDS_OPENSSL
async def test_without_starttls_at_the_server_no_password_is_said(trusted: Authority) -> None:
    async with serving() as server:
        taken, states = Taken(), States()
        async with following(box(server, taken, states, "starttls", tls=trusting(trusted.certificate))):
            state, reason = await states.next()
        assert state == "down"
        assert "TLS" in reason.upper()
        assert taken.mails.empty()


# Access tokens


class Endpoint:
    """A token endpoint (RFC 6749 5): gives `answers` one by one, then tokens that last."""

    def __init__(self, user: str = "service") -> None:
        self.user = user
        self.asked: list[dict[str, str]] = []
        self.answers: list[tuple[int, Any]] = []
        self.url = ""

    async def _post(self, request: web.Request) -> web.Response:
        self.asked.append({name: str(value) for name, value in (await request.post()).items()})
        status, told = self.answers.pop(0) if self.answers else (200, self.fresh())
        return web.json_response(told, status=status)

    def fresh(self, life_s: float = 3600, **more: Any) -> dict[str, Any]:
        made = dovecot.token(self.user, time.time() + life_s)
        return {"access_token": made, "token_type": "Bearer", "expires_in": 3600, **more}

    async def __aenter__(self) -> Endpoint:
        app = web.Application()
        app.router.add_post("/token", self._post)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{port}/token"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def settings(self) -> dict[str, str]:
        scope = "https://outlook.office365.com/.default"
        return {"auth": "xoauth2", "oauth_url": self.url, "oauth_client": "monofil", "oauth_scope": scope}


class HandTime(SystemClock):
    ahead_s = 0.0

    def unix(self) -> float:
        return super().unix() + self.ahead_s


async def test_a_token_is_kept_until_it_ends_and_asked_for_anew_when_it_is_refused() -> None:
    async with Endpoint() as endpoint:
        clock = HandTime()
        tokens = Tokens(clock)
        account = replace(SERVICE, settings={**SERVICE.settings, **endpoint.settings})
        secrets = {"oauth_secret": "s", "oauth_refresh": "first"}
        endpoint.answers = [(200, endpoint.fresh(refresh_token="second", n=1) | {"access_token": "A"})]
        assert await asyncio.gather(*(tokens.token(account, secrets) for _ in range(3))) == ["A"] * 3
        assert endpoint.asked == [
            {
                "grant_type": "refresh_token",
                "refresh_token": "first",
                "client_id": "monofil",
                "client_secret": "s",
                "scope": "https://outlook.office365.com/.default",
            }
        ]
        endpoint.answers = [(200, {"access_token": "B", "expires_in": 600})]
        assert await tokens.token(account, secrets, refused="A") == "B"
        assert endpoint.asked[-1]["refresh_token"] == "second"
        assert await tokens.token(account, secrets, refused="A") == "B", "another has had it renewed"
        clock.ahead_s = 541
        endpoint.answers = [(200, {"access_token": "C"})]
        assert await tokens.token(account, secrets) == "C"
        endpoint.answers = [(400, {"error": "invalid_grant", "error_description": "AADSTS70008: expired"})]
        with pytest.raises(NoToken, match="invalid_grant: AADSTS70008"):
            await tokens.token(account, secrets, refused="C")
        endpoint.answers = [(503, {})]
        with pytest.raises(ConnectionError):
            await tokens.token(account, secrets, refused="C")
        await tokens.token(account, {"oauth_secret": "s"})
        assert endpoint.asked[-1]["grant_type"] == "client_credentials"
    far = replace(account, settings={**account.settings, "oauth_url": "http://login.example/token"})
    with pytest.raises(NoToken, match="https"):
        await tokens.token(far, secrets)
    given = replace(SERVICE, settings={**SERVICE.settings, "auth": "xoauth2"})
    assert await tokens.token(given, {"oauth_token": "G"}) == "G"
    for told, refused in (({"oauth_token": "G"}, "G"), ({}, "")):
        with pytest.raises(NoToken):
            await tokens.token(given, told, refused=refused)


@pytest.mark.peer
@NEEDS_DOVECOT
async def test_a_mailbox_is_read_with_an_access_token_and_an_old_one_is_renewed() -> None:
    async with serving(tokens=True) as server, Endpoint() as endpoint:
        endpoint.answers = [(200, endpoint.fresh(life_s=-60))]
        taken, states = Taken(), States()
        server.deliver("service", numbered(1))
        secrets = {"oauth_secret": "s", "oauth_refresh": "r"}
        async with following(box(server, taken, states, "none", settings=endpoint.settings, secrets=secrets)):
            assert await states.next() == ("up", "")
            assert await taken.id() == "<1@x>"
        assert len(endpoint.asked) == 2


@pytest.mark.peer
@NEEDS_DOVECOT
async def test_a_refused_login_is_on_the_board_and_is_not_tried_again_and_again() -> None:
    waits: list[float] = []
    enough = threading.Event()

    class Hasty(Mailbox):
        """Waits in name only."""

        def _wait_for(self, seconds: float) -> None:
            waits.append(seconds)
            if len(waits) >= 4:
                enough.set()
                super()._wait_for(seconds)

    async with serving(tokens=True) as server, Endpoint() as endpoint:
        taken, states = Taken(), States()
        settings = {
            **SERVICE.settings,
            "imap_host": "127.0.0.1",
            "imap_port": str(server.port),
            "imap_tls": "none",
            "imap_user": "somebody-else",
            **endpoint.settings,
        }
        cursors = FileCursors(server.home / "cursors.json")
        account = replace(SERVICE, settings=settings)
        mailbox = Hasty(account, {"oauth_secret": "s"}, taken, cursors, told=states)
        endpoint.answers = [
            (200, endpoint.fresh(life_s=-90)),
            (200, endpoint.fresh(life_s=-91)),
            (400, {"error": "invalid_client"}),
        ]
        async with following(mailbox):
            assert await states.next() == ("down", "login refused")
            state, reason = await states.next()
            assert (state, "invalid_client" in reason) == ("down", True)
            assert await asyncio.to_thread(enough.wait, DEADLINE_S)
        assert waits == [300.0, 600.0, 1200.0, 2400.0], "seconds"


# Sending


class Keeper:
    """aiosmtpd with a door: what it is told by AUTH is checked to the byte (Google's XOAUTH2)."""

    def __init__(self, tokens: tuple[str, ...] = (), password: str = "") -> None:
        self.tokens, self.password = tokens, password
        self.mails: list[bytes] = []
        self.tried: list[str] = []
        self.encrypted: list[bool] = []

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        said = base64.b64decode(args[1], validate=True).decode()
        user, bearer, *rest = said.split("\x01")
        assert (user, rest) == ("user=service", ["", ""]), said
        assert bearer.startswith("auth=Bearer ")
        self.tried.append(bearer.removeprefix("auth=Bearer "))
        if self.tried[-1] in self.tokens:
            return AuthResult(success=True)
        why = json.dumps({"status": "401", "schemes": "bearer", "scope": "https://mail.google.com/"})
        assert await server.challenge_auth(why) == b"", "an empty line ends it"
        return AuthResult(success=False, handled=False)

    async def auth_PLAIN(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        self.tried.append(base64.b64decode(args[1]).decode().split("\x00")[2])
        return AuthResult(success=self.tried[-1] == self.password, handled=False)

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        self.encrypted.append(session.ssl is not None)
        self.mails.append(envelope.content)
        return "250 OK"


@contextlib.asynccontextmanager
async def relay(
    keeper: Keeper, certificate: tuple[Path, Path] | None, how: str, host: str = "localhost", **settings: str
) -> AsyncIterator[Account]:
    """A mail server that wants TLS before all else, and a login where the keeper has one."""
    tls = showing(*certificate) if certificate else None
    sessions: list[SMTP] = []

    def session() -> SMTP:
        made = SMTP(
            keeper,
            loop=asyncio.get_running_loop(),
            hostname="relay.example",
            tls_context=tls if how == "starttls" else None,
            require_starttls=how == "starttls" and tls is not None,
            auth_required=how == "starttls" and bool(keeper.tokens or keeper.password),
            auth_require_tls=how == "starttls",
            auth_exclude_mechanism=["LOGIN", "PLAIN"] if keeper.tokens else ["LOGIN", "XOAUTH2"],
        )
        sessions.append(made)
        return made

    server = await asyncio.get_running_loop().create_server(
        session, "127.0.0.1", 0, ssl=tls if how == "tls" else None
    )
    port = server.sockets[0].getsockname()[1]
    try:
        yield replace(
            SERVICE,
            settings={
                **SERVICE.settings,
                "smtp_host": host,
                "smtp_port": str(port),
                "smtp_tls": how,
                **settings,
            },
        )
    finally:
        server.close()
        await server.wait_closed()
        for one in sessions:
            if one.transport is not None:
                one.transport.close()
            if one._handler_coroutine is not None:
                await asyncio.gather(one._handler_coroutine, return_exceptions=True)


@NEEDS_OPENSSL
@pytest.mark.parametrize("how", ["tls", "starttls"])
async def test_a_mail_is_sent_over_tls_to_a_server_of_the_company_s_own_authority(
    trusted: Authority, how: str
) -> None:
    keeper = Keeper()
    async with relay(keeper, trusted.of("DNS:localhost"), how) as account:
        reply = await Sender(tls=trusting(trusted.certificate), timeout_s=10).send(account, {}, CALL)
    assert (reply.status, reply.stranger) == (250, False)
    assert len(keeper.mails) == 1
    assert how == "tls" or keeper.encrypted == [True]


@NEEDS_OPENSSL
@pytest.mark.parametrize("how", ["tls", "starttls"])
async def test_a_server_that_is_another_is_told_nothing_and_the_mails_wait(
    trusted: Authority, how: str
) -> None:
    keeper = Keeper(password="secret")
    async with relay(
        keeper, trusted.of("DNS:mail.other.example", name="other"), how, smtp_user="service"
    ) as account:
        for tls, why in (
            (trusting(trusted.certificate), b"Hostname mismatch"),
            (None, b"unable to get local issuer"),
        ):
            reply = await Sender(tls=tls, timeout_s=10).send(account, {"smtp_password": "secret"}, CALL)
            assert (reply.status, reply.lost, reply.stranger) == (0, False, True)
            assert reply.body.startswith(b"localhost: certificate refused: ")
            assert why in reply.body
            result = _result(reply, "<x>")
            assert isinstance(result, Failed)
            assert result.failure == Failure.ACCOUNT, "the account is down, no mail fails for it"
    assert (keeper.mails, keeper.tried) == ([], [])


async def test_without_starttls_at_the_server_nothing_is_sent() -> None:
    keeper = Keeper()
    async with relay(keeper, None, "starttls") as account:
        reply = await Sender(timeout_s=10).send(account, {}, CALL)
    assert (reply.status, reply.lost, keeper.mails) == (0, False, [])


@NEEDS_OPENSSL
async def test_a_mail_is_sent_with_an_access_token_and_an_old_one_is_renewed(trusted: Authority) -> None:
    keeper = Keeper(tokens=("new",))
    async with Endpoint() as endpoint:
        endpoint.answers = [(200, {"access_token": "old"}), (200, {"access_token": "new"})]
        more = {"smtp_user": "service", **endpoint.settings}
        async with relay(keeper, trusted.of("DNS:localhost"), "starttls", **more) as account:
            sender = Sender(tls=trusting(trusted.certificate), timeout_s=10)
            replies = [await sender.send(account, {"oauth_secret": "s"}, CALL) for _ in range(2)]
            assert [reply.status for reply in replies] == [250, 250]
            assert keeper.tried == ["old", "new", "new"]
            keeper.tokens = ("newest",)
            endpoint.answers = [(400, {"error": "invalid_grant"})]
            reply = await sender.send(account, {"oauth_secret": "s"}, CALL)
    assert (reply.status, reply.lost) == (535, False)
    assert b"invalid_grant" in reply.body
    assert isinstance(result := _result(reply, "<x>"), Failed)
    assert result.failure == Failure.TOKEN
    assert len(keeper.mails) == 2


@NEEDS_OPENSSL
async def test_a_given_token_that_is_refused_is_tried_once(trusted: Authority) -> None:
    keeper = Keeper(tokens=("right",))
    more = {"smtp_user": "service", "auth": "xoauth2"}
    async with relay(keeper, trusted.of("DNS:localhost"), "starttls", **more) as account:
        sender = Sender(tls=trusting(trusted.certificate), timeout_s=10)
        reply = await sender.send(account, {"oauth_token": "wrong"}, CALL)
        assert reply == Reply(535, body=b"the access token is refused")
        assert (await sender.send(account, {"oauth_token": "right"}, CALL)).status == 250
    assert keeper.tried == ["wrong", "right"]


# Listening


@NEEDS_OPENSSL
async def test_our_listener_offers_starttls_and_takes_mail_over_it(trusted: Authority) -> None:
    taken = Taken()
    async with listening(taken, tls=showing(*trusted.of("DNS:localhost"))) as listener:

        def send() -> str:
            with smtplib.SMTP("localhost", listener.port, timeout=10) as client:
                client.starttls(context=trusting(trusted.certificate))
                client.sendmail("jean@client.example", ["service@exemple.fr"], "Subject: x\n\nBonjour\n")
                assert isinstance(client.sock, ssl.SSLSocket)
                return str(client.sock.version())

        assert (await asyncio.to_thread(send)) in ("TLSv1.2", "TLSv1.3")
        assert (await taken.next())[1].endswith(b"Bonjour\r\n")
