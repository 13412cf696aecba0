"""The kind of a DNS name in Route53: who sees it, what moves it, who proves that it has moved.

The verbs are imported when they are asked for: looking at a name needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.kind import Verbs
    from tasks.stage import Stage

PLACES = {
    "redirect": "tasks.route53.redirect:Redirect",
    "converge": "tasks.route53.converge:Converge",
    "drain": "tasks.route53.drain:Drain",
}
"""Verb → where it is made."""


def verbs(stage: Stage) -> Verbs:
    """The verbs that act on a name, on that stage; each is imported when it is first asked for."""
    from tasks.kind import Opened

    return Opened(PLACES, stage)
