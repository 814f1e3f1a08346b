"""Voice: what the engine and the trees must know of telephone calls; its messages are SIP's, so it parses nothing."""

from __future__ import annotations

from typing import Final

from routing.channel import VOICE, Manifest

MANIFEST: Final = Manifest(
    name="voice",
    seat=VOICE,
    address_kind="phone",
    labels={"fr": "Téléphone", "en": "Phone", "es": "Teléfono", "de": "Telefon"},
    starts=True,
)
SYNCHRONOUS: Final = True  # the customer waits on the line; lost with the process that holds it
RENDERINGS: Final = ("prompts", "digits")  # how a tree speaks and how it is answered
