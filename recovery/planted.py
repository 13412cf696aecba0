"""A planted fault and when it counts as detected: only by a failure whose finding names what was planted. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from recovery.check import Finding, Severity
from recovery.value import Value


class Planted(Value):
    """`what` was broken, for people; a finding that holds one of `expects` has named it. `detected`: once judged."""

    name: str
    what: str
    expects: tuple[str, ...] = ()
    detected: bool = False


def judged(planted: Planted, findings: Iterable[Finding]) -> Planted:
    """The same with its judgement: a proof that fails for another reason has not detected it (TRUTH.md)."""
    facts = [finding.fact for finding in findings if finding.severity is Severity.FAILURE]
    return planted.but(detected=any(names(fact, word) for fact in facts for word in planted.expects))


def names(fact: str, word: str) -> bool:
    """Whether a fact holds a name as a whole: `public.rows` is not named by `public.rows_old`."""
    return re.search(rf"(?<![\w.$-]){re.escape(word)}(?![\w$]|\.\w)", fact) is not None
