"""The exec wrapper of a child that must die with us: drops privileges, asks for SIGINT at our death.

Run as a file by `python -I -S child.py PARENT_PID UID GID WORKDIR PROGRAM ARGUMENTS…`; imports nothing of ours.
The order matters: a change of credentials clears PR_SET_PDEATHSIG (prctl(2)),
and the parent may have died before the call.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, uid, gid = (int(word) for word in sys.argv[1:4])
    libc = ctypes.CDLL(None, use_errno=True)
    os.chdir(sys.argv[4])
    os.umask(0o077)
    if uid != os.getuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        sys.exit(0)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "MONOFIL_"))}
    os.execve(sys.argv[5], sys.argv[5:], environment)  # noqa: S606


if __name__ == "__main__":
    main()
