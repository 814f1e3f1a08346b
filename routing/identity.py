"""Who is it: addresses in one form, the persons they may mean, and merges that are links.

A contact is never rewritten by a merge: a link says that it is one with another, and taking the link away
restores both exactly (F2). A person is the root of a tree of links; each address and each interaction keeps its own
contact, so a
reply always goes to the address that wrote (F3).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import phonenumbers

from routing.projection import AddressRow, ContactRow, InteractionRow, Rows

NOBODY = frozenset({"", "anonymous", "unknown", "unavailable", "restricted", "private"})


def plain(text: str) -> str:
    """Text as a database takes it: without NUL, half surrogates replaced."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def plain_json(value: Any, *, strict: bool = False) -> Any:
    """The same for a value that becomes JSON; what JSON cannot say becomes its text.

    A number that is none becomes null, or raises ValueError (`strict`).
    """
    match value:
        case str():
            return plain(value)
        case Mapping():
            return {plain(str(key)): plain_json(each, strict=strict) for key, each in value.items()}
        case list() | tuple():
            return [plain_json(each, strict=strict) for each in value]
        case float():
            if strict and not math.isfinite(value):
                raise ValueError(f"{value} is no number")
            return value if math.isfinite(value) else None
        case None | bool() | int():
            return value
        case _:
            return plain(str(value))


def user_part(raw: str) -> str:
    """The user of a SIP or tel URI without its parameters; other text as it is, trimmed."""
    text = raw.strip().strip("<>")
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in ("sip", "sips", "tel"):
        text = rest.split("@", 1)[0].split(";", 1)[0]
    return text.strip()


def normalise(kind: str, raw: str, region: str) -> str:
    """One spelling for one address: E.164 for phones where the number can exist, else its bare characters.

    `region` is the ISO country whose rules a number without a country follows. Empty when the caller hides it.
    """
    text = user_part(plain(raw))
    if text.lower() in NOBODY:
        return ""
    if kind != "phone":
        return text.casefold() if kind in ("mail", "email") else text
    try:
        number = phonenumbers.parse(text, region)
        if phonenumbers.is_possible_number(number):
            return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
    except phonenumbers.NumberParseException:
        pass
    return "".join(sign for sign in text if sign.isalnum() or sign in "+*#") or text


def display(kind: str, value: str) -> str:
    """A number as people write it (international form); other addresses as they are."""
    if kind == "phone" and value.startswith("+"):
        try:
            number = phonenumbers.parse(value, None)
            return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL))
        except phonenumbers.NumberParseException:
            pass
    return value


def unmarked(text: str) -> str:
    """Text for comparing: decomposed, without marks, case-folded."""
    parts = unicodedata.normalize("NFKD", text).casefold()
    return "".join(sign for sign in parts if not unicodedata.combining(sign))


def sort_name(name: str) -> str:
    """A key that sorts French names rightly in any database: decomposed, without marks, case-folded."""
    return unmarked(name).strip()


def root(contact: UUID, rows: Rows) -> UUID:
    """The person a contact is now part of."""
    row = rows.find(ContactRow, contact)
    while row is not None and row.merged_into is not None:
        contact = row.merged_into
        row = rows.find(ContactRow, contact)
    return contact


def persons(owners: Iterable[UUID], rows: Rows) -> dict[UUID, UUID]:
    """root → the contact that has the address, for those an address may mean: all of them, none assumed (C10).

    Where several contacts of one person have it, the oldest is named. Provisional contacts are nobody.
    """
    found: dict[UUID, UUID] = {}
    for owner in sorted(owners, key=lambda each: (rows.get(ContactRow, each).created_at, each)):
        if not rows.get(ContactRow, owner).provisional:
            found.setdefault(root(owner, rows), owner)
    return found


def refuse_merge(contact: UUID, into: UUID, rows: Rows) -> str | None:
    """Why these two cannot be linked now, or None."""
    if rows.find(ContactRow, contact) is None or rows.find(ContactRow, into) is None:
        return "unknown_contact"
    if rows.get(ContactRow, contact).merged_into is not None:
        return "already_merged"
    if root(into, rows) == contact:
        return "same_person"
    return None


def reply_address(interaction: InteractionRow, rows: Rows) -> AddressRow | None:
    """Where a reply goes: to the address of the incoming interaction, whoever its contact is thought to be (F3)."""
    return rows.find(AddressRow, interaction.address) if interaction.address is not None else None
