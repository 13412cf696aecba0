"""Who we are as an owner of leases: one process on one machine; and whether such an owner has certainly ended.

Separate because "it has ended" needs a positive fact: the same kernel, the same view of processes, and no process of
that id and start. Anything else is silence, and silence proves nothing.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
from pathlib import Path

_OWNER = re.compile(r".+ \[(?P<view>[0-9a-f]{12}|-):(?P<pid>\d+):(?P<start>\d+)\]")


def owner_here(who: str | None = None) -> str:
    """This process as an owner: `alice@host [view:pid:start]`. `who` is the person; else the user of the process."""
    pid = os.getpid()
    return f"{who or _user()}@{socket.gethostname()} [{_view()}:{pid}:{_start(pid) or 0}]"


def ended(owner: str) -> bool:
    """Whether that owner was a process of this machine, as this process can see them, and is no more."""
    found = _OWNER.fullmatch(owner)
    if found is None or found["view"] == "-" or found["view"] != _view():
        return False
    return _start(int(found["pid"])) not in {None, int(found["start"])}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in many containers
        return f"uid{os.getuid()}"


def _view() -> str:
    """One boot of one kernel and one namespace of process ids; `-` where the system doesn't tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 -- its text is the fact; it is not a path
    except OSError:
        return "-"
    return hashlib.sha256(f"{boot} {space}".encode()).hexdigest()[:12]


def _start(pid: int) -> int | None:
    """When the process began, in ticks of its kernel; 0 when there is none. A zombie has ended. None: it is hidden, as
    another user's is where /proc is mounted with hidepid. Source: proc(5), kill(2)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None if _is_there(pid) else 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing, and is told of processes that /proc hides
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
