"""The kind of a DNS name in Route53: who sees it, what moves it, who proves that it has moved.

The verbs are imported when they are asked for: looking at a name needs none of them.
"""

from __future__ import annotations

PLACES = {
    "redirect": "tasks.route53.redirect:Redirect",
    "converge": "tasks.route53.converge:Converge",
    "drain": "tasks.route53.drain:Drain",
}
"""Verb → where it is made."""
