"""Makes the project's virtual environment `.venv`: pinned, once, safe when two do it at the same moment.

Separate from the Makefile because it needs a lock and a hash; standard library only, since it runs before anything is
installed. A stamp, written last, says that the environment is whole and what it was made from: an install that was
interrupted has no stamp and is made again from nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "made-from"
SOURCES = ("pyproject.toml", "deployments/constraints.txt", "deployments/environment.py")


def wanted() -> str:
    """What it has to be made from: the interpreter, the folder (scripts carry its name) and the pinned packages."""
    digest = hashlib.sha256()
    for part in (sys.version, sys.base_prefix, str(ROOT), *((ROOT / name).read_text() for name in SOURCES)):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def is_whole() -> bool:
    """Whether the environment is there, complete, and made from what is wanted now."""
    return STAMP.is_file() and STAMP.read_text() == wanted() and (VENV / "bin" / "python").exists()


def make() -> int:
    """Make it from nothing; gives the exit code."""
    begin = time.monotonic()
    say(f"setting up .venv with Python {sys.version.split()[0]} (once; a minute or two)")
    shutil.rmtree(VENV, ignore_errors=True)
    if subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False).returncode:
        say("error: the virtual environment could not be made")
        say("hint: on Debian and Ubuntu: apt-get install python3-venv; is there space, may you write here?")
        return 2
    log = VENV / "install.log"
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    pip += ["-c", "deployments/constraints.txt", "-e", ".[lab,test]"]
    quiet = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore", "PIP_USER": "0", "PIP_PROGRESS_BAR": "off"}
    with log.open("wb") as sink:
        ended = subprocess.run(pip, cwd=ROOT, env=quiet, stdout=sink, stderr=subprocess.STDOUT, check=False)
    if ended.returncode:
        say("\n".join(log.read_text(errors="replace").splitlines()[-15:]))
        say("error: the packages could not be installed")
        say("hint: is the package index reachable? the whole log is .venv/install.log; then the same command again")
        return 2
    STAMP.write_text(wanted())
    say(f"set up in {time.monotonic() - begin:.0f} s")
    return 0


def say(text: str) -> None:
    """Progress is for people: stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> int:
    """Make the environment unless it is whole; the second of two waits for the first and then finds it so."""
    if is_whole():
        return 0
    with (ROOT / ".venv.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another make is setting up .venv; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        return 0 if is_whole() else make()


if __name__ == "__main__":
    sys.exit(main())
