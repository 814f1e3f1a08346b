"""Why an interaction went where it went: what was compared, what was left out, and the sentences that tell it (Q23).

An explanation is exact for the instant of its offer and small enough to be stored with each. It names the five best of
both sides and counts everybody else by the first reason that left them out, in the order of `EXCLUSIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

EXCLUSIONS = ("offline", "pause", "unreachable", "wrapup", "no_seat")
"""Reasons of the moment, after those of rule (`skill …`, `queue`) and before those of this interaction (`refused`)."""


class Candidate(NamedTuple):
    """An advisor who could have had it, in the order of choice."""

    advisor: str
    work: int  # interactions that he was already doing
    idle_since: float
    skill: int | None = None  # sum of his levels on the needs, where the queue prefers skill


class Rival(NamedTuple):
    """The head of one of the lines that the chosen advisor serves, in the order of choice."""

    interaction: str
    score: float
    since: float


class Explanation(NamedTuple):
    """One offer, explained.

    `score` = `priority` + `ageing_per_minute` × minutes since `since`. `rule` is why this advisor: related, held,
    only (nobody else could), longest_idle or skill. `excluded` counts advisors by reason; `available` is how many were
    left, of whom `candidates` are the five best. `rivals` are the five best heads of lines that the advisor could
    have been given instead; `lines` is how many such heads there were.
    """

    at: float
    interaction: str
    queue: str
    channel: str
    advisor: str
    rule: str
    priority: int
    ageing_per_minute: float
    since: float
    score: float
    available: int
    candidates: tuple[Candidate, ...]
    excluded: Mapping[str, int]
    rivals: tuple[Rival, ...]
    lines: int


def to_json(why: Explanation) -> dict[str, Any]:
    """Plain values, to be stored."""
    return {
        "at": why.at,
        "interaction": why.interaction,
        "queue": why.queue,
        "channel": why.channel,
        "advisor": why.advisor,
        "rule": why.rule,
        "priority": why.priority,
        "ageing_per_minute": why.ageing_per_minute,
        "since": why.since,
        "score": why.score,
        "available": why.available,
        "candidates": [c._asdict() for c in why.candidates],
        "excluded": dict(why.excluded),
        "rivals": [r._asdict() for r in why.rivals],
        "lines": why.lines,
    }


def from_json(stored: Mapping[str, Any]) -> Explanation:
    return Explanation(
        **{
            **stored,
            "candidates": tuple(Candidate(**c) for c in stored["candidates"]),
            "excluded": dict(stored["excluded"]),
            "rivals": tuple(Rival(**r) for r in stored["rivals"]),
        }
    )


def recomputed(why: Explanation) -> float:
    """The score again, from what is stored; equals `why.score` to a millionth."""
    return why.priority + why.ageing_per_minute * (why.at - why.since) / 60


_WORDS: dict[str, dict[str, str]] = {
    "en": {
        "chosen": "{interaction} ({channel}, queue {queue}) was offered to {advisor} after {wait}.",
        "score": "Its score was {score}: priority {priority} + {ageing} a minute × {minutes} min of waiting.",
        "related": "{advisor} was chosen because this customer is his: the related advisor comes first.",
        "held": "It was being held for {advisor}, the related advisor, who had become free.",
        "only": "{advisor} was the only one who could take it at that moment.",
        "longest_idle": "Of the {n} who could take it, {advisor} came first: least work in hand, then longest idle.",
        "skill": "Of the {n} who could take it, {advisor} came first: highest skill, then longest idle.",
        "candidate": "  {place}. {advisor}: {work} in hand, idle for {idle}{skill}",
        "with_skill": ", skill {skill}",
        "rival": "  {place}. {interaction}: score {score}, waiting for {wait}",
        "rivals": "{advisor} could have been given {lines} interactions (the first of each line); the best were:",
        "excluded": "Not chosen: {reasons}.",
        "nobody": "No advisor was left out.",
        "waiting": "It waits: {reasons}.",
        "alone": "It waits, and there is no advisor.",
        "offline": "{n} signed out",
        "pause": "{n} on a pause",
        "unreachable": "{n} without a registered phone",
        "wrapup": "{n} in wrap-up",
        "no_seat": "{n} without a free seat",
        "channel": "{n} who do not serve this channel",
        "queue": "{n} who do not serve this queue",
        "refused": "{n} who refused or missed it",
        "closed": "{n} because the queue is closed now",
        "contact busy": "{n} because this customer is being offered or served already",
        "skill ": "{n} without the skill ({what})",
        "held for ": "{n} because it is held for {what}",
    },
    "fr": {
        "chosen": "{interaction} ({channel}, file {queue}) a été proposé à {advisor} après {wait}.",
        "score": "Son score était {score} : priorité {priority} + {ageing} par minute × {minutes} min d’attente.",
        "related": "{advisor} a été choisi parce que ce client est le sien : le conseiller attitré passe d’abord.",
        "held": "Il était réservé à {advisor}, le conseiller attitré, qui venait de se libérer.",
        "only": "{advisor} était le seul à pouvoir le prendre à cet instant.",
        "longest_idle": "Des {n} qui pouvaient le prendre, {advisor} venait en tête : le moins de travail en cours, "
        "puis le plus longtemps libre.",
        "skill": "Des {n} qui pouvaient le prendre, {advisor} venait en tête : la meilleure compétence, "
        "puis le plus longtemps libre.",
        "candidate": "  {place}. {advisor} : {work} en cours, libre depuis {idle}{skill}",
        "with_skill": ", compétence {skill}",
        "rival": "  {place}. {interaction} : score {score}, attend depuis {wait}",
        "rivals": "{advisor} aurait pu recevoir {lines} interactions en attente (la première de chaque file) ; "
        "les meilleures étaient :",
        "excluded": "Non retenus : {reasons}.",
        "nobody": "Aucun conseiller n’a été écarté.",
        "waiting": "L’interaction attend : {reasons}.",
        "alone": "L’interaction attend, et il n’y a aucun conseiller.",
        "offline": "{n} hors ligne",
        "pause": "{n} en pause",
        "unreachable": "{n} sans téléphone enregistré",
        "wrapup": "{n} en post-appel",
        "no_seat": "{n} sans place libre",
        "channel": "{n} qui ne servent pas ce canal",
        "queue": "{n} qui ne servent pas cette file",
        "refused": "{n} qui l’ont refusé ou manqué",
        "closed": "{n} parce que la file est fermée",
        "contact busy": "{n} parce que ce client est déjà proposé ou servi",
        "skill ": "{n} sans la compétence ({what})",
        "held for ": "{n} parce qu’il est réservé à {what}",
    },
}


def _lasting(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _reasons(excluded: Mapping[str, int], words: Mapping[str, str], names: Mapping[str, str]) -> str:
    told = []
    for reason, n in excluded.items():
        prefix = next((p for p in ("skill ", "held for ") if reason.startswith(p)), None)
        if prefix is not None:
            what = reason.removeprefix(prefix)
            told.append(words[prefix].format(n=n, what=names.get(what, what)))
        else:
            told.append(words[reason].format(n=n) if reason in words else f"{n} {reason}")
    return ", ".join(told)


def sentences(why: Explanation, language: str = "fr", names: Mapping[str, str] | None = None) -> list[str]:
    """The explanation as an advisor, a supervisor or a customer who complains can read it: `fr` or `en`.

    `names` are what people call advisors, queues, channels and interactions; what has none keeps its id.
    """
    words = _WORDS.get(language, _WORDS["en"])
    known = names or {}

    def name(id: str) -> str:
        return known.get(id, id)

    wait = why.at - why.since
    lines = [
        words["chosen"].format(
            interaction=name(why.interaction),
            channel=name(why.channel),
            queue=name(why.queue),
            advisor=name(why.advisor),
            wait=_lasting(wait),
        ),
        words["score"].format(
            score=f"{why.score:.2f}",
            priority=why.priority,
            ageing=f"{why.ageing_per_minute:g}",
            minutes=f"{wait / 60:.2f}",
        ),
        words[why.rule].format(advisor=name(why.advisor), n=why.available),
    ]
    if len(why.candidates) > 1:
        for place, c in enumerate(why.candidates, 1):
            skill = "" if c.skill is None else words["with_skill"].format(skill=c.skill)
            idle = _lasting(why.at - c.idle_since)
            lines.append(
                words["candidate"].format(
                    place=place, advisor=name(c.advisor), work=c.work, idle=idle, skill=skill
                )
            )
    if why.lines > 1:
        lines.append(words["rivals"].format(advisor=name(why.advisor), lines=why.lines))
        for place, r in enumerate(why.rivals, 1):
            lines.append(
                words["rival"].format(
                    place=place,
                    interaction=name(r.interaction),
                    score=f"{r.score:.2f}",
                    wait=_lasting(why.at - r.since),
                )
            )
    reasons = _reasons(why.excluded, words, known)
    lines.append(words["excluded"].format(reasons=reasons) if reasons else words["nobody"])
    return lines


def waiting_sentence(
    reasons: Mapping[str, int], language: str = "fr", names: Mapping[str, str] | None = None
) -> str:
    """What `Distribution.why_not` says of one that waits, as a sentence."""
    words = _WORDS.get(language, _WORDS["en"])
    told = _reasons(reasons, words, names or {})
    return words["waiting"].format(reasons=told) if told else words["alone"]
