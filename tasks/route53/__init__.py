"""The kind of a DNS name in Route53: who sees it, what moves it, who proves that it has moved.

The verbs are imported when they are asked for: looking at a name needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.kind import Verb
    from tasks.stage import Stage


def verbs(stage: Stage) -> dict[str, Verb]:
    """The verbs that act on a name, on that stage."""
    from tasks.route53 import converge, drain, redirect

    return {
        "redirect": redirect.Redirect(stage=stage),
        "converge": converge.Converge(stage=stage),
        "drain": drain.Drain(stage=stage),
    }
