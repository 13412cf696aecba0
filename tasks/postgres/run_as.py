"""How a Postgres server or tool is run on this machine: as whom, and with which way out to the network.

Separate because Postgres refuses to run as root, and because only one place may know how that is met: in a user
namespace where there are any, else as an unprivileged account, else not at all. No user is created, no mode changed.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recovery.errors import Refused

NAMESPACE = ("--user", "--map-user=1000", "--map-group=1000")
"""Files stay root's; inside they are an ordinary user's, which is all that Postgres looks at."""
ACCOUNTS = ("postgres", "nobody")
PATIENCE_SECONDS = 10.0

Works = Callable[[Sequence[str]], bool]
"""Whether a prefix of arguments can run a program."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAs:
    """What this machine can do. `way` direct: as the caller; namespace: in a user namespace; account: as `account`;
    none: not at all. `network` says whether a network namespace of its own can be had."""

    way: Literal["direct", "namespace", "account", "none"]
    account: str | None = None
    network: bool


@functools.cache
def probe() -> RunAs:
    """What this machine can do, found out by doing it once. Under 50 ms."""
    return decide(root=os.geteuid() == 0, works=_works, accounts=_known_accounts())


def decide(*, root: bool, works: Works, accounts: Sequence[str]) -> RunAs:
    """The choice itself. `works(argv)` says whether that prefix can run a program."""
    if not root:
        return RunAs(way="direct", network=works(["unshare", "--user", "--map-current-user", "--net"]))
    if works(["unshare", *NAMESPACE]):
        return RunAs(way="namespace", network=works(["unshare", *NAMESPACE, "--net"]))
    for account in accounts:
        if works(_as_account(account)):
            return RunAs(way="account", account=account, network=works(["unshare", "--net"]))
    return RunAs(way="none", network=False)


def server_argv(argv: Sequence[str], *, isolated: bool, how: RunAs | None = None) -> tuple[list[str], bool]:
    """The arguments that run `argv` so that Postgres accepts it, and whether it really has no network.

    `isolated` asks for a network namespace of its own (reached through a unix socket only); where none can be had the
    program runs without it and the second value is False. The process keeps its pid: every wrapper execs.
    Raises Refused under root when there is no way to be another user.
    """
    how = how or probe()
    net = isolated and how.network
    match how.way:
        case "direct":
            prefix = ["unshare", "--user", "--map-current-user", "--net"] if net else []
        case "namespace":
            prefix = ["unshare", *NAMESPACE, *(["--net"] if net else [])]
        case "account":
            prefix = [*(["unshare", "--net"] if net else []), *_as_account(how.account or "")]
        case "none":
            raise Refused(
                "Postgres does not run as root, and here are neither user namespaces nor an account to run it as",
                hint="run as an ordinary user, or allow user namespaces (sysctl user.max_user_namespaces), "
                "or install setpriv and an account named postgres or nobody",
            )
    return [*prefix, *argv], net


def give(folder: Path, *, how: RunAs | None = None) -> None:
    """Make an existing folder of ours the property of whoever the server runs as (only an account needs that).

    Raises Refused when that account could not reach the folder: modes of parents are never changed.
    """
    how = how or probe()
    if how.way != "account" or how.account is None:
        return
    if not _works([*_as_account(how.account), "test", "-x", str(folder.parent)], bare=True):
        raise Refused(
            f"{how.account} cannot enter {folder.parent}, and Postgres would run as {how.account}",
            hint="choose a home that every account may enter, like a folder below /var/tmp, or run as an ordinary user",
        )
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, how.account)


def _works(prefix: Sequence[str], *, bare: bool = False) -> bool:
    try:
        ended = subprocess.run(
            [*prefix] if bare else [*prefix, "true"], capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def _as_account(account: str) -> list[str]:
    return ["setpriv", f"--reuid={account}", f"--regid={pwd.getpwnam(account).pw_gid}", "--clear-groups"]


def _known_accounts() -> list[str]:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return [account for account in ACCOUNTS if account in known]
