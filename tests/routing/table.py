"""Policy tests as tables that an admin could read: who waits, who is there, and who gets whom.

    queue billing  needs=fr>=2 priority=1 ageing=2 prefer=skill          (optional, before the table)

    waiting   queue    needs   since | advisor  state  free seats     skills
    call A    billing  fr>=2   09:00 | ana      ready  voice          fr=5 en=2
    chat B    billing  -       09:01 | bob      pause  voice chat*3   en=4
    at 09:02
    gives A->ana
    B waits: 1 on a pause, 1 without a free seat

Columns are separated by two blanks or more. On the left also: priority, contact, related. On the right also: idle
(since when), queues. States: ready, pause, offline, no phone, wrapup. "gives nothing" where nobody gets anything.
The first word of a waiting one is its channel (call is voice); the last is its id.
"""

from __future__ import annotations

import re
from textwrap import dedent

from routing import steps as s
from routing.distribution import Distribution
from routing.explain import waiting_sentence
from routing.site import Advisor, Need, Queue

MIDNIGHT = 1_699_920_000.0  # 2023-11-14 00:00 UTC


def at(text: str) -> float:
    parts = [int(part) for part in text.split(":")]
    return MIDNIGHT + parts[0] * 3600 + parts[1] * 60 + (parts[2] if len(parts) > 2 else 0)


def needs(text: str) -> tuple[Need, ...]:
    if text in ("", "-"):
        return ()
    found = []
    for one in text.split():
        pairs = [re.fullmatch(r"(\w+)>=(\d)", part) for part in one.split("|")]
        found.append(Need(tuple((m[1], int(m[2])) for m in pairs if m is not None)))
    return tuple(found)


def seats(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in text.replace("-", "").split():
        channel, _, n = one.partition("*")
        found[channel] = int(n or 1)
    return found


def _queue(text: str) -> Queue:
    id, *settings = text.split()
    values = dict(setting.split("=", 1) for setting in settings)
    return Queue(
        id,
        id,
        needs=needs(values.get("needs", "").replace(",", " ")),
        priority=int(values.get("priority", "0")),
        ageing_per_minute=float(values.get("ageing", "1")),
        prefer=values.get("prefer", "longest_idle"),
    )


def check(text: str) -> Distribution:
    """Play the table and compare; the model is returned as it then is, for more questions."""
    queues: dict[str, Queue] = {}
    head: tuple[list[str], list[str]] | None = None
    left: list[dict[str, str]] = []
    right: list[dict[str, str]] = []
    now, gives, waits = 0.0, None, dict[str, str]()
    for line in filter(None, map(str.strip, dedent(text).splitlines())):
        if line.startswith("queue ") and head is None:
            queue = _queue(line.removeprefix("queue "))
            queues[queue.id] = queue
        elif line.startswith("at "):
            now = at(line.removeprefix("at "))
        elif line.startswith("gives "):
            gives = line.removeprefix("gives ")
        elif (m := re.fullmatch(r"(\w+) waits: (.*)", line)) is not None:
            waits[m[1]] = m[2]
        else:
            one, two = re.split(r"(?:^|\s)\|(?:\s|$)", line, maxsplit=1)
            cells = [re.split(r"\s{2,}", side.strip()) if side.strip() else [] for side in (one, two)]
            if head is None:
                head = cells[0], cells[1]
                continue
            for names, values, rows in ((head[0], cells[0], left), (head[1], cells[1], right)):
                if values:
                    assert len(names) == len(values), f"{line!r} does not fit {names}"
                    rows.append(dict(zip(names, values, strict=True)))
    assert gives is not None, "a table says what it gives"

    model = Distribution()
    for row in left:
        queues.setdefault(row["queue"], Queue(row["queue"], row["queue"]))
    model.step(s.RulesSet(tuple(queues.values())), MIDNIGHT)
    kept: list[s.Kept] = []
    idle: dict[str, float] = {}
    for row in right:
        id, state = row["advisor"], row["state"]
        skills = {
            k: int(v) for k, v in (one.split("=") for one in row.get("skills", "").replace("-", "").split())
        }
        served = row.get("queues", "-")
        model.step(
            s.AdvisorSet(
                Advisor(
                    id,
                    id,
                    id,
                    skills=skills,
                    seats=seats(row["free seats"]),
                    queues=None if served == "-" else tuple(served.split()),
                )
            ),
            MIDNIGHT,
        )
        model.step(s.ReachSet(id, "voice", state != "no phone"), MIDNIGHT)
        presence = {"no phone": "ready", "wrapup": "ready", "break": "pause"}.get(state, state)
        model.step(s.PresenceSet(id, presence), MIDNIGHT)
        idle[id] = at(row.get("idle", "08:00"))
        if state == "wrapup":
            told = s.Enqueue(f"before-{id}", next(iter(queues)), "none", now)
            kept.append(s.Kept(told, "wrapup", id, wrapup_until=now + 60))
    for row in left:
        word, _, id = row["waiting"].rpartition(" ")
        optional = {name: row.get(name, "-") for name in ("priority", "contact", "related")}
        kept.append(
            s.Kept(
                s.Enqueue(
                    id,
                    row["queue"],
                    "voice" if word == "call" else word,
                    at(row["since"]),
                    priority=None if optional["priority"] == "-" else int(optional["priority"]),
                    needs=needs(row.get("needs", "-")),
                    contact=None if optional["contact"] == "-" else optional["contact"],
                    related=None if optional["related"] == "-" else optional["related"],
                )
            )
        )
    decisions = model.step(s.Restore(tuple(kept), idle_since=idle), now)
    given = " ".join(f"{d.interaction}->{d.advisor}" for d in decisions if isinstance(d, s.Offered))
    assert given == ("" if gives == "nothing" else gives), given
    for id, why in waits.items():
        told_why = waiting_sentence(model.why_not(id), "en").removeprefix("It waits: ").removesuffix(".")
        assert told_why == why
    return model
