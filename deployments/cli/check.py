"""`dr check`: the catalog first, then everything it relies on, looked at and not changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import typer

from deployments.cli.output import HomeOption, JsonOption, complain, emit, existing_home, word

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from recovery.catalog import Catalog
    from recovery.check import Check


def check(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Validate the catalog and look at the environment. Exit code 1: a check failed; 2: catalog; 3: one is unproven."""
    from tasks.catalog_file import CatalogWrong, load

    folder = existing_home(home)
    try:
        catalog = load(folder / "catalog.yaml")
    except CatalogWrong as wrong:
        if not as_json:
            raise
        complain(wrong, as_json=False)
        problems = [
            {
                "file": str(wrong.file),
                "line": each.at.line,
                "column": each.at.column,
                "fact": each.fact,
                "hint": each.hint,
            }
            for each in wrong.problems
        ]
        error = {"fact": wrong.fact, "hint": wrong.hint, "problems": problems}
        emit(True, {"error": error}, lambda: None)
        raise typer.Exit(wrong.exit_code) from None
    checks = looked(folder, catalog)
    document = {"home": str(folder), "catalog": catalog.name, "checks": [_plain(each) for each in checks]}
    emit(as_json, document, lambda: _table(checks))
    raise typer.Exit(code(checks))


def code(checks: Iterable[Check]) -> int:
    """0 all passed or not configured, 1 one failed, 3 one is unproven."""
    outcomes = {each.outcome.value for each in checks}
    return 1 if "failed" in outcomes else 3 if "unproven" in outcomes else 0


def looked(folder: Path, catalog: Catalog) -> tuple[Check, ...]:
    """Every look at the environment; the slow ones, over the network, at the same time."""
    from tasks import preflight, preflight_capacity, preflight_s3

    sizes: list[int] = []
    looks: list[Callable[[], tuple[Check, ...]]] = [
        lambda: (preflight.passed("catalog", f"{catalog.name}, schema {catalog.schema_version}"),),
        lambda: preflight.timed("machine", preflight.machine),
        lambda: preflight.timed("keys", lambda: preflight.keys(folder, catalog)),
        lambda: preflight.timed("consent", lambda: preflight.consent(catalog)),
    ]
    looks += [
        partial(preflight.timed, f"{site} s3", partial(preflight_s3.look, catalog, site)) for site in catalog.sites
    ]
    looks += [
        partial(_postgres, catalog, resource, site, sizes)
        for resource, each in catalog.resources.items()
        for site in each.members
    ]
    looks += [
        partial(preflight.timed, f"capacity {name}", partial(preflight_capacity.look, catalog, name))
        for name in catalog.services
    ]
    looks.append(partial(_names, catalog))
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(lambda look: look(), looks))
    found.append(preflight.disk(folder / "scratch", max(sizes, default=None)))
    return tuple(each for group in found for each in group)


def _names(catalog: Catalog) -> tuple[Check, ...]:
    """One name after another: Route53 takes five requests a second of a whole account."""
    from tasks import preflight, preflight_dns

    found = [preflight.timed(f"dns {name}", partial(preflight_dns.look, catalog, name)) for name in catalog.dns]
    return tuple(each for group in found for each in group)


def _postgres(catalog: Catalog, resource: str, site: str, sizes: list[int]) -> tuple[Check, ...]:
    from tasks import preflight
    from tasks.postgres import preflight as postgres

    found = catalog.resources[resource]
    member, policy, name = found.members[site], catalog.backups[found.backup], f"{site} {resource}"
    majors: list[int | None] = []

    def server() -> tuple[Check, ...]:
        seen = postgres.server(name, member, policy)
        majors.append(seen.major)
        sizes.append(seen.size_bytes or 0)
        return seen.checks

    def tools() -> tuple[Check, ...]:
        major = majors[0] if majors else None
        return postgres.tools(name, member, incremental=policy.incremental is not None, major=major)

    return (*preflight.timed(name, server), *preflight.timed(f"{name} tools", tools))


def _plain(found: Check) -> dict[str, object]:
    hint = found.findings[0].hint if found.findings else None
    return {
        "name": found.name,
        "outcome": found.outcome.value,
        "seconds": found.seconds,
        "fact": found.fact,
        "hint": hint,
    }


def _table(checks: Sequence[Check]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    counted = Counter(each.outcome.value for each in checks)
    table = Table(box=None, pad_edge=False, caption=", ".join(f"{count} {what}" for what, count in counted.items()))
    table.add_column("check")
    table.add_column("outcome", no_wrap=True)
    table.add_column("fact", overflow="fold")
    for each in checks:
        fact = Text(each.fact)
        for finding in each.findings:
            fact.append(f"\nhint: {finding.hint}", style="cyan")
        table.add_row(Text(each.name), word(each.outcome.value), fact)
    return table
