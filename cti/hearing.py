"""Whether the two sides of a call are heard: what the call bar warns of, from voice activity."""

from __future__ import annotations

from dataclasses import dataclass

NEVER_HEARD_S = 5.0  # nobody greets for longer than this without the other saying a word
NOT_HEARD_S = 20.0  # a long monologue; longer than this, one asks whether the other is still there
SILENCE_S = 10.0  # both silent


@dataclass(slots=True)
class _Side:
    since_s: float
    heard: bool = False
    ever: bool = False

    def silent_s(self, now_s: float) -> float:
        return 0.0 if self.heard else now_s - self.since_s

    def lost(self, now_s: float) -> bool:
        return self.silent_s(now_s) >= (NOT_HEARD_S if self.ever else NEVER_HEARD_S)


class Hearing:
    """Times are monotonic seconds. `verdict` is ok, silence, caller_not_heard or advisor_not_heard."""

    def __init__(self, now_s: float) -> None:
        self.caller, self.advisor = _Side(now_s), _Side(now_s)

    def noticed(self, side: str, heard: bool, silent_s: float, now_s: float) -> None:
        it = self.caller if side == "caller" else self.advisor
        if heard:
            it.heard = it.ever = True
        else:
            it.since_s = max(it.since_s, now_s - silent_s) if it.heard or not it.ever else it.since_s
            it.heard = False

    def resume(self, now_s: float) -> None:
        """After a hold: what was silent then does not count."""
        self.caller.since_s = self.advisor.since_s = now_s

    def verdict(self, now_s: float) -> str:
        caller, advisor = self.caller, self.advisor
        if min(caller.silent_s(now_s), advisor.silent_s(now_s)) >= SILENCE_S:
            return "silence"
        if caller.lost(now_s):
            return "caller_not_heard"
        return "advisor_not_heard" if advisor.lost(now_s) else "ok"

    def look_again_s(self, now_s: float) -> float:
        """When the verdict may change although nothing is noticed."""
        marks = []
        for side in (self.caller, self.advisor):
            if not side.heard:
                marks += [side.since_s + limit - now_s for limit in (NEVER_HEARD_S, SILENCE_S, NOT_HEARD_S)]
        return min((m for m in marks if m > 0.01), default=SILENCE_S)
