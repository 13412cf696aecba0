"""Looks at the machine that the engine runs on, before anything depends on it. Facts only; nothing is changed.

Separate from the checks of a restored copy: those judge data, these judge a place.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from recovery.catalog import Catalog
from recovery.check import Check, Finding, Outcome, Severity
from recovery.dsn import dsn
from recovery.errors import DrError
from tasks.host import LocalHost
from tasks.postgres.run_as import RunAs, probe


def passed(name: str, fact: str) -> Check:
    """It is as it has to be."""
    return Check(name=name, outcome=Outcome.PASSED, fact=fact)


def failed(name: str, fact: str, hint: str) -> Check:
    """It is not as it has to be."""
    return _with(name, Outcome.FAILED, fact, hint, Severity.FAILURE)


def unproven(name: str, fact: str, hint: str) -> Check:
    """It could not be looked at."""
    return _with(name, Outcome.UNPROVEN, fact, hint, Severity.WARNING)


def warned(name: str, fact: str, hint: str) -> Check:
    """It will do, but a person should know."""
    return _with(name, Outcome.PASSED, fact, hint, Severity.WARNING)


def absent(name: str, fact: str) -> Check:
    """The catalog doesn't ask for it."""
    return Check(name=name, outcome=Outcome.NOT_CONFIGURED, fact=fact)


def _with(name: str, outcome: Outcome, fact: str, hint: str, severity: Severity) -> Check:
    finding = Finding(check=name, severity=severity, fact=fact, hint=hint)
    return Check(name=name, outcome=outcome, fact=fact, findings=(finding,))


def timed(name: str, look: Callable[[], tuple[Check, ...]]) -> tuple[Check, ...]:
    """Look, and write the seconds on each check; what can't be reached is a failed check and not the end of looking."""
    begin = time.monotonic()
    try:
        found = look()
    except DrError as error:
        found = (failed(name, error.fact, error.hint),)
    seconds = round(time.monotonic() - begin, 3)
    return tuple(each.model_copy(update={"seconds": seconds}) for each in found)


def machine(how: Callable[[], RunAs] = probe) -> tuple[Check, ...]:
    """Python, and how Postgres can be run here."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    hint = "use Python 3.11, 3.12 or 3.13"
    python = passed("machine python", version) if fits else failed("machine python", f"this is Python {version}", hint)
    return python, *_isolation(how())


def _isolation(found: RunAs) -> tuple[Check, ...]:
    postgres, network = "machine postgres user", "machine isolation"
    hint = (
        "allow user namespaces (kernel.unprivileged_userns_clone, AppArmor's restriction), or run as an ordinary user"
    )
    if found.way == "none":
        return (failed(postgres, "Postgres refuses root, and there is no other way to run it here", hint),)
    ways = {
        "direct": "runs as the caller",
        "namespace": "runs in a user namespace",
        "account": f"runs as {found.account}",
    }
    run = passed(postgres, ways[found.way])
    if not found.network:
        return run, unproven(network, "a scratch server can't be kept off the network here", hint)
    return run, passed(network, "a scratch server has no way out (network namespace)")


def disk(scratch: Path, needed_bytes: int | None) -> tuple[Check, ...]:
    """Whether the largest database fits into scratch, twice over as a full plus incremental passes through it."""
    name, free = "machine disk", LocalHost().free_bytes(scratch)
    gigabytes = f"{free / 1e9:.1f} GB free for scratch"
    if needed_bytes is None:
        return (unproven(name, f"{gigabytes}; how much a restore needs is not known", "make a database reachable"),)
    need = f"the largest database has {needed_bytes / 1e9:.1f} GB"
    if free < needed_bytes * 1.1:
        return (failed(name, f"{gigabytes}, but {need}", "free space, or put the home on a larger disk"),)
    if free < needed_bytes * 2.2:
        return (warned(name, f"{gigabytes}; {need}", "two restores at once will not fit"),)
    return (passed(name, f"{gigabytes}; {need}"),)


def keys(home: Path, catalog: Catalog) -> tuple[Check, ...]:
    """The keys that the home should hold, and the modes of all files that hold a secret."""
    folder, engine = home / "keys", "keys engine"
    found = [
        passed(engine, "the engine can sign its runs")
        if any(folder.glob("engine.ed25519"))
        else failed(engine, f"there is no engine key in {folder}", "`dr keys make engine --role engine`")
    ]
    wanted = sorted({policy.encryption for policy in catalog.backups.values() if policy.encryption})
    found += [_backup_key(home, reference) for reference in wanted] or [
        absent("keys backup", "no policy asks for encryption")
    ]
    secret = [each for each in folder.glob("*") if each.suffix in {".ed25519", ".aes"}]
    secret += [home / each.removeprefix("file:") for each in _references(catalog) if each.startswith("file:")]
    if any(dsn(each.dsn).secrets for resource in catalog.resources.values() for each in resource.members.values()):
        secret.append(home / "catalog.yaml")
    secret = list(dict.fromkeys(secret))
    open_ = sorted(each for each in secret if each.is_file() and stat.S_IMODE(each.stat().st_mode) & 0o077)
    found += [failed("keys modes", f"{each} can be read by others", f"chmod 600 {each}") for each in open_]
    if secret and not open_:
        found.append(passed("keys modes", f"{len(secret)} files, readable by their owner only"))
    return tuple(found)


def consent(catalog: Catalog) -> tuple[Check, ...]:
    """Whether each of the standing terms can be signed."""
    return tuple(
        passed(f"consent {name}", f"{terms.runbook} of {terms.service} to {terms.to}")
        if terms.to is not None
        else warned(
            f"consent {name}",
            "it names no site that takes over: nothing is signed by it, and nothing that was signed admits a run",
            f"write `to: SITE` below consent.standing.{name}, then `dr approve --standing {name} --as NAME`",
        )
        for name, terms in catalog.consent.standing.items()
    )


def _references(catalog: Catalog) -> Iterator[str]:
    """Where the catalog says that secrets lie."""
    for site in catalog.sites.values():
        yield from (site.s3.credentials, site.compute.credentials)
    yield catalog.route53.credentials
    if catalog.routing is not None:
        yield catalog.routing.credentials
    for service in catalog.services.values():
        yield from service.notify.values()


def _backup_key(home: Path, reference: str) -> Check:
    name, (scheme, _, rest) = "keys backup", reference.partition(":")
    there = (home / rest).is_file() if scheme == "file" else rest in os.environ
    if there:
        return passed(name, f"{reference} is there")
    return failed(name, f"{reference} is missing", "`dr keys make NAME --role backup`, or bring the key here")
