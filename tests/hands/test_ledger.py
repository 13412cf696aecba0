"""Ledgers keep what was written once, on every backend; the journal chains it; verification finds what was done."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ledger_backends import TRUE_OF, Backend, running, telling

from deployments.cli.main import run as dr
from recovery.check import Outcome
from recovery.errors import BadInput, Failed, Refused
from recovery.evidence import manifest_key, record_key
from tasks.endorsements import Endorsement, endorse, publish
from tasks.evidence import conflicts, run_names, verify
from tasks.evidence_pack import export
from tasks.journal import Journal, read_records
from tasks.ledger import Ledger
from tasks.ledger_dir import DirectoryLedger
from tasks.ledger_mirrored import MirroredLedger
from tasks.signatures import Signer, make_private_pem, signer
from tasks.store import AlreadyThere

RUN = "a" * 64


def clock() -> datetime:
    return datetime.now(UTC)


def fresh() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Backend]]:
    """Backends are started when a test asks, and ended with the module."""

    class Started(dict[str, Backend]):
        def __missing__(self, name: str) -> Backend:
            self[name] = stack.enter_context(running(name, tmp_path_factory.mktemp(name)))
            return self[name]

    with ExitStack() as stack:
        yield Started()


@pytest.fixture(params=sorted(TRUE_OF))
def backend(request: pytest.FixtureRequest, backends: dict[str, Backend]) -> Backend:
    return backends[request.param]


@pytest.fixture
def ledger(backend: Backend) -> Ledger:
    return backend.ledger(fresh())


@pytest.fixture
def local(tmp_path: Path) -> DirectoryLedger:
    return DirectoryLedger(tmp_path / "ledger")


@pytest.fixture(scope="module")
def engine() -> Signer:
    return signer("engine", make_private_pem())


def journal(ledger: Ledger, *, run: str = RUN, who: str = "engine", generation: int = 1) -> Journal:
    return Journal(ledger, run, who=who, generation=generation, clock=clock)


def ended(ledger: Ledger, sign: Signer, run: str = RUN, records: int = 3) -> None:
    book = journal(ledger, run=run)
    for n in range(records):
        book.append("step.begun", "db", facts={"step": "s", "attempt": n + 1})
    book.end("held", sign)


# -- every backend


def test_a_document_is_written_once_and_read_back(ledger: Ledger) -> None:
    assert ledger.get("runs/x/1.json") is None
    ledger.put("runs/x/1.json", b"one")
    with pytest.raises(AlreadyThere):
        ledger.put("runs/x/1.json", b"two")
    with pytest.raises(AlreadyThere):
        ledger.put("runs/x/1.json", b"one")
    assert ledger.get("runs/x/1.json") == b"one"


def test_keys_are_listed_in_the_order_of_their_text(backend: Backend) -> None:
    ledger = backend.ledger(fresh())
    keys = ["a-b/1", "a/1", "a/10", "a/2", "a/b/c", "ab", "b"]
    for key in reversed(keys):
        ledger.put(key, b"x")
    assert list(ledger.list("")) == sorted(keys)
    assert list(ledger.list("a/")) == ["a/1", "a/10", "a/2", "a/b/c"]
    assert list(ledger.list("a/1")) == ["a/1", "a/10"]
    assert list(ledger.list("a/", after="a/10")) == ["a/2", "a/b/c"]
    if "after any text" in TRUE_OF[backend.name]:
        assert list(ledger.list("a/", after="a/b")) == ["a/b/c"]
        assert list(ledger.list("", after="a/b/c")) == ["ab", "b"]
    assert list(ledger.list("nothing/")) == []


def test_of_many_writers_of_one_key_exactly_one_wins(ledger: Ledger) -> None:
    def write(n: int) -> int:
        try:
            ledger.put("runs/x/1.json", str(n).encode())
        except AlreadyThere:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 1


def test_a_run_is_chained_ended_signed_and_verified(ledger: Ledger, engine: Signer) -> None:
    book = journal(ledger)
    book.append("step.begun", "db", facts={"step": "s", "attempt": 1})
    assert verify(ledger, trusted=[engine.fingerprint]).outcome is Outcome.UNPROVEN
    journal(ledger).append("step.ended", "db", facts={"step": "s", "attempt": 1}, measures={"seconds": 0.5})
    manifest = journal(ledger).end("held", engine)
    assert (manifest.records, manifest.outcome) == (3, "held")
    assert journal(ledger).end("held", engine) == manifest, "ending again gives the same manifest"
    report = verify(ledger, trusted=[engine.fingerprint])
    assert (report.outcome, report.runs[0].records, report.runs[0].closed) == (Outcome.PASSED, 3, "held")


def test_two_processes_at_one_run_share_one_whole_chain(ledger: Ledger) -> None:
    one, other = journal(ledger, who="one"), journal(ledger, who="other")
    for n in range(3):
        one.append("step.begun", "db", facts={"n": n})
        other.append("step.begun", "db", facts={"n": n})
    assert [record.who for record in read_records(ledger, RUN)] == ["one", "other"] * 3
    assert not verify(ledger).runs[0].troubles


@pytest.mark.parametrize("backend", telling("locked against deletion"), indirect=True)
def test_a_record_in_a_locked_bucket_cannot_be_deleted(backend: Backend) -> None:
    name = fresh()
    backend.ledger(name).put("runs/x/1.json", b"one")
    version = backend.client.list_object_versions(Bucket=name)["Versions"][0]["VersionId"]
    with pytest.raises(backend.client.exceptions.ClientError, match="AccessDenied"):
        backend.client.delete_object(Bucket=name, Key="runs/x/1.json", VersionId=version)


@pytest.mark.parametrize("backend", telling("lock cannot be shortened"), indirect=True)
def test_a_records_lock_cannot_be_shortened(backend: Backend) -> None:
    name = fresh()
    backend.ledger(name).put("runs/x/1.json", b"one")
    until = datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(backend.client.exceptions.ClientError, match="AccessDenied"):
        backend.client.put_object_retention(
            Bucket=name, Key="runs/x/1.json", Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until}
        )


# -- the directory


@pytest.mark.parametrize(
    "key", ["../x", "/x", "a/../../x", "a//b", "", "a/", ".hidden", "a/.b", "a\\..\\b", "a\nb", "a b", "x" * 201]
)
def test_a_key_that_escapes_is_refused(local: DirectoryLedger, key: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a key"):
        local.put(key, b"x")
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_what_a_killed_writer_left_is_no_document(local: DirectoryLedger, tmp_path: Path) -> None:
    local.put("runs/x/1.json", b"one")
    (tmp_path / "ledger/runs/x/.2.json.abc").write_bytes(b"half")
    assert list(local.list("")) == ["runs/x/1.json"]


def test_a_directory_that_cannot_be_written_says_so_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Failed, match="could not be written") as caught:
        DirectoryLedger(tmp_path / "file").put("runs/x/1.json", b"one")
    assert caught.value.hint


# -- the journal


def test_threads_of_one_process_append_one_chain(local: DirectoryLedger) -> None:
    book = journal(local)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: book.append("step.begun", "db", facts={"n": n}), range(40)))
    assert [record.sequence for record in read_records(local, RUN)] == list(range(40))
    assert len(book.records()) == 40


def test_a_stale_owner_can_neither_append_nor_open(local: DirectoryLedger) -> None:
    old = journal(local, who="old")
    old.append("step.begun", "db")
    journal(local, who="new", generation=2).append("step.begun", "db")
    with pytest.raises(Refused, match="taken over by new in generation 2; ours is 1"):
        old.append("step.ended", "db")
    with pytest.raises(Refused, match="taken over by new"):
        journal(local, who="old")
    assert len(read_records(local, RUN)) == 2


def test_nothing_follows_the_end_of_a_run(local: DirectoryLedger, engine: Signer) -> None:
    late = journal(local)
    ended(local, engine)
    with pytest.raises(Refused, match=r"is ended \(held\)"):
        late.append("step.begun", "db")
    assert verify(local, trusted=[engine.fingerprint]).outcome is Outcome.PASSED


def test_a_crash_between_the_last_record_and_the_manifest_is_made_good(local: DirectoryLedger, engine: Signer) -> None:
    def killed(_: bytes) -> None:
        raise KeyboardInterrupt

    book = journal(local)
    book.append("step.begun", "db")
    with pytest.raises(KeyboardInterrupt):
        book.end("missed", killed)  # type: ignore[arg-type]
    assert verify(local, trusted=[engine.fingerprint]).outcome is Outcome.UNPROVEN
    assert journal(local).end("held", engine).outcome == "missed", "the outcome is what the record said"
    assert verify(local, trusted=[engine.fingerprint]).outcome is Outcome.PASSED


def test_a_journal_does_not_go_on_with_a_chain_that_is_not_whole(local: DirectoryLedger, tmp_path: Path) -> None:
    for _ in range(3):
        journal(local).append("step.begun", "db")
    (tmp_path / "ledger" / record_key(RUN, 1)).unlink()
    with pytest.raises(Failed, match="are not whole"):
        journal(local)


# -- tampering: each is found, and named


def _rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, sort_keys=True, separators=(",", ":")))


def _alter(root: Path) -> None:
    _rewrite(root / record_key(RUN, 1), who="mallory")


def _reformat(root: Path) -> None:
    path = root / record_key(RUN, 1)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))


def _swap(root: Path) -> None:
    one, other = root / record_key(RUN, 0), root / record_key(RUN, 1)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _cut(root: Path) -> None:
    (root / record_key(RUN, 3)).unlink()


def _remove(root: Path) -> None:
    (root / record_key(RUN, 1)).unlink()


def _truncate(root: Path) -> None:
    path = root / record_key(RUN, 2)
    path.write_bytes(path.read_bytes()[:40])


def _outcome(root: Path) -> None:
    _rewrite(root / manifest_key(RUN), outcome="met")


def _unsign(root: Path) -> None:
    _rewrite(root / manifest_key(RUN), signature=None)


def _resign(root: Path) -> None:
    """Mallory ends the run anew with a key of his own, which he puts into the ledger too."""
    (root / manifest_key(RUN)).unlink()
    journal(DirectoryLedger(root)).end("held", signer("engine", make_private_pem()))


def _lose_key(root: Path) -> None:
    shutil.rmtree(root / "keys")


def _stray(root: Path) -> None:
    (root / "runs" / RUN / "00000009.txt").write_text("hello")


TAMPERINGS = {
    _alter: "does not follow",
    _reformat: "not in canonical form",
    _swap: "does not follow",
    _cut: "closes another chain",
    _remove: "gap",
    _truncate: "not a record",
    _outcome: "signature does not match",
    _unsign: "no signature",
    _resign: "not listed",
    _lose_key: "does not hold",
    _stray: "not a record",
}


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__.strip("_"))
def test_tampering_is_found(local: DirectoryLedger, engine: Signer, tmp_path: Path, tamper: object) -> None:
    ended(local, engine)
    ended(local, engine, run="b" * 64)
    tamper(tmp_path / "ledger")  # type: ignore[operator]
    report = verify(local, trusted=[engine.fingerprint])
    assert report.outcome is Outcome.FAILED
    words = " | ".join(trouble.fact for trouble in report.runs[0].troubles)
    assert TAMPERINGS[tamper] in words  # type: ignore[index]


def test_without_a_named_key_a_signature_proves_nothing(local: DirectoryLedger, engine: Signer) -> None:
    ended(local, engine)
    assert verify(local).outcome is Outcome.UNPROVEN
    assert "no key was named" in verify(local).runs[0].why


def test_a_key_that_the_old_one_vouched_for_is_trusted_and_a_strangers_is_not(
    local: DirectoryLedger, engine: Signer
) -> None:
    new, stranger = signer("engine", make_private_pem()), signer("engine", make_private_pem())
    publish(local, engine.public_pem)
    ended(local, new)
    assert verify(local, trusted=[engine.fingerprint]).outcome is Outcome.FAILED
    said = Endorsement(key=new.fingerprint, name="engine", role="engine", at=clock())
    publish(local, stranger.public_pem)
    endorse(local, said, stranger)
    assert verify(local, trusted=[engine.fingerprint]).outcome is Outcome.FAILED
    endorse(local, said, engine)
    assert verify(local, trusted=[engine.fingerprint]).outcome is Outcome.PASSED


# -- mirrors


class Flaky:
    """A ledger that can fall silent, counting how often it was asked meanwhile."""

    def __init__(self, under: Ledger) -> None:
        self.under, self.silent, self.asked = under, False, 0

    @property
    def place(self) -> str:
        return self.under.place

    def _answer(self) -> None:
        if self.silent:
            self.asked += 1
            raise Failed(f"{self.place} is silent", hint="wait")

    def put(self, key: str, body: bytes) -> None:
        self._answer()
        self.under.put(key, body)

    def get(self, key: str) -> bytes | None:
        self._answer()
        return self.under.get(key)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        self._answer()
        yield from self.under.list(prefix, after)


class Sites:
    def __init__(self, folder: Path) -> None:
        self.home, self.mirror = (Flaky(DirectoryLedger(folder / name)) for name in ("home", "mirror"))
        self.seconds = 0.0
        self.ledger = self.opened()

    def opened(self) -> MirroredLedger:
        return MirroredLedger(self.home, [self.mirror], now_seconds=lambda: self.seconds)

    def keys(self, place: Flaky) -> list[str]:
        return list(place.under.list("runs/"))


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path)


def test_records_reach_home_and_mirror(sites: Sites, engine: Signer) -> None:
    ended(sites.ledger, engine)
    assert sites.keys(sites.home) == sites.keys(sites.mirror) != []
    assert (sites.ledger.degraded, sites.ledger.behind) == ("", {})


def test_a_silent_mirror_is_remembered_rests_and_is_caught_up(sites: Sites) -> None:
    book = journal(sites.ledger)
    sites.mirror.silent = True
    for _ in range(5):
        book.append("step.begun", "db")
    assert sites.mirror.asked == 1, "a dead mirror costs one patience, not one a record"
    assert sites.ledger.degraded == ""
    assert len(sites.ledger.behind[sites.mirror.place]) == 5
    sites.mirror.silent, sites.seconds = False, 31.0
    book.append("step.begun", "db")
    assert sites.keys(sites.mirror) == sites.keys(sites.home)
    assert sites.ledger.behind == {}


def test_when_the_home_is_silent_records_go_to_a_mirror_and_it_says_so(sites: Sites) -> None:
    book = journal(sites.ledger)
    book.append("step.begun", "db")
    sites.home.silent = True
    book.append("step.begun", "db")
    assert "home" in sites.ledger.degraded
    assert "is silent" in sites.ledger.degraded
    sites.home.silent, sites.seconds = False, 31.0
    book.append("step.begun", "db")
    assert sites.ledger.degraded == ""
    assert len(sites.keys(sites.home)) == 3, "what the home missed came home before the next record"


def test_another_machine_resumes_from_the_mirror_and_the_merge_is_a_union(sites: Sites, engine: Signer) -> None:
    sites.home.silent = True
    journal(sites.ledger).append("step.begun", "db")
    there = journal(sites.opened(), who="other machine", generation=2)
    assert len(there.records()) == 1
    there.append("step.begun", "db")
    sites.home.silent = False
    back = sites.opened()
    again = journal(back, generation=3)
    again.append("step.begun", "db")
    again.end("held", engine)
    synced = back.sync()
    assert synced.conflicts == ()
    assert sites.keys(sites.home) == sites.keys(sites.mirror)
    assert verify(sites.home.under, trusted=[engine.fingerprint]).outcome is Outcome.PASSED
    assert conflicts(back.ledgers) == ()


def test_sync_copies_what_each_lacks_and_says_who_could_not_be_reached(sites: Sites, engine: Signer) -> None:
    ended(sites.home.under, engine, run="b" * 64)
    ended(sites.mirror.under, engine, run="c" * 64)
    sites.mirror.silent = True
    assert list(sites.ledger.sync().unreachable) == [sites.mirror.place]
    sites.mirror.silent = False
    synced = sites.ledger.sync()
    # Three records, the end, the manifest; the engine's key is in both already.
    assert (synced.copied, synced.unreachable) == ({sites.home.place: 5, sites.mirror.place: 5}, {})
    assert list(run_names(sites.home.under)) == list(run_names(sites.mirror.under)) == ["b" * 64, "c" * 64]
    assert not any(sites.ledger.sync().copied.values())


def test_a_fork_is_a_conflict_that_verification_names(sites: Sites) -> None:
    journal(sites.home.under, who="one").append("step.begun", "db")
    journal(sites.mirror.under, who="two").append("step.begun", "db")
    assert [trouble.run for trouble in conflicts(sites.ledger.ledgers)] == [RUN]
    with pytest.raises(AlreadyThere):
        sites.ledger.put(record_key(RUN, 0), b"three")


def test_no_copy_at_all_is_a_clear_failure(sites: Sites) -> None:
    sites.home.silent = sites.mirror.silent = True
    ledger = sites.ledger
    for act in (lambda: ledger.put("runs/x/1", b"x"), lambda: ledger.get("x"), lambda: list(ledger.list(""))):
        with pytest.raises(Failed, match="no copy of the ledger can be reached"):
            act()
    sites.home.silent = False
    sites.ledger.put("runs/x/1", b"x")


# -- the auditor


@pytest.fixture
def pack(local: DirectoryLedger, engine: Signer, tmp_path: Path) -> Path:
    ended(local, engine)
    ended(local, engine, run="b" * 64)
    assert export(local, tmp_path / "pack", trusted=[engine.fingerprint]).outcome is Outcome.PASSED
    return tmp_path / "pack"


def _stock(pack: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(argv[0]) is None or shutil.which("openssl") is None:
        pytest.skip(f"{argv[0]} or openssl is not installed")
    return subprocess.run(argv, cwd=pack, capture_output=True, text=True, check=False, timeout=60)


def test_stock_tools_verify_the_pack(pack: Path, engine: Signer) -> None:
    assert _stock(pack, "sha256sum", "--quiet", "-c", "SHA256SUMS").returncode == 0
    run = f"runs/{RUN}"
    key = f"keys/{engine.fingerprint}.pem"
    by_hand = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin"]
    assert _stock(pack, *by_hand, "-in", f"{run}/manifest.bin", "-sigfile", f"{run}/manifest.sig").returncode == 0
    walked = _stock(pack, "sh", "verify.sh")
    assert (walked.returncode, walked.stdout.count("WHOLE")) == (0, 2)
    words = (pack / "README.md").read_text()
    assert all(control in words for control in ("A1.2", "A1.3", "A.8.13", "A.5.30", "CP-4", "CP-9", "CP-10"))


def test_stock_tools_find_what_was_changed_in_the_pack(pack: Path) -> None:
    _alter(pack)
    assert _stock(pack, "sha256sum", "--quiet", "-c", "SHA256SUMS").returncode == 1
    walked = _stock(pack, "sh", "verify.sh")
    assert walked.returncode == 1
    assert "BROKEN" in walked.stdout


def test_stock_tools_call_an_open_run_open(local: DirectoryLedger, tmp_path: Path) -> None:
    journal(local).append("step.begun", "db")
    assert export(local, tmp_path / "pack").outcome is Outcome.UNPROVEN
    assert _stock(tmp_path / "pack", "sh", "verify.sh").returncode == 3


def test_a_pack_is_never_mixed_with_another(pack: Path, local: DirectoryLedger) -> None:
    with pytest.raises(BadInput, match="exists already"):
        export(local, pack)


# -- the command line


def _dr(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, object]]:
    code = dr([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_dr_evidence_says_passed_unproven_and_tampered_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: Signer
) -> None:
    root = tmp_path / "ledger"
    where = ("--ledger", str(root), "--home", str(tmp_path))
    trust = ("--trust", engine.fingerprint)
    ended(DirectoryLedger(root), engine)
    assert _dr(capsys, "evidence", "verify", *where)[0] == 3
    code, document = _dr(capsys, "evidence", "verify", *where, *trust)
    assert (code, document["outcome"]) == (0, "passed")
    journal(DirectoryLedger(root), run="b" * 64).append("step.begun", "db")
    assert _dr(capsys, "evidence", "verify", *where, *trust)[0] == 3
    assert _dr(capsys, "evidence", "verify", *where, *trust, "--run", "aaaa")[0] == 0
    _alter(root)
    code, document = _dr(capsys, "evidence", "export", str(tmp_path / "pack"), *where, *trust)
    assert (code, document["outcome"]) == (1, "failed")
    _, listed = _dr(capsys, "evidence", "list", *where)
    assert [run["outcome"] for run in listed["runs"]] == ["held", "open"]  # type: ignore[attr-defined, index]
    assert dr(["evidence", "verify", *where, *trust]) == 1
    assert "failed" in capsys.readouterr().out
    assert dr(["evidence", "verify", *where, "--run", "zz"]) == 2


def test_threads_left_behind_by_a_journal_are_none(local: DirectoryLedger) -> None:
    before = threading.active_count()
    journal(local).append("step.begun", "db")
    assert threading.active_count() == before
