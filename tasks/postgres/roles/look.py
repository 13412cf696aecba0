"""Looking at a database before its roles change: where its servers stand, and by what the old primary could be fenced.

Separate from the verbs: it acts on nothing, never raises for silence and takes about two seconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from recovery.catalog import Member
from recovery.errors import DrError
from recovery.measure import exposure
from recovery.observation import FenceSeen, MemberSeen
from recovery.term import doubt, strictest
from tasks.home import Home
from tasks.postgres import archived
from tasks.postgres.roles import cloud, servers, witness
from tasks.postgres.roles.servers import Server, Silent

if TYPE_CHECKING:
    from recovery.standing import StoredFacts

ASK_SECONDS = 1.0
ARCHIVE_SECONDS = 1.5
AGENT_SECONDS = 1.0


def members(home: Home, name: str) -> tuple[MemberSeen, ...]:
    """Every member of a database as it is now; a silent one is a word."""
    resource = home.resource(name)
    said = dict(servers.ask_all(tuple(resource.members.items()), patience_seconds=ASK_SECONDS))
    if not servers.standbys(said):  # a starved machine is asked once more: without a standby nothing can be planned
        silent = [(each, resource.members[each]) for each, word in said.items() if isinstance(word, Silent)]
        said |= servers.ask_all(silent, patience_seconds=ASK_SECONDS)
    primary = next(iter(servers.primaries(said)), None)
    standbys = {each.member: each for each in servers.standbys(said)}
    lagging = [each for each in standbys.values() if _behind(each, primary, None, home.now()) != 0.0]
    kept = _archives(home, name, lagging, tuple(standbys.values()))
    return tuple(
        _member(resource.site_of(each), said[each], primary, kept.get(resource.site_of(each)), home.now())
        for each in resource.members
    )


def _member(
    site: str, said: Server | Silent, primary: Server | None, kept: StoredFacts | None, now: datetime
) -> MemberSeen:
    if isinstance(said, Silent):
        return MemberSeen(site=site, role="silent")
    return MemberSeen(
        site=site,
        role="primary" if said.primary else "standby",
        system_id=said.place.system_id,
        timeline=said.place.timeline,
        lsn=said.received_lsn,
        behind_seconds=0.0 if said.primary else _behind(said, primary, kept, now),
    )


def _behind(said: Server, primary: Server | None, kept: StoredFacts | None, now: datetime) -> float | None:
    """Now minus the instant up to which every commit can be had at the site: what was received is replayed before a
    promotion, and what its archive holds beyond that as well. Nothing is behind when all that the primary flushed is
    there; without the primary it counts from the last commit that is known to be there."""
    same = primary is not None and primary.place.system_id == said.place.system_id
    flushed = primary.received_lsn if same and primary is not None else None
    lsn, at = said.received_lsn, said.place.committed_at
    if kept is not None and kept.lsn is not None and kept.lsn > lsn and kept.system_id == said.place.system_id:
        lsn, at = kept.lsn, kept.committed_at or at
    return exposure("", stored_lsn=lsn, stored_at=at, flushed_lsn=flushed, now=now).seconds


def _archives(home: Home, name: str, lagging: Iterable[Server], standbys: tuple[Server, ...]) -> dict[str, StoredFacts]:
    """What the buckets of the sites of those that lag hold beyond them, as far as they say so within the patience."""
    sites: dict[str, list[Server]] = {}
    for each in lagging:
        sites.setdefault(home.resource(name).site_of(each.member), []).append(each)
    if not sites:
        return {}
    pool = ThreadPoolExecutor(max_workers=len(sites))
    try:
        reading = {site: pool.submit(_archive, home, name, site, there, standbys) for site, there in sites.items()}
        done, _ = wait(reading.values(), timeout=ARCHIVE_SECONDS)
        found = {site: each.result() for site, each in reading.items() if each in done and not each.exception()}
        return {site: each for site, each in found.items() if each is not None}
    finally:
        pool.shutdown(wait=False)


def _archive(
    home: Home, name: str, site: str, lagging: list[Server], standbys: tuple[Server, ...]
) -> StoredFacts | None:
    """Up to where a site's bucket reaches; None where a promotion there would find nothing to replay. The usual case of
    a standby that streams costs two questions: the end of an archive is read file by file, by a program of Postgres's.
    """
    if not any(_more(home, name, site, each) for each in lagging):
        return None
    from tasks.postgres.looking import Asked
    from tasks.standing import stored
    from tasks.watching import bucket

    asked = tuple(Asked(site=each.member, place=each.place) for each in standbys)
    return stored(bucket(home, name, site, asked, marked=False))


def _more(home: Home, name: str, site: str, standby: Server) -> bool:
    """Whether the archive may hold WAL beyond a standby, by the rule of its promotion. Another engine's keeps its files
    under names of its own: what it has is read."""
    if home.resource(name).engine != "native":
        return True
    place = standby.place
    store = home.backups(name, site, patience_seconds=ARCHIVE_SECONDS)
    there = archived.files(store, place.system_id, place.timeline, standby.received_lsn, place.segment_bytes)
    return next(there, None) is not None


def fence(home: Home, name: str, source: str, target: str) -> FenceSeen:
    """By what the end of the primary at `source` could be proved now."""
    there = home.resource(name).at(source)
    with ThreadPoolExecutor(max_workers=3) as pool:
        agent = pool.submit(_agents, there)
        isolated = pool.submit(_quietly, lambda: _cloud(home, source, there))
        lease = pool.submit(_lease, home, name, there, source, target)
        return FenceSeen(
            agent="answers" if agent.result() else "silent",
            cloud="answers" if isolated.result() else "silent",
            lease=lease.result(),
        )


def _agents(members: tuple[tuple[str, Member], ...]) -> bool:
    """Whether the agents of all these members answer, and may be ordered to stop their servers: one that bears another
    name refuses, and proves nothing."""
    return bool(members) and all(each.agent is not None and _answers(each.agent, name) for name, each in members)


def _answers(url: str, name: str) -> bool:
    import urllib3

    try:
        answer = urllib3.request(
            "GET", f"{url.rstrip('/')}/health", timeout=urllib3.Timeout(total=AGENT_SECONDS), retries=False
        )
        said = answer.json()
    except (urllib3.exceptions.HTTPError, ValueError):
        return False
    return answer.status == 200 and isinstance(said, dict) and said.get("server", name) == name


def _cloud(home: Home, site: str, members: tuple[tuple[str, Member], ...]) -> bool:
    region = home.catalog.sites[site].region
    named = [each.instance for _, each in members if each.instance is not None]
    return bool(named) and len(named) == len(members) and all(cloud.answers(each, region=region) for each in named)


def _lease(
    home: Home, name: str, members: tuple[tuple[str, Member], ...], source: str, target: str
) -> Literal["kept", "absent", "unknown"]:
    """`kept`: the leashes of that site are known and believed, and everybody who could confirm them can be told of a
    newer term."""
    resource = home.resource(name)
    if resource.fence is None or witness.witness_site(home) is None:
        return "absent"
    try:
        words = witness.words(home, name, members, timeout_seconds=AGENT_SECONDS)
    except DrError:
        return "unknown"
    there = servers.ask_all(resource.at(target), patience_seconds=ASK_SECONDS) if words else {}
    if not words or doubt(words, site=source, committed_at=servers.committed_at(there)):
        return "absent"
    others = [site for site in strictest(words).asks if site not in {source, witness.witness_site(home)}]
    told = all(_agents(resource.at(site)) for site in {*others, target})
    return "kept" if told else "unknown"


def _quietly(do: Callable[[], bool]) -> bool:
    try:
        return do()
    except DrError:
        return False
