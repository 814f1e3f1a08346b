"""Voice: what the engine and the trees must know of telephone calls."""

from __future__ import annotations

from typing import Final

NAME: Final = "voice"
SEATS_KEY: Final = "voice"  # the name of its seats in an advisor's `seats`
SYNCHRONOUS: Final = True  # the customer waits on the line; lost with the process that holds it
RENDERINGS: Final = ("prompts", "digits")  # how a tree speaks and how it is answered
ADDRESS_KIND: Final = "phone"
