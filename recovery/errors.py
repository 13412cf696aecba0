"""The errors a person may see: a lower-case fact, then a hint that says what to do.

Separate because every room raises them and the command line alone turns them into an exit code (SPEC 2).
"""

from __future__ import annotations

from typing import ClassVar


class DrError(Exception):
    """A known trouble: `fact` says what is so, `hint` says what to do. Never carries a secret."""

    exit_code: ClassVar[int] = 1

    def __init__(self, fact: str, *, hint: str) -> None:
        super().__init__(fact)
        self.fact = fact
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.fact}\nhint: {self.hint}"


class Failed(DrError):
    """It ran and found a failure (exit 1)."""


class BadInput(DrError):
    """The input or the configuration is wrong; nothing was touched (exit 2)."""

    exit_code = 2


class Unproven(DrError):
    """It could not be verified: neither a pass nor a failure (exit 3)."""

    exit_code = 3


class Refused(DrError):
    """A rule, a missing approval or a lease held by another forbids it; nothing was touched (exit 4)."""

    exit_code = 4


class NoPoint(BadInput):
    """The resource cannot be restored to what was asked; the fact says why."""
