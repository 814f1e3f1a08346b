"""Why a leg ended, in the desk's words."""

from __future__ import annotations

from softphone_bridge.events import Cause, LegEnded

LOST = frozenset({Cause.NO_MEDIA, Cause.NO_ACK, Cause.EXPIRED, Cause.FAILED})  # nobody has hung up


def refusal(ended: LegEnded) -> str:
    """Why an advisor's phone did not take an offer, in the desk's words.

    Only 603 is a person's no. Phones that are not to be disturbed say 480 or 486, and would say it for ever: a miss
    counts, and after some of them the advisor is paused (Q16).
    """
    if ended.status in {480, 486, 600}:
        return "busy"
    if ended.status == 603:
        return "refused"
    return "not_registered" if ended.status in {404, 410} else "failed"


def failure(ended: LegEnded) -> str:
    """Why an outgoing call was not answered, in a word."""
    if ended.status in {486, 600}:
        return "busy"
    if ended.cause is Cause.NO_ANSWER or ended.status in {408, 480, 487}:
        return "no_answer"
    if ended.status in {404, 410, 484, 604}:
        return "unknown_number"
    if ended.status in {401, 403, 407, 603}:
        return "refused"
    return "hangup" if ended.cause is Cause.HANGUP else "failed"
