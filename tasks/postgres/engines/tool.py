"""A backup tool that is installed here and called as a command: where it is, its version, its words when it fails.

Separate because both adapters need the same: an absent tool is told before anything is touched, arguments are lists,
secrets travel in the environment or in the tool's own files, and no error of a tool is read as "there is no more".
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from recovery.check import Check, Outcome
from recovery.errors import BadInput, Failed
from tasks.host import Host, LocalHost, Ran

LOOK_SECONDS = 120.0
WAL_SECONDS = 600.0
DATA_SECONDS = 4 * 3600.0
MOST_WORDS = 400
THREADS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """Where a tool's programs are (None: on PATH), how a person gets it, and the environment that it needs."""

    bin_dir: str | None
    install: str
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    host: Host = field(default_factory=LocalHost)

    def program(self, name: str) -> str:
        """The path of one of its programs. Raises BadInput when it is not installed."""
        found = shutil.which(name, path=self.bin_dir)
        if found is None:
            where = self.bin_dir or "PATH"
            raise BadInput(f"{name} is not installed here (looked in {where})", hint=self.install)
        return found

    def run(
        self, name: str, arguments: Sequence[str], *, patience_seconds: float, env: Mapping[str, str] | None = None
    ) -> Ran:
        """Run one program to its end, whatever its exit code."""
        argv = [self.program(name), *arguments]
        return self.host.run(argv, env={**self.env, **(env or {})}, patience_seconds=patience_seconds)

    def must(
        self, name: str, arguments: Sequence[str], *, patience_seconds: float, env: Mapping[str, str] | None = None
    ) -> Ran:
        """Run one program that has to succeed. Raises Failed with its own words."""
        ran = self.run(name, arguments, patience_seconds=patience_seconds, env=env)
        if ran.code:
            raise Failed(f"{name} ended with {ran.code}: {words(ran)}", hint=f"run it by hand; {self.install}")
        return ran

    def version(self, name: str, arguments: Sequence[str]) -> str:
        """What the program says when it is asked for its version. Raises Failed when it can't say."""
        ran = self.must(name, arguments, patience_seconds=LOOK_SECONDS)
        return " ".join(ran.out.split())


def words(ran: Ran) -> str:
    """What a tool said when it failed, in one line."""
    said = [line.strip() for line in (ran.err or ran.out).splitlines() if line.strip()]
    told = [line for line in said if "ERROR" in line or "HINT" in line] or said
    return " ".join(" ".join(told).split())[:MOST_WORDS] or "it said nothing"


@dataclass(frozen=True, kw_only=True, slots=True)
class WalCommand:
    """How a tool fetches one WAL file: program, arguments of (name, destination), and the exit code for "not found"."""

    program: str
    arguments: Mapping[str, tuple[str, ...]]
    not_found: int = 1


def fetch_each(tool: Tool, command: WalCommand, into: Path, segment_bytes: int) -> int:
    """Fetch every file of `command` into the folder, side by side; gives the bytes.

    Raises Failed naming the first file that is missing, short, or could not be had: never taken for the end of WAL.
    """

    def one(name: str) -> int:
        ran = tool.run(command.program, command.arguments[name], patience_seconds=WAL_SECONDS)
        hint = "see whether another repository has it whole, or choose a point before it; `dr points` shows the gaps"
        fetched = into / name
        if ran.code == command.not_found:
            raise Failed(f"{name} is not in the archive ({command.program}: {words(ran)})", hint=hint)
        if ran.code or not fetched.is_file():
            raise Failed(
                f"{command.program} could not fetch {name} (it ended with {ran.code}: {words(ran)})",
                hint="this is no end of WAL: see to the repository's network and credentials, then run it again",
            )
        size = fetched.stat().st_size
        if "." not in name and size != segment_bytes:
            raise Failed(f"{name} has {size} bytes in the archive, a segment has {segment_bytes}", hint=hint)
        return size

    with ThreadPoolExecutor(THREADS, thread_name_prefix="fetch-wal") as pool:
        jobs = [pool.submit(one, name) for name in command.arguments]
        try:
            return sum(job.result() for job in jobs)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def on_the_tools_word(name: str, fact: str) -> Check:
    """A check that only the tool could make: visibly unproven, without deciding the verdict."""
    return Check(name=name, outcome=Outcome.UNPROVEN, fact=fact, applies=False)


def refuse_unfit(host: Host, into: Path, size_bytes: int) -> None:
    """Raise before anything is written: the target holds something, or the data will not fit."""
    if into.is_symlink() or (into.exists() and (not into.is_dir() or any(into.iterdir()))):
        raise BadInput(f"{into} is not an empty folder", hint="name a folder that is absent or empty")
    free = host.free_bytes(into)
    if free < size_bytes:
        raise Failed(
            f"{into} has {free / 1e9:.1f} GB free, the backup needs {size_bytes / 1e9:.1f} GB",
            hint="free space there, or put the home on a larger disk",
        )
