"""How a Postgres server of ours is made and run: initdb, settings, start, stop. Knows no sites and no lab.

Separate because the lab, throwaway clusters of tests and the self-test all need the same few moves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from recovery.errors import Failed
from tasks.host import LocalHost
from tasks.postgres.run_as import give, server_argv

INITDB = ("--no-sync", "--data-checksums", "--encoding=UTF8", "--locale=C")
LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")


def tool(bin_dir: Path, name: str, *arguments: str, patience_seconds: float = 60.0, password_file: str = "") -> str:
    """Run one of Postgres's tools as whoever Postgres may run as; gives its output. Raises Failed with its words."""
    argv, _ = server_argv([str(bin_dir / name), *arguments], isolated=False)
    env = {"PGPASSFILE": password_file} if password_file else {}
    ran = LocalHost().run(argv, env={**clean_environment(), **env}, patience_seconds=patience_seconds)
    if ran.code:
        raise Failed(
            f"{name} failed: {(ran.err or ran.out).strip()[-400:]}", hint="is the disk full, or the folder in use?"
        )
    return ran.out


def clean_environment() -> dict[str, str]:
    """What a server or tool of ours must not inherit, neutralised: a person's PG* variables, locale and zone."""
    return {name: "" for name in os.environ if name.startswith("PG")} | {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


def initdb(bin_dir: Path, data_dir: Path, *, auth: Sequence[str]) -> None:
    """Make a cluster with checksums and the builtin C.UTF-8 locale (plain C before Postgres 17); superuser postgres.

    About half a second.
    """
    data_dir.mkdir(parents=True, mode=0o700)
    give(data_dir)
    locale = LOCALE if major(bin_dir) >= 17 else ()
    tool(bin_dir, "initdb", "-D", str(data_dir), "-U", "postgres", *INITDB, *locale, *auth)


def major(bin_dir: Path) -> int:
    """The major version of the programs in a folder."""
    return int(tool(bin_dir, "postgres", "--version").split()[2].partition(".")[0])


def configure(data_dir: Path, settings: Mapping[str, str], *, file: str = "lab.conf") -> None:
    """Write `settings` to a file of their own that postgresql.conf includes last."""
    lines = [f"{name} = {quoted(value)}\n" for name, value in settings.items()]
    (data_dir / file).write_text("".join(lines))
    main = data_dir / "postgresql.conf"
    include = f"include_if_exists = '{file}'\n"
    if include not in main.read_text():
        with main.open("a") as out:
            out.write(include)
    give(data_dir)


def quoted(value: str) -> str:
    """A value as postgresql.conf takes it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def start(bin_dir: Path, data_dir: Path, *, log: Path, isolated: bool = False) -> subprocess.Popen[bytes]:
    """Start the postmaster in a session of its own; its pid is the postmaster's. Wait with `wait_for_status`."""
    argv, _ = server_argv([str(bin_dir / "postgres"), "-D", str(data_dir)], isolated=isolated)
    with log.open("ab") as sink:
        return subprocess.Popen(
            argv,
            env={**{n: v for n, v in os.environ.items() if not n.startswith("PG")}, **clean_environment()},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for_status(data_dir: Path, *, log: Path, alive: Callable[[], bool], patience_seconds: float = 60.0) -> None:
    """Wait until the postmaster's pid file says that it accepts connections. Raises Failed with the log's end."""
    deadline = time.monotonic() + patience_seconds
    while status(data_dir) not in {"ready", "standby"}:
        if time.monotonic() > deadline or not alive():
            end = log.read_text(errors="replace")[-600:] if log.exists() else ""
            raise Failed(f"Postgres of {data_dir} did not start: {end.strip()}", hint=f"read {log}")
        time.sleep(0.02)


def status(data_dir: Path) -> str:
    """The postmaster's own word: `starting`, `stopping`, `ready`, `standby`, or empty when there is no pid file."""
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return ""
    return lines[7].strip() if len(lines) > 7 else "starting"


def stop(process: subprocess.Popen[bytes], *, patience_seconds: float = 20.0) -> None:
    """Stop fast and cleanly, with a checkpoint; past the patience kill."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
    try:
        process.wait(patience_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
