"""What was given on the command line, where no command can judge it: empty words, and paths that cannot be meant.

Separate from the commands because it holds for all of them, and from main.py, which only carries errors out.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Sequence
from pathlib import Path

from deployments.cli.output import unsaid
from recovery.errors import BadInput, DrError

WRONG = {
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EACCES, errno.EPERM, errno.EROFS,
}  # fmt: skip
"""What the system says of a path that cannot be meant or may not be used, or that lies in one …"""
UNFIT = WRONG | {errno.ENOENT, errno.EEXIST}
"""… and of the very path that was named."""


def refuse_empty(words: Sequence[str]) -> None:
    """Raises BadInput for a word that is empty: a variable of the shell that is not set. As a path it would be `.`."""
    before = ""
    for each in words:
        if not each or (each.startswith("--") and each.endswith("=")):
            place = f" behind {before}" if before and not each else f": {each}" if each else ""
            hint = "is a variable of the shell not set? give it a value, or leave the option out"
            raise BadInput(f"there is an empty word{place}", hint=hint)
        before = each


def explained(error: Exception, words: Sequence[str]) -> DrError | None:
    """An error of the system that the command line or its stdout explains: a path that was named there cannot be meant,
    or what was shown (help, on a full disk) could not be written."""
    if not isinstance(error, OSError):
        return None
    if isinstance(error.filename, str):
        path = Path(error.filename).absolute()
        given = [each.partition("=")[2] if each.startswith("--") else each for each in words]
        named = [Path(each).absolute() for each in (*given, os.environ.get("DR_HOME", "")) if each]
        inside = any(path.is_relative_to(each) for each in named if each != Path.cwd())
        if (error.errno in UNFIT and path in named) or (error.errno in WRONG and inside):
            why = (error.strerror or "unknown").lower()
            return BadInput(
                f"{error.filename} cannot be used: {why}", hint="see the path on the command line, and DR_HOME"
            )
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return unsaid(error) if modules and modules[-1].startswith(("rich.", "typer.")) else None
