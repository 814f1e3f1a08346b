"""Mails as they come, and ours as they go: what is read, what is believed, what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.channel import (
    Button,
    Enclosed,
    Failed,
    Failure,
    Heard,
    MailCall,
    Outgoing,
    Perhaps,
    Receipt,
    Reply,
    Request,
    Result,
    Sent,
    Unknown,
    Wrote,
)
from routing.channels import email
from routing.site import Account

LETTERS = Path(__file__).parents[2] / "payloads" / "email" / "letters"
KEY = "a key of a test, long enough"
SECRETS = {"token_key": KEY}
MESSAGE = UUID("01a0c450-6c00-7000-8000-000000000005")
ACCOUNT = Account(
    "mail",
    "email",
    name="Service client",
    settings={
        "address": "service@exemple.fr",
        "own_addresses": "aide@exemple.fr",
        "authserv_id": "mx.exemple.fr",
    },
    signature={"fr": "{{ advisor.first_name }}\n{{ account.name }}", "en": "{{ advisor.first_name }}"},
)


def read(raw: bytes | str) -> Wrote:
    (heard,) = email.parse(raw.encode() if isinstance(raw, str) else raw, ACCOUNT)
    assert isinstance(heard, Wrote)
    return heard


def letter(name: str) -> tuple[Heard, ...]:
    return email.parse((LETTERS / name).read_bytes(), ACCOUNT)


def mail(head: str = "", body: str = "Bonjour", sender: str = "Jean <jean@client.example>") -> str:
    return f"Return-Path: <jean@client.example>\nFrom: {sender}\nTo: service@exemple.fr\n{head}\n{body}\n"


def written(reply: Reply | None = None, **more: object) -> tuple[MailCall, EmailMessage, Result | None]:
    fields = {"message": MESSAGE, "to": "jean@client.example", "text": "Bonjour", "case_number": 4521} | more
    rendering = email.render(Outgoing(**fields), ACCOUNT, SECRETS, {})  # type: ignore[arg-type]
    call = next(rendering)
    assert isinstance(call, MailCall)
    result: Result | None = None
    try:
        rendering.send(reply or Reply(250))
    except StopIteration as done:
        result = done.value
    parsed = message_from_bytes(call.content, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return call, parsed, result


# Reading


def test_a_reply_from_gmail_is_read_with_its_accents_its_token_and_who_proved_it() -> None:
    (heard,) = letter("reply_gmail_fr.eml")
    assert isinstance(heard, Wrote)
    assert (heard.peer.value, heard.peer.name) == ("jean.petit@gmail.example", "Jean Petit (à Lyon)")
    assert heard.subject == "Re: Votre colis n'est pas arrivé [#4521]"
    assert heard.text == "Bonjour Léa,\n\nToujours rien reçu ce matin.\n\nJean"
    assert heard.facts["quoted"].startswith("Le lun. 2 nov. 2026 à 18:02, Léa")
    assert "reçu ce matin" in heard.html
    assert heard.at == datetime(2026, 11, 3, 8, 14, 58, tzinfo=UTC)
    assert heard.case_number == 4521
    assert email.prove(heard.token, KEY) is None, "its check is not ours"
    assert heard.trusted
    assert not heard.automatic
    assert (heard.facts["spf"], heard.facts["dkim"], heard.facts["dmarc"]) == ("pass", "pass", "pass")


def test_a_photo_keeps_its_name_and_place_and_no_name_leads_out_of_a_folder() -> None:
    (heard,) = letter("photo_iphone_fr.eml")
    assert isinstance(heard, Wrote)
    assert [(f.kind, f.name, f.content_id) for f in heard.files] == [
        ("image", "photo abîmée.jpg", "photo1@orange.example"),
        ("file", "reçu.pdf", ""),
    ]
    assert heard.text.splitlines()[0] == "Voici la photo :"
    assert heard.subject == "Colis abîmé"


def test_a_mail_inside_a_mail_is_a_file_and_flowed_lines_are_one() -> None:
    (heard,) = letter("inside.eml")
    assert isinstance(heard, Wrote)
    assert heard.text == "Voyez la facture ci-jointe, elle est fausse."
    assert [(f.name, f.type) for f in heard.files] == [("Facture 42.eml", "message/rfc822")]
    assert b"Total : 12 EUR" in (heard.files[0].content or b"")
    assert heard.at is None, "its date cannot be read"


def test_a_bounce_tells_which_mail_of_ours_failed_and_a_delay_fails_nothing() -> None:
    (failed,) = letter("bounce_postfix.eml")
    assert isinstance(failed, Receipt)
    assert (failed.status, failed.peer.value) == ("failed", "parti@ailleurs.example")
    assert failed.external_ids == ("<019a43c5f10070008000000000000002.c77.bbbbbbbbbbbbbbbb@exemple.fr>",)
    assert failed.failure is not None
    assert (failed.failure.failure, failed.failure.code) == (Failure.GONE, "5.1.1")
    assert "User unknown" in failed.failure.why
    (delayed,) = letter("delayed_postfix.eml")
    assert isinstance(delayed, Wrote)
    assert (delayed.automatic, delayed.kind) == (True, "system")
    assert (delayed.facts["bounce"]["action"], delayed.facts["bounce"]["status"]) == ("delayed", "4.4.1")
    assert delayed.references[0] == failed.external_ids[0]
    assert delayed.files[0].name == "file.txt"
    (receipt,) = letter("receipt_outlook.eml")
    assert isinstance(receipt, Receipt)
    assert receipt.status == "read"


KINDS = """
    Auto-Submitted: auto-replied (vacation)        | machine | auto-submitted
    Auto-Submitted: auto-generated                 | machine | auto-submitted
    Auto-Submitted: no                             |         |
    Precedence: auto_reply                         | machine | auto-submitted
    X-Autoreply: yes                               | machine | auto-submitted
    Content-Type: multipart/report; boundary=b     | machine | report
    From: mailer-daemon@client.example             | machine | sender
    From: Aide <aide@exemple.fr>                   | machine | ourselves
    From: service+c1@exemple.fr                    | machine | ourselves
    Return-Path: <>                                | machine | null-sender
    Precedence: bulk                               | quiet   | precedence
    Precedence: LIST                               | quiet   | precedence
    Precedence: junk                               | quiet   | precedence
    Precedence: first-class                        |         |
    List-Id: <amis.exemple.org>                    | quiet   | list
    List-Unsubscribe: <mailto:x@y.z>               | quiet   | list
    X-Auto-Response-Suppress: DR, OOF, AutoReply   | quiet   | suppressed
    X-Auto-Response-Suppress: All                  | quiet   | suppressed
    X-Auto-Response-Suppress: DR                   |         |
    From: Postmaster <POSTMASTER@client.example>   | quiet   | sender
    From: no-reply@client.example                  | quiet   | sender
    From: noreply+bounce@client.example            | quiet   | sender
    From: ne-pas-repondre@client.example           | quiet   | sender
    From: noemie.reply@client.example              |         |
    Subject: Bonjour                               |         |
"""


@pytest.mark.parametrize("row", [row for row in KINDS.splitlines() if row.strip()])
def test_a_header_tells_a_machines_mail_from_one_that_only_gets_no_automatic_word(row: str) -> None:
    head, kind, why = (part.strip() for part in row.rsplit("|", 2))
    base = {"From": "jean@client.example", "Return-Path": "<jean@client.example>", "To": "service@exemple.fr"}
    name, _, value = head.partition(": ")
    fields = base | {name: value}
    heard = read("".join(f"{key}: {said}\n" for key, said in fields.items()) + "\nBonjour\n")
    facts = {"machine": heard.facts.get("automatic"), "quiet": heard.facts.get("quiet")}
    assert facts == {"machine": None, "quiet": None} | ({kind: [why]} if kind else {})
    assert heard.automatic is (kind == "machine")
    assert email.may_answer(heard.automatic, 0, heard.facts) is not bool(kind)


def test_what_reports_on_a_mail_of_ours_is_a_machines_whoever_sends_it() -> None:
    told = read(mail("X-Failed-Recipients: jean@client.example\n", sender="postmaster@client.example"))
    assert (told.automatic, told.kind, told.facts["automatic"]) == (True, "system", ["report"])


FORMS = """
    From: Site <noreply@www.exemple.fr>   | Paul Real <paul@client.example> | paul@client.example
    From: wordpress@www.exemple.fr        | paul@client.example             | paul@client.example
    From: Service <service@exemple.fr>    | paul@client.example             | paul@client.example
    From: aide@exemple.fr                 | "Real, P." <PAUL@client.example>| paul@client.example
    From: noreply@www.exemple.fr          | noreply@www.exemple.fr          | noreply@www.exemple.fr
    From: noreply@www.exemple.fr          | no-reply@client.example         | noreply@www.exemple.fr
    From: noreply@www.exemple.fr          | aide@exemple.fr                 | noreply@www.exemple.fr
    From: noreply@www.exemple.fr          |                                 | noreply@www.exemple.fr
    From: aide@exemple.fr                 | service@exemple.fr              | aide@exemple.fr
    From: Jean <jean@client.example>      | eve@other.example               | jean@client.example
    From: mailer-daemon@client.example    | paul@client.example             | mailer-daemon@client.example
"""


@pytest.mark.parametrize("row", [row for row in FORMS.splitlines() if row.strip()])
def test_who_wrote_by_a_form_is_who_is_to_be_answered_and_nobody_else_is_replaced(row: str) -> None:
    sender, answer_to, person = (part.strip() for part in row.split("|"))
    proved = "Authentication-Results: mx.exemple.fr; dmarc=pass\n"
    head = f"Return-Path: <www@exemple.fr>\n{sender}\nTo: service@exemple.fr\n{proved}"
    heard = read(f"{head}Reply-To: {answer_to}\n\nBonjour\n" if answer_to else f"{head}\nBonjour\n")
    assert heard.peer.value == person
    by_form = person == "paul@client.example"
    assert heard.facts.get("sent_by", "") == (sender.split()[-1].strip("<>") if by_form else "")
    if by_form:
        assert (heard.automatic, heard.facts["quiet"], heard.trusted) == (False, ["form"], False)
        assert heard.peer.name == {"P": "Paul Real", '"': "Real, P."}.get(answer_to[0], "")
        assert heard.facts["answer_to"] == person


def test_a_mail_of_ours_that_a_list_gives_back_is_no_form() -> None:
    given_back = mail("Reply-To: l@list.example\nList-Id: <l.list.example>\n", sender="service@exemple.fr")
    ours = f"Message-ID: {email.message_id(7, MESSAGE, 'exemple.fr', KEY)}\nReply-To: l@list.example\n"
    for raw in (given_back, mail(ours, sender="service@exemple.fr")):
        assert read(raw).automatic
        assert read(raw).facts["automatic"] == ["ourselves"]


NAMES = """
    Content-Disposition: attachment; filename="preuve.pdf"                              | preuve.pdf
    Content-Disposition: attachment; filename*=UTF-8''re%C3%A7u.pdf                     | reçu.pdf
    Content-Disposition: attachment; filename*0*=UTF-8''re%C3%A7; filename*1=u.pdf      | reçu.pdf
    Content-Disposition: attachment; filename*0="re"; filename*1="cu.pdf"               | recu.pdf
    Content-Disposition: attachment; filename*=iso-8859-1'fr're%E7u.pdf                 | reçu.pdf
    Content-Disposition: attachment; filename*=nonsense''re%E7u.pdf                     | reçu.pdf
    Content-Disposition: attachment; filename*=''re%C3%A7u.pdf                          | reçu.pdf
    Content-Disposition: attachment; filename*=re%C3%A7u.pdf                            | reçu.pdf
    Content-Disposition: attachment; filename="a.pdf"; filename*=UTF-8''re%C3%A7u.pdf   | reçu.pdf
    Content-Disposition: attachment; filename="=?utf-8?B?cmXDp3UucGRm?="                | reçu.pdf
    Content-Disposition: attachment; filename="reçu.pdf"                                | reçu.pdf
    Content-Disposition: attachment; filename=mon recu.pdf                              | mon recu.pdf
    Content-Disposition: attachment; filename=""; size=3                                | nom.pdf
    Content-Disposition: attachment                                                     | nom.pdf
    Content-Disposition: attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd%00          | passwd
    Content-Disposition: attachment; filename="C:\\\\docs\\\\a.pdf"                         | a.pdf
    Content-Disposition: attachment; filename*=UTF-8''%E2%80%AEfdp.exe                  | _fdp.exe
    Content-Disposition: attachment; filename="=?utf-8?Q?a=0Ab=07.pdf?="                | a b.pdf
"""


@pytest.mark.parametrize("row", [row for row in NAMES.splitlines() if row.strip()])
def test_a_file_keeps_the_name_it_was_given_in_whatever_way_that_is_written(row: str) -> None:
    head, _, name = (part.strip() for part in row.rpartition("|"))
    parts = f'Content-Type: application/pdf; name="nom.pdf"\n{head}\n\nJVBERi0=\n'
    (file,) = read(mail(f"Content-Type: multipart/mixed; boundary=b\n\n--b\n{parts}--b--\n", "")).files
    assert (file.name, file.type) == (name, "application/pdf")


@pytest.mark.parametrize(
    "told",
    [
        '; name="=?utf-8?Q?re=C3=A7?=\n =?utf-8?Q?u.pdf?="',
        "; name*=UTF-8''re%C3%A7u.pdf",
        '; name="reçu.pdf"',
    ],
)
def test_a_file_that_is_named_by_its_type_only_keeps_that_name(told: str) -> None:
    parts = f"Content-Type: application/pdf{told}\n\nJVBERi0=\n"
    (file,) = read(mail(f"Content-Type: multipart/mixed; boundary=b\n\n--b\n{parts}--b--\n", "")).files
    assert file.name == "reçu.pdf"


TRUST = """
    mx.exemple.fr; dmarc=pass header.from=client.example                     | yes
    mx.exemple.fr; dmarc=fail header.from=client.example; spf=pass smtp.mailfrom=jean@client.example | no
    mx.exemple.fr; dkim=pass header.d=client.example                         | yes
    mx.exemple.fr 1; spf=pass smtp.mailfrom=jean@client.example              | yes
    mx.exemple.fr; dkim=pass header.d=elsewhere.example                      | no
    mx.exemple.fr; spf=pass smtp.mailfrom=bad@elsewhere.example              | no
    mx.exemple.fr; dkim=pass header.d=example                                | no
    mx.exemple.fr; dmarc=pass header.from=elsewhere.example                  | no
    mx.elsewhere.example; dmarc=pass header.from=client.example              | no
    mx.exemple.fr.elsewhere.example; dmarc=pass header.from=client.example   | no
    mx.exemple.fr; spf=fail smtp.mailfrom="x; dmarc=pass"@client.example     | no
    mx.exemple.fr; spf=fail (x; dmarc=pass) smtp.mailfrom=a@client.example   | no
    mx.exemple.fr; none                                                      | no
"""


@pytest.mark.parametrize("row", [row for row in TRUST.splitlines() if row.strip()])
def test_only_our_own_servers_word_proves_a_sender(row: str) -> None:
    said, _, trusted = (part.strip() for part in row.rpartition("|"))
    assert read(mail(f"Authentication-Results: {said}\n")).trusted is (trusted == "yes")


def test_a_second_verdict_or_a_second_sender_proves_nothing() -> None:
    fails = "Authentication-Results: mx.exemple.fr; dmarc=fail header.from=client.example\n"
    passes = "Authentication-Results: mx.exemple.fr; dmarc=pass header.from=client.example\n"
    assert not read(mail(fails + passes)).trusted
    assert not read(mail(passes + fails)).trusted
    assert not read(mail(passes + "From: victim@client.example\n")).trusted
    assert not read(mail(passes, sender="a@client.example, b@client.example")).trusted


def test_a_token_of_ours_proves_its_case_and_one_of_somebody_else_does_not() -> None:
    ours = email.message_id(4521, MESSAGE, "exemple.fr", KEY)
    heard = read(mail(f"In-Reply-To: {ours}\nReferences: <x@y> {ours}\n"))
    assert email.prove(heard.token, KEY) == 4521
    assert heard.references == (ours, "<x@y>")
    assert email.prove(heard.token, "another key") is None
    assert email.prove(heard.token.replace("c4521", "c4522"), KEY) is None
    assert email.prove(heard.token.replace("@exemple.fr", "@exemple.com"), KEY) is None
    assert email.prove(heard.token.upper().replace(".C4521.", ".c4521."), KEY) == 4521
    assert heard.case_number == 0
    for head, number in (
        ("To: service+c77@exemple.fr\n", 77),
        ("Subject: Re: colis [#88]\n", 88),
        ("To: other+c77@exemple.fr\n", 0),
        ("", 0),
    ):
        unproved = read("From: a@b.example\n" + head + "\nx")
        assert (unproved.token, unproved.case_number) == ("", number)


def test_references_are_newest_first_and_never_endless() -> None:
    ids = [f"<{n}@x>" for n in range(400)]
    heard = read(mail(f"In-Reply-To: <399@x>\nReferences: {' '.join(ids)} {' '.join(ids)}\n"))
    assert len(heard.references) == email.MOST_REFERENCES
    assert heard.references[:2] == ("<399@x>", "<398@x>")
    assert heard.references[-1] == "<0@x>"


CHARSETS: Mapping[str, tuple[str, bytes]] = {
    "told right": ("iso-8859-1", "déçu".encode("latin-1")),
    "Windows text as Latin-1": ("iso-8859-1", "déçu – 5 €".encode("cp1252")),
    "Latin-1 told as UTF-8": ("utf-8", "déçu".encode("latin-1")),
    "UTF-8 told as Latin-1": ("iso-8859-1", "déçu".encode()),
    "UTF-8 told as ASCII": ("us-ascii", "déçu".encode()),
    "not told": ("", "déçu".encode()),
    "unknown": ("x-unknown-8bit", "déçu".encode()),
    "no charset at all": ("base64", "déçu".encode()),
    "Shift JIS": ("shift_jis", "déçu".replace("é", "e").replace("ç", "c").encode("shift_jis")),
}


@pytest.mark.parametrize("name", CHARSETS)
def test_a_charset_that_lies_is_seen_through(name: str) -> None:
    charset, body = CHARSETS[name]
    head = f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: 8bit\n"
    text = read(b"From: a@b.example\n" + head.encode() + b"\n" + body).text
    assert text in ("déçu", "decu", "déçu – 5 €")


HEADERS = """
    =?utf-8?q?D=C3=A9j=C3=A0?=                              | Déjà
    =?UTF-8?B?RMOpasOg?= =?utf-8?q?_vu?=                    | Déjà vu
    =?iso-8859-1?Q?D=E9j=E0?= vu                            | Déjà vu
    =?utf-8?q?a=0D=0ABcc=3A_x=40y?=                         | a Bcc: x@y
    =?x-none?q?abc?=                                        | abc
    =?utf-8?b?!!!?=                                         | =?utf-8?b?!!!?=
    plain                                                   | plain
"""


@pytest.mark.parametrize("row", [row for row in HEADERS.splitlines() if row.strip()])
def test_encoded_words_are_read_and_never_make_a_second_line(row: str) -> None:
    raw, said = (part.strip() for part in row.split("|"))
    assert read(mail(f"Subject: {raw}\n")).subject == said


def test_bare_bytes_in_a_header_are_read() -> None:
    assert read(b"From: a@b.example\nSubject: d\xc3\xa9j\xc3\xa0\n\nx").subject == "déjà"
    assert read(b"From: a@b.example\nSubject: d\xe9j\xe0\n\nx").subject == "déjà"


SENDERS = """
    Jean <Jean@Client.Example>                      | jean@client.example | Jean
    "Petit, Jean" <jean@client.example>             | jean@client.example | Petit, Jean
    "boss@bank.example" <jean@client.example>       | jean@client.example | boss@bank.example
    =?utf-8?q?=3Cboss=40bank.example=3E?= <jean@client.example> | jean@client.example | <boss@bank.example>
    jean@client.example (Jean)                      | jean@client.example | Jean
    <jean@client.example>                           | jean@client.example |
"""


@pytest.mark.parametrize("row", [row for row in SENDERS.splitlines() if row.strip()])
def test_the_sender_is_the_address_and_not_what_the_name_pretends(row: str) -> None:
    raw, address, name = (part.strip() for part in row.split("|"))
    peer = read(mail(sender=raw)).peer
    assert (peer.value, peer.name) == (address, name)


def test_a_mail_without_an_id_gets_the_same_one_each_time_whatever_way_it_came() -> None:
    one = read("Received: by a\nFrom: a@b.example\n\nx\n")
    again = read("Return-Path: <a@b.example>\r\nFrom: a@b.example\r\n\r\nx\r\n")
    other = read("From: a@b.example\n\ny\n")
    assert one.external_id == again.external_id != other.external_id


def test_a_date_that_cannot_be_is_replaced_by_the_servers() -> None:
    received = "Received: from x by mx.exemple.fr; Tue, 03 Nov 2026 09:15:02 +0100\n"
    there = datetime(2026, 11, 3, 8, 15, 2, tzinfo=UTC)
    for told in ("Wed, 01 Jan 2070 00:00:00 +0000", "Thu, 01 Jan 1970 00:00:00 +0000", "soon", ""):
        assert read(received + mail(f"Date: {told}\n")).at == there
    assert read(mail("Date: 99999999999\n")).at is None


HOSTILE = {
    "nested 3,000 deep": (
        b"From: a@b.example\n"
        + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3000)),
        "nested too deep",
    ),
    "message/rfc822 2,000 deep": (
        b"From: a@b.example\n" + b"Content-Type: message/rfc822\n\n" * 2000,
        "nested too deep",
    ),
    "100,000 parts": (
        b"From: a@b.example\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 100_000,
        "too many parts",
    ),
    "3,000 parts": (
        b"From: a@b.example\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 3000,
        "too many parts",
    ),
    "50,000 headers": (
        b"From: a@b.example\n" + b"".join(b"X-%d: y\n" % n for n in range(50_000)) + b"\nx",
        "header too large",
    ),
    "5,000 headers": (
        b"From: a@b.example\n" + b"X-A: y\n" * 5000 + b"\nx",
        "too many headers",
    ),
    "a header of 1 MB": (b"From: a@b.example\nX-A: " + b"a" * 1_000_000 + b"\n\nx", "header too large"),
    "parameters without end": (
        b"From: a@b.example\nContent-Type: text/plain" + b";a=b" * 50_000 + b"\n\nx",
        "header too large",
    ),
    "30 MB and a bit": (b"From: a@b.example\n\n" + b"a" * 30_000_001, "too large"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_mail_that_would_hurt_is_quarantined_with_its_sender_and_the_reason(name: str) -> None:
    raw, reason = HOSTILE[name]
    heard = read(raw)
    assert heard.facts["quarantined"] == reason
    assert (heard.peer.value, heard.trusted, heard.text) == ("a@b.example", False, email.NOT_OPENED)
    assert not email.may_answer(heard.automatic, 0, heard.facts)


def test_references_that_go_in_circles_are_only_ids() -> None:
    assert read(mail("Message-ID: <a@x>\nIn-Reply-To: <a@x>\nReferences: <b@x> <a@x> <b@x>\n")).references == (
        "<a@x>", "<b@x>",
    )  # fmt: skip


def test_html_that_is_too_deep_to_be_shown_is_a_file_and_its_text_stays() -> None:
    heard = read(mail("Content-Type: text/html\n", "<div>" * 5000 + "Bonjour"))
    assert (heard.html, heard.text.strip()) == ("", "Bonjour")
    assert heard.files[0].name == "message.html"


PIECES = st.sampled_from(
    [
        b"From: a@b.example\n", b"Content-Type: multipart/mixed; boundary=b\n", b"--b\n", b"--b--\n", b"\n", b"\r\n",
        b"Content-Type: message/rfc822\n", b"Content-Type: text/html; charset=utf-16\n", b"Subject: =?utf-8?b?w6k=?=\n",
        b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: x-uuencode\n", b"begin 644 x\n", b"w6k=\n",
        b"Content-Type: multipart/report; boundary=b\n", b"Content-Type: message/delivery-status\n",
        b"Action: failed\n",
        b"Content-Disposition: attachment; filename*0*=utf-8'\n", b"Date: Thu, 99 Foo 99999 99:99\n", b"References: <",
        b"Content-Type: text/plain; charset=\"\xff\n", b"Final-Recipient: rfc822; \n", b"\xff\xfe\x00",
        b"From: ((((<@>\n",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=400), st.lists(PIECES, max_size=25).map(b"".join)))
def test_no_bytes_make_parse_raise(raw: bytes) -> None:
    for heard in email.parse(raw, ACCOUNT):
        assert isinstance(heard, Wrote | Receipt | Unknown)


# Writing


def test_an_answer_says_who_writes_where_it_belongs_and_comes_in_two_forms() -> None:
    call, mail_, result = written(
        author_name="Léa", subject="Colis perdu", text="Bonjour,\n\nvoir https://exemple.fr/suivi.",
        references=("<first@x>", "<last@x>"), reply_to="<last@x>",
    )  # fmt: skip
    own = email.message_id(4521, MESSAGE, "exemple.fr", KEY)
    assert result == Sent(own)
    assert (call.sender, call.to) == ("service@exemple.fr", "jean@client.example")
    assert mail_["From"] == "Léa – Service client <service@exemple.fr>"
    assert mail_["Subject"] == "Re: Colis perdu [#4521]"
    assert (mail_["Message-ID"], mail_["In-Reply-To"], mail_["References"]) == (
        own,
        "<last@x>",
        "<first@x> <last@x>",
    )
    assert mail_["Auto-Submitted"] is None
    assert mail_.get_content_type() == "multipart/alternative"
    text, html = mail_.get_body(("plain",)), mail_.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().splitlines()[-3:] == ["-- ", "Léa", "Service client"]
    assert '<a href="https://exemple.fr/suivi">' in html.get_content()
    assert email.mint(Outgoing(message=MESSAGE, to="", case_number=4521), ACCOUNT, SECRETS) == own
    assert written()[0].content == written()[0].content, "the same each time"


def test_what_a_machine_writes_can_start_no_loop() -> None:
    call, mail_, _ = written(automatic=True, author="bot", reply_to="<a@x>")
    assert call.sender == ""
    assert (mail_["Auto-Submitted"], mail_["X-Auto-Response-Suppress"]) == ("auto-replied", "All")
    assert "-- " not in str(mail_.get_body(("plain",)))


def test_references_keep_the_first_and_the_last_twenty() -> None:
    _, mail_, _ = written(references=tuple(f"<{n}{'a' * 80}@x>" for n in range(60)))
    told = mail_["References"].split()
    assert (len(told), told[0][:3], told[-1][:4], told[1][:4]) == (20, "<0a", "<59a", "<41a")


@pytest.mark.parametrize(
    "evil",
    ["x\r\nBcc: spy@evil.example", "x\nBcc: spy@evil.example", "x\r\n\r\nbody", "x\x00y", "é\r\n Bcc: spy"],
)
def test_nothing_that_people_type_becomes_a_header(evil: str) -> None:
    file = Enclosed(MESSAGE, "file", evil, "text/plain\r\nBcc: spy@evil.example", "", b"x")
    for more in (
        {"subject": evil}, {"author_name": evil}, {"references": (evil, f"<{evil}@x>")}, {"reply_to": evil},
        {"own_id": f"<{evil}@x>"}, {"language": evil}, {"files": (file,)}, {"html": evil}, {"text": evil},
    ):  # fmt: skip
        call, mail_, _ = written(**more)
        head = call.content.split(b"\r\n\r\n")[0]
        assert mail_["Bcc"] is None
        assert b"\nBcc" not in head
        assert b"\x00" not in call.content
    for to in (f"a@b.example{evil}", evil, "a@b.example, c@d.example", ""):
        with pytest.raises(StopIteration) as done:
            next(email.render(Outgoing(message=MESSAGE, to=to, text="x"), ACCOUNT, SECRETS, {}))
        assert isinstance(done.value.value, Failed)


def test_files_go_along_and_too_many_bytes_do_not() -> None:
    file = Enclosed(MESSAGE, "image", "../reçu.png", "image/png", "", b"\x89PNG")
    _, mail_, _ = written(files=(file,))
    (attached,) = mail_.iter_attachments()
    assert isinstance(attached, EmailMessage)
    assert (attached.get_filename(), attached.get_content()) == ("reçu.png", b"\x89PNG")
    big = Enclosed(MESSAGE, "file", "x", "application/zip", "", b"a" * 20_000_001)
    with pytest.raises(StopIteration) as done:
        next(email.render(Outgoing(message=MESSAGE, to="a@b.example", files=(big,)), ACCOUNT, SECRETS, {}))
    assert done.value.value.code == "too_large"


def test_buttons_are_a_numbered_list() -> None:
    _, mail_, _ = written(buttons=(Button("Oui", "y"), Button("Non", "n")))
    body = mail_.get_body(("plain",))
    assert body is not None
    assert body.get_content().splitlines()[2:4] == ["1. Oui", "2. Non"]


CODES = """
    250 2.0.0 queued          | sent
    421 4.3.2 closing         | transient
    450 4.2.0 greylisted      | transient
    452 4.3.1 full            | transient
    0 no connection           | transient
    535 5.7.8 who are you     | token
    530 5.7.0 say who you are | token
    550 5.1.1 unknown         | gone
    551 5.1.6 moved           | gone
    553 5.1.3 no such name    | gone
    550 5.7.1 policy          | refused
    552 5.3.4 too large       | refused
    554 5.6.0 no              | refused
"""


@pytest.mark.parametrize("row", [row for row in CODES.splitlines() if row.strip()])
def test_a_servers_code_is_one_of_the_failures_with_one_way_on(row: str) -> None:
    said, _, expected = (part.strip() for part in row.partition("|"))
    code, _, words = said.partition(" ")
    result = written(Reply(int(code), body=words.encode()))[2]
    assert (result.failure.value if isinstance(result, Failed) else "sent") == expected


def test_a_connection_that_ends_after_the_words_leaves_a_perhaps() -> None:
    assert isinstance(written(Reply(0, lost=True))[2], Perhaps)


def test_what_we_write_we_read_as_our_own() -> None:
    call, _, _ = written(author_name="Léa", subject="Été", text="Ça va ?", html="<p>Ça va&nbsp;?</p>")
    heard = read(call.content)
    assert heard.facts["automatic"] == ["ourselves"]
    assert heard.subject == "Été [#4521]"
    assert heard.text.startswith("Ça va ?")


def test_mail_never_comes_by_http() -> None:
    assert not email.verify(Request("POST", "https://x/hooks/mail", {}, {}, b""), ACCOUNT, SECRETS).accepted


# Loops


def answer(raw: bytes, account: Account, sent: int, number: int, *, polite: bool = True) -> bytes | None:
    """What a mailbox whose rules answer everything sends back; None when it may not."""
    (heard,) = email.parse(raw, account)
    if not isinstance(heard, Wrote) or not email.may_answer(heard.automatic, sent, heard.facts):
        return None
    out = Outgoing(
        message=UUID(int=number), to=heard.peer.value, text="Nous avons bien reçu votre message.", author="bot",
        reply_to=heard.external_id, references=tuple(reversed(heard.references)), case_number=1, automatic=polite,
    )  # fmt: skip
    call = next(email.render(out, account, SECRETS, {}))
    assert isinstance(call, MailCall)
    return f"Return-Path: <{call.sender}>\r\n".encode() + call.content


@pytest.mark.parametrize("polite", [True, False])
def test_two_auto_responders_facing_each_other_stop_within_three_mails_each(polite: bool) -> None:
    ours = ACCOUNT
    theirs = Account("x", "email", settings={"address": "absent@client.example"})
    raw = b"Return-Path: <absent@client.example>\nFrom: absent@client.example\nTo: service@exemple.fr\n\nBonjour"
    sent = {ours.id: 0, theirs.id: 0}
    turn, other = ours, theirs
    for number in range(100):
        rude = turn is theirs and not polite  # the other side marks nothing and counts nothing
        found = answer(raw, turn, 0 if rude else sent[turn.id], number, polite=polite)
        if found is None:
            break
        sent[turn.id] += 1
        raw, turn, other = found, other, turn
    assert 1 <= sent[ours.id] <= email.ANSWERS_A_DAY
    assert sent[ours.id] == 1 or not polite
