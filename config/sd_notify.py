"""The word to systemd that a service of Type=notify is ready, stopping or alive (sd_notify(3))."""

from __future__ import annotations

import os
import socket


def tell(state: str) -> bool:
    """Send `READY=1`, `STOPPING=1`, `STATUS=…` or `WATCHDOG=1`; False when nobody listens. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except OSError:
        return False
    return True
