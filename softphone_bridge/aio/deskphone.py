"""An advisor's desk phone played by pyVoIP in a process of its own: somebody else's SIP answers our calls.

Run as `python -m softphone_bridge.aio.deskphone --server 127.0.0.1:5060 --account 101 …` with the password on the first
line of standard input. After that it reads commands as JSON lines (`{"do": "answer"}`, `deny`, `hang_up`, `quit`) and
writes events as JSON lines (`registered`, `ringing`, `answered`, `ended` with what was heard). Exit code 0 when it was
told to quit and every call it answered had ended; 1 when it could not register.

pyVoIP answers at the earliest one second after the INVITE, ignores CANCEL and blocks in places: whoever starts this
process gives it a deadline and ends it by its process id.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
import warnings
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from media.tone import dominant_hz, rms, sine

warnings.simplefilter("ignore", DeprecationWarning)

KEEP_FRAMES = 1_500  # of 20 ms: how much of what was heard is kept for measuring


def say(event: str, **data: Any) -> None:
    """Write one event line."""
    sys.stdout.write(json.dumps({"event": event, **data}) + "\n")
    sys.stdout.flush()


def voice(tone_hz: float) -> bytes:
    """A second of tone as pyVoIP wants sound: unsigned 8-bit linear at 8 kHz."""
    pcm = sine(tone_hz, 1000, level=0.3)
    return bytes(((pcm.astype(np.int32) >> 8) + 128).astype(np.uint8))


class Desk:
    """What the person at this phone does with a call."""

    def __init__(self, *, tone_hz: float, answer: str, answer_after_s: float) -> None:
        self.sound = voice(tone_hz)
        self.answer_how = answer
        self.answer_after_s = answer_after_s
        self.wanted: dict[str, threading.Event] = {}
        self.refused: set[str] = set()
        self.calls: dict[str, Any] = {}
        self.lock = threading.Lock()

    def ringing(self, call: Any) -> None:
        """pyVoIP calls this in a thread of the call."""
        from pyVoIP.VoIP import CallState

        name = str(call.call_id)
        chosen = threading.Event()
        with self.lock:
            self.wanted[name] = chosen
            self.calls[name] = call
        say("ringing", call=name)
        try:
            if self.answer_how == "auto":
                chosen.wait(self.answer_after_s)
            else:
                chosen.wait(120.0)
                if not chosen.is_set():
                    return
            if call.state is not CallState.RINGING:
                return
            if self.answer_how == "deny" or name in self.refused:
                call.deny()
                say("denied", call=name)
                return
            call.answer()
            say("answered", call=name)
            self.talk(call, name)
        except Exception as error:
            say("failed", call=name, why=f"{type(error).__name__}: {error}")
        finally:
            with self.lock:
                self.wanted.pop(name, None)
                self.calls.pop(name, None)

    def talk(self, call: Any, name: str) -> None:
        """Speak the tone and listen until the call ends; then tell what was heard."""
        from pyVoIP.VoIP import CallState

        ear = Ear()
        for client in call.RTPClients:
            client.pmin = ear
        started = spoken_until = time.monotonic()
        while call.state is CallState.ANSWERED:
            now = time.monotonic()
            if spoken_until - now < 0.3:
                call.write_audio(self.sound)
                spoken_until = max(spoken_until, now) + len(self.sound) / 8000
            time.sleep(0.05)
        last = ear.heard()[-2 * 8000 :]
        say(
            "ended",
            call=name,
            talked_s=round(time.monotonic() - started, 2),
            heard_hz=round(dominant_hz(last), 1),
            heard_rms=round(rms(last)),
        )


class Ear:
    """What came in, as it came: unsigned 8-bit linear at 8 kHz.

    It takes the place of pyVoIP's buffer, which mixes silence in unless it is read at the very pace of arrival.
    """

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque(maxlen=KEEP_FRAMES)

    def write(self, offset: int, data: bytes) -> None:
        self._frames.append(data)

    def read(self, length: int = 160) -> bytes:
        return b"\x80" * length

    def heard(self) -> npt.NDArray[np.int16]:
        raw = np.frombuffer(b"".join(self._frames), dtype=np.uint8)
        return ((raw.astype(np.int16) - 128) << 8).astype(np.int16)


def main() -> None:
    """Register, then do as told until `quit` or the end of standard input."""
    ask = argparse.ArgumentParser(prog="deskphone", description=__doc__.splitlines()[0] if __doc__ else None)
    ask.add_argument("--server", required=True, help="host:port of the registrar")
    ask.add_argument("--account", required=True)
    ask.add_argument("--host", default="127.0.0.1", help="own address")
    ask.add_argument("--port", type=int, required=True, help="own SIP port")
    ask.add_argument("--rtp", default="45000-45019", help="own RTP ports")
    ask.add_argument("--tone", type=float, default=600.0, help="what it says, in Hz")
    ask.add_argument("--answer", choices=("auto", "told", "deny"), default="auto")
    ask.add_argument("--after", type=float, default=0.0, help="seconds it rings before it answers by itself")
    options = ask.parse_args()
    password = sys.stdin.readline().rstrip("\n")
    host, _, port = options.server.rpartition(":")
    low, _, high = options.rtp.partition("-")

    import pyVoIP
    import pyVoIP.VoIP as voip  # noqa: N813  (first, or pyVoIP.SIP is a circular import)
    from pyVoIP import RTP
    from pyVoIP.VoIP.status import PhoneStatus

    # pyVoIP writes mu-law into what it calls PCMA: it may only choose PCMU
    pyVoIP.RTPCompatibleCodecs = [RTP.PayloadType.PCMU, RTP.PayloadType.EVENT]

    desk = Desk(tone_hz=options.tone, answer=options.answer, answer_after_s=options.after)
    phone = voip.VoIPPhone(
        host,
        int(port),
        options.account,
        password,
        myIP=options.host,
        callCallback=desk.ringing,
        sipPort=options.port,
        rtpPortLow=int(low),
        rtpPortHigh=int(high),
    )
    phone.start()
    deadline = time.monotonic() + 10.0
    while phone.get_status() is not PhoneStatus.REGISTERED:
        if phone.get_status() is PhoneStatus.FAILED or time.monotonic() > deadline:
            say("not_registered", account=options.account)
            os._exit(1)
        time.sleep(0.02)
    say("registered", account=options.account)

    for line in sys.stdin:
        try:
            order = json.loads(line)["do"]
        except (ValueError, KeyError, TypeError):
            say("not_understood", line=line.strip())
            continue
        if order == "quit":
            break
        with desk.lock:
            names = list(desk.calls)
        if order == "answer":
            for name in names:
                desk.wanted[name].set()
        elif order == "deny":
            for name in names:
                desk.refused.add(name)
                desk.wanted[name].set()
        elif order == "hang_up":
            for name in names:
                call = desk.calls.get(name)
                if call is not None and call.state is voip.CallState.ANSWERED:
                    call.hangup()
        else:
            say("not_understood", line=line.strip())
    stopper = threading.Thread(target=phone.stop, daemon=True)
    stopper.start()
    stopper.join(2.0)
    say("gone", account=options.account)
    os._exit(0)  # pyVoIP's threads do not always end by themselves


if __name__ == "__main__":
    main()
