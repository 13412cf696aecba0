"""The verb `losses`: what a failover gave up is listed at the old primary's home and kept in the ledger.

Separate from losing.py, which reads the old data there: here the list is ordered, fetched, verified and kept, so that
no rewind or rebuild can come before it (rule 12), and `dr losses` can show it for ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from pydantic import JsonValue, ValidationError

from recovery.catalog import Member
from recovery.drive import Move, Seen, Truth
from recovery.epoch import Change
from recovery.errors import Failed, Unproven
from recovery.losses import Losses as Listed
from recovery.losses import furthest, losses_key
from recovery.step import Step
from recovery.value import canonical
from recovery.wal import parse_history
from tasks.home import Home
from tasks.kind import Facts, Scene
from tasks.ledger import Ledger
from tasks.postgres.place import history
from tasks.postgres.reading import Deadline, first_line, reading
from tasks.postgres.roles.ordering import ByAgent, Send
from tasks.postgres.roles.servers import Server, ask_all, primaries, standbys, whys
from tasks.stage import Stage
from tasks.store import AlreadyThere


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A list in the ledger: the run that lost, and what it lost."""

    run: str
    key: str
    sha256: str
    losses: Listed


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """See the module. `send`: how orders go to the agent; None: by HTTP."""

    stage: Stage
    send: Send | None = None

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe. Holds once the list is in the ledger."""
        done = scene.results.get(step.id)
        if not done:
            return Seen(truth=Truth.ABSENT, why="what was lost is not listed yet")
        key = str(done["kept"])
        if next(iter(self.stage.home.ledger().list(key)), None) is None:
            return Seen(truth=Truth.ABSENT, why=f"{key} is not in the ledger")
        return Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        name, site = move.step.resource, site_of(self.stage, move.step, scene)
        deadline = Deadline(move.step.patience_seconds)
        primary = the_primary(self.stage, name)
        run = losing_run(self.stage, name, primary)
        member, follows = _old(self.stage, name, site, primary)
        if follows:
            listed = Listed(
                resource=name, site=site, system_id=primary.place.system_id, timeline=primary.place.timeline,
                from_lsn=primary.place.lsn, to_lsn=primary.place.lsn,
            )  # fmt: skip
            body, said = canonical(listed), {"why": f"{site} follows the primary: it holds nothing of its own"}
            return self._keep(run, name, body, said)
        send = self.send or ByAgent(stage=self.stage, site=site)
        arguments: dict[str, JsonValue] = {"run": run, **history_of(self.stage, name, primary)}
        facts = send(member, "losses", move, scene, arguments, deadline)
        found = self.stage.home.backups(name, site).get(str(facts["key"]))
        if found is None or hashlib.sha256(found[0]).hexdigest() != facts["sha256"]:
            raise Failed(
                f"the export {facts['key']} in the bucket of {site} is {'absent' if found is None else 'another'}",
                hint="see who writes into that bucket; the step orders it again",
            )
        return self._keep(run, name, found[0], facts)

    def _keep(self, run: str, name: str, body: bytes, said: Mapping[str, JsonValue]) -> Facts:
        """Into the ledger, where nothing is overwritten: a second list of the same run has a name of its own."""
        listed, digest = Listed.model_validate_json(body), hashlib.sha256(body).hexdigest()
        ledger, key = self.stage.home.ledger(), losses_key(run, name)
        if (there := ledger.get(key)) is not None and there != body:
            key = losses_key(run, f"{name}-{digest[:16]}")
        with suppress(AlreadyThere):
            ledger.put(key, body)
        return {
            **said,
            "kept": key,
            "sha256": digest,
            "run": run,
            "lost_commits": listed.count,
            "classes": dict(listed.by_class()),
            "rows": sum(len(each.rows) for each in listed.transactions),
        }


def read(home: Home, run: str) -> tuple[Kept, ...]:
    """The lists of a run (the failover that lost; its name or the beginning of it), one a server; nothing when
    that was not listed yet. Raises Unproven when one does not read as a list."""
    ledger = home.ledger()
    found: list[Kept] = []
    for key in ledger.list(f"losses/{run}"):
        body = ledger.get(key)
        if body is None:
            continue
        try:
            listed = Listed.model_validate_json(body)
        except ValidationError:
            raise Unproven(f"{key} in the ledger is no list of losses", hint="read it from a mirror") from None
        found.append(Kept(run=key.split("/")[1], key=key, sha256=hashlib.sha256(body).hexdigest(), losses=listed))
    kept = furthest(each.losses for each in found)
    return tuple(each for each in found if any(each.losses is one for one in kept))


def evidence(home: Home, run: str, resource: str) -> str:
    """The SHA-256 of the list of a database in a run, or nothing: what rule 12 asks for. The old primary's comes before
    one that says of a follower that it holds nothing of its own."""
    mine = [each for each in read(home, run) if each.losses.resource == resource]
    return min(mine, key=lambda each: each.losses.timeline).sha256 if mine else ""


def site_of(stage: Stage, step: Step, scene: Scene) -> str:
    """The site that a step names; the one that is left by default."""
    return str(scene.arguments(step).get("site") or stage.source)


def the_primary(stage: Stage, name: str) -> Server:
    """The one primary of a database, wherever it is. Raises Failed when none or two answer."""
    said = ask_all(stage.resource(name).members.items())
    found = sorted(primaries(said), key=lambda each: each.place.timeline)
    if not found:
        raise Failed(
            f"no primary of {name} answers ({whys(said) or 'all are standbys'})", hint="see 'dr status' for its servers"
        )
    if len(found) > 1:
        raise Failed(
            f"two servers take writes: {', '.join(each.member for each in found)}",
            hint="fence the old one before anything else; nothing was touched",
        )
    return found[0]


def history_of(stage: Stage, name: str, primary: Server) -> dict[str, JsonValue]:
    """For orders: the primary's system, its timeline, and where each timeline before it was left."""
    member = stage.resource(name).members[primary.member]
    try:
        with reading(member.dsn, Deadline(10)) as connection:
            switches = parse_history(history(connection, primary.place.timeline))
    except psycopg.Error as error:
        raise Failed(f"{primary.member} broke off: {first_line(error)}", hint="see its server log") from None
    return {
        "system_id": primary.place.system_id,
        "timeline": primary.place.timeline,
        "switches": [[each.timeline, each.lsn] for each in switches],
    }


def losing_run(stage: Stage, name: str, primary: Server) -> str:
    """The run whose promotion gave the primary its timeline; this run when the ledger knows of none."""
    for change in reversed(_changes(stage.home.ledger(), stage.plan.service)):
        if change.databases.get(name, {}).get("timeline") == primary.place.timeline:
            return change.run
    return stage.plan.run


def _changes(ledger: Ledger, service: str) -> list[Change]:
    found = []
    for key in sorted(ledger.list(f"epochs/{service}/")):
        body = ledger.get(key)
        with suppress(ValidationError, json.JSONDecodeError):  # another version's: the run's own name serves as well
            found += [Change.model_validate_json(body)] if body is not None else []
    return found


def _old(stage: Stage, name: str, site: str, primary: Server) -> tuple[Member, bool]:
    """The old primary's member at a site, and whether it is a standby of the new one already. That another server of
    the site follows says nothing of what this one holds."""
    members = dict(stage.members(name, site))
    said = ask_all(members.items())
    following = [each.member for each in standbys(said) if each.place.timeline == primary.place.timeline]
    served = [each for each, at in members.items() if at.agent is not None] or list(members)
    left = [each for each in served if each not in following]
    if not left:
        return members[following[0]], True
    return members[site if site in left else left[0]], False
