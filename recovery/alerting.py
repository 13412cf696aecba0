"""Alerts: who is told of what, how soon and how, and who is told next while nobody acknowledges."""

from __future__ import annotations

from typing import Literal

from recovery.objective import Duration
from recovery.step import Name
from recovery.value import Value

Severity = Literal["critical", "high", "medium", "low"]


class Alert(Value):
    """What is done about an alert of one severity."""

    means: str
    within: Duration
    to: tuple[Name, ...]
    by: tuple[Literal["phone", "chat", "e-mail", "pager", "dashboard"], ...]


class Rung(Value):
    """One rung of the escalation: who is told once an alert stayed unacknowledged for `after`."""

    after: Duration
    to: Name
    only: tuple[Severity, ...] = ("critical", "high", "medium", "low")


class Alerting(Value):
    """Alerts by severity, and their escalation."""

    alerts: dict[Severity, Alert]
    escalation: tuple[Rung, ...]
