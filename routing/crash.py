"""The places where a test may kill the process: every one has its name here (`CRASH_AT=name[:n]`, the n-th pass)."""

from __future__ import annotations

NAMES = (
    "desk.elected",
    "desk.restored",
    "desk.loaded",
    "desk.decided",
    "desk.begun",
    "desk.rows_written",
    "desk.sides_written",
    "desk.log_written",
    "desk.keys_written",
    "desk.after_commit",
    "desk.published",
)
"""In the order of one turn of the desk: between each two of its awaits."""

CALLS = (
    "control.popped",
    "control.placed",
    "control.answered",
    "control.accepted",
    "control.taken",
    "control.noticed",
    "control.joined",
    "control.held",
    "control.lost",
    "control.ended",
    "control.recorded",
)
"""In the order of one call at an advisor: between what the legs do and what the desk is told."""

CLICKS = ("control.called_out", "control.connected")
"""In the order of a call that an advisor places."""

TREES = (
    "tree.opened",
    "tree.answered",
    "tree.entered",
    "tree.enqueued",
    "tree.taken",
    "tree.left",
    "tree.closed",
)
"""In the order of one call in its tree."""

SERVER = (
    "server.phone_heard",
    "server.phone_told",
    "server.site_read",
    "server.site_told",
    "site.written",
    "session.proved",
    "session.stored",
    "recording.begun",
    "recording.told",
)
"""Around what the server keeps beside its calls: phones, versions of the site, sign-ins, recordings."""

HOOKS = (
    "hook.verified",
    "hook.stored",
    "hook.answered",
    "hook.parsed",
    "hook.told",
    "hook.handled",
)
"""In the order of one request of a provider."""

OUTBOX = (
    "outbox.taken",
    "outbox.called",
    "outbox.answered",
    "outbox.went",
    "outbox.stored",
    "outbox.told",
)
"""In the order of one message that we send."""

WALKS = ("walk.heard", "walk.stepped", "walk.told")
"""In the order of one step of a tree in writing: the message is read, its step is about to be told, it is stored."""

SPOKEN = NAMES + CALLS + CLICKS + TREES + SERVER
"""Those that a server passes whose customers only call."""

ALL = SPOKEN + HOOKS + OUTBOX + WALKS


def planned(text: str) -> tuple[str, int]:
    """(name, pass) of a plan such as `desk.after_commit:3`. ValueError for a name that is not listed."""
    name, _, count = text.partition(":")
    if name not in ALL:
        raise ValueError(f"no crash point is called {name!r}: {', '.join(ALL)}")
    return name, int(count or 1)
