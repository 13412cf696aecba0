"""All checks by name, and how they run: side by side, timed, and unproven when one raises.

The order of the table is the order of the report.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg

from recovery.check import Check, Finding
from recovery.errors import DrError
from tasks.postgres.checks import assertions, counters, files, integrity, marked, pages, reached, server
from tasks.postgres.checks.context import CheckContext, Level, Phase, Probe, failed, unproven
from tasks.postgres.reading import connections_for, first_line

AGAINST_MARK = "catalog and content"

TABLE: tuple[Probe, ...] = (
    Probe(name="configuration", phase=Phase.BEFORE_START, look=files.configuration),
    Probe(name="manifest", phase=Phase.BEFORE_START, look=files.manifest),
    Probe(name="wal", phase=Phase.BEFORE_START, look=files.wal),
    Probe(name="isolation", phase=Phase.RUNNING, look=server.isolation),
    Probe(name="target", phase=Phase.RUNNING, look=reached.target),
    Probe(name="boundary", phase=Phase.RUNNING, look=reached.boundary),
    Probe(name=AGAINST_MARK, phase=Phase.RUNNING, look=marked.against_mark),
    Probe(name="amcheck", phase=Phase.RUNNING, look=pages.amcheck),
    Probe(name="foreign keys", phase=Phase.RUNNING, look=integrity.foreign_keys),
    Probe(name="constraints", phase=Phase.RUNNING, look=integrity.row_constraints),
    Probe(name="unique", phase=Phase.RUNNING, look=integrity.unique),
    Probe(name="sequences", phase=Phase.RUNNING, look=counters.sequences),
    Probe(name="invalid indexes", phase=Phase.RUNNING, look=pages.invalid_indexes),
    Probe(name="collations", phase=Phase.RUNNING, look=server.collations),
    Probe(name="extensions", phase=Phase.RUNNING, look=server.extensions),
    Probe(name="heartbeat", phase=Phase.RUNNING, look=counters.heartbeat),
    Probe(name="checksums", phase=Phase.LAST, look=pages.checksum_failures),
    Probe(name="page checksums", phase=Phase.STOPPED, look=files.pages, levels=frozenset({Level.DEEP})),
)


def names() -> tuple[str, ...]:
    """The names of all checks that a report may show, without the user's assertions."""
    return tuple(
        part for probe in TABLE for part in (("catalog", "content") if probe.name == AGAINST_MARK else (probe.name,))
    )


def before_start(context: CheckContext) -> tuple[Check, ...]:
    """The checks of the restored files. They must pass before the server is started."""
    return _made(context, _of(context, Phase.BEFORE_START))


def running(context: CheckContext, only: str | None = None) -> tuple[Check, ...]:
    """The checks of the running copy, paused at its target or promoted; the last ones after all others have read it.

    `only` names the single check (`catalog` and `content` are one) that is made.
    """
    wanted = AGAINST_MARK if only in ("catalog", "content") else only
    probes = [*_of(context, Phase.RUNNING), *_assertions(context)]
    parts = (probes, _of(context, Phase.LAST))
    chosen = [[probe for probe in part if wanted in (None, probe.name)] for part in parts]
    return tuple(check for part in chosen for check in _made(context, part))


def stopped(context: CheckContext) -> tuple[Check, ...]:
    """The checks of the files after a clean stop of the copy."""
    return _made(context, _of(context, Phase.STOPPED))


def _of(context: CheckContext, phase: Phase) -> list[Probe]:
    return [probe for probe in TABLE if probe.phase is phase and context.level in probe.levels]


def _assertions(context: CheckContext) -> Iterable[Probe]:
    for assertion in context.assertions:
        name = f"assertion {assertion.name}"
        yield Probe(name=name, phase=Phase.RUNNING, look=partial(assertions.look, assertion=assertion))


def _made(context: CheckContext, probes: list[Probe]) -> tuple[Check, ...]:
    """All made, in the table's order. Checks may create an extension in a promoted copy: the mark is read first."""
    if not probes:
        return ()
    first = [probe for probe in probes if probe.name == AGAINST_MARK and context.promoted]
    rest = [probe for probe in probes if probe not in first]
    made = {probe.name: _one(context, probe) for probe in first}
    with ThreadPoolExecutor(connections_for(max(1, len(rest)))) as pool:
        made |= dict(zip((probe.name for probe in rest), pool.map(partial(_one, context), rest), strict=True))
    checks: list[Check] = []
    for probe in probes:
        check = made[probe.name]
        checks.extend(marked.split(check) if probe.name == AGAINST_MARK else (check,))
    return tuple(checks)


def _one(context: CheckContext, probe: Probe) -> Check:
    """One check, timed. What it could not look at is unproven, and the error is the fact."""
    begun = time.monotonic()
    try:
        check = probe.look(context, probe.name)
    except DrError as error:
        check = unproven(probe.name, f"{error.fact}; {error.hint}")
    except (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted) as error:
        hint = "the copy is damaged: restore another backup"
        check = failed(probe.name, [Finding(check=probe.name, fact=first_line(error), hint=hint)])
    except (psycopg.Error, OSError, ValueError, subprocess.SubprocessError) as error:
        check = unproven(probe.name, f"it could not be made: {first_line(error)}")
    return check.model_copy(update={"seconds": round(time.monotonic() - begun, 3)})
