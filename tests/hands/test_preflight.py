"""`dr check` sees what is really there: servers, buckets, keys and modes; and says what is not, without stopping."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from moto.server import ThreadedMotoServer

from deployments.cli import main as dr
from deployments.cli.check import code
from deployments.lab.parts import postgres_bin_dir
from deployments.lab.scratch_cluster import cluster
from recovery.catalog import Catalog, S3Endpoint
from recovery.check import Check, Outcome
from recovery.errors import Failed
from tasks import aws, preflight, preflight_s3
from tasks.postgres.run_as import RunAs
from tests.thought.failover_scene import catalog as example

ASKED = "east s3 as runs ask it"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Endpoint]:
    folder = tmp_path_factory.mktemp("s3")
    told = folder / "credentials.json"
    told.write_text(json.dumps({"access_key_id": "anybody", "secret_access_key": "anything"}))
    told.chmod(0o600)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Endpoint(endpoint_url=f"http://{host}:{port}", credentials=f"file:{told}")
    server.stop()


@pytest.fixture(scope="module")
def buckets(endpoint: S3Endpoint) -> None:
    client = aws.client("s3", endpoint, region="us-east-1")
    client.create_bucket(Bucket="evidence", ObjectLockEnabledForBucket=True)
    for name in ("backups", "leases", "plain"):
        client.create_bucket(Bucket=name)


def catalog(endpoint: S3Endpoint, dsn: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": "preflight",
        "sites": {"east": {"role": "primary", "region": "us-east-1", "s3": endpoint.model_dump()}},
        "ledger": {"home": "east", "bucket": "evidence", "leases": "leases"},
        "objectives": {"critical": {"category": "c", "rpo": "15 min", "rto": "30 min"}},
        "backups": {
            "daily": {
                "full": {"schedule": {"cron": "0 3 * * *"}, "keep": "30 days"},
                "incremental": {"schedule": {"cron": "30 * * * *"}, "keep": "7 days"},
                "marks": {"cron": "15 * * * *"},
                "copies": ["east"],
            }
        },
        "proofs": {"daily": {"schedule": {"cron": "0 5 * * *"}, "site": "east"}},
        "services": {"core": {"owner": "team", "resources": ["db"]}},
        "resources": {
            "db": {
                "kind": "postgres",
                "objective": "critical",
                "backup": "daily",
                "proof": "daily",
                "owner": "team",
                "bucket": "backups",
                "members": {"east": {"dsn": dsn, "data_dir": "/nowhere", "bin_dir": str(postgres_bin_dir())}},
            }
        },
    }


def looked(home: Path, data: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    (home / "catalog.yaml").write_text(json.dumps(data))
    exit_code = dr.run(["check", "--json"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    return exit_code, {each["name"]: each for each in checks}


@pytest.mark.usefixtures("buckets")
def test_a_world_that_is_whole_passes_and_each_thing_that_is_not_is_named(
    home: Path, tmp_path: Path, endpoint: S3Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dr.run(["keys", "make", "engine", "--role", "engine", "--json"]) == 0
    capsys.readouterr()
    with cluster(tmp_path / "pg", archive=True) as running:
        data = catalog(endpoint, running.dsn)
        exit_code, found = looked(home, data, capsys)
        failed = {name: each for name, each in found.items() if each["outcome"] == "failed"}
        assert failed == {}
        assert exit_code in (0, 3)  # 3: a machine that cannot isolate a scratch server says so
        assert found["keys backup"]["outcome"] == "not configured"
        kept = ("east s3 evidence object lock", "east s3 leases conditional writes", ASKED)
        for name in ("east db", "east db clock", "east db tools", *kept, "machine disk"):
            assert found[name]["outcome"] == "passed", found[name]

        assert found["east db unlogged tables"]["fact"] == "none"
        with psycopg.connect(running.dsn, autocommit=True) as connection:
            connection.execute("create database app")
        with psycopg.connect(running.dsn, dbname="app", autocommit=True) as connection:
            connection.execute("create unlogged table cache (a int); create table kept (a int)")

        data["ledger"] |= {"bucket": "plain", "leases": "evidence"}
        data["resources"]["db"]["bucket"] = "nowhere"
        data["resources"]["db"]["members"]["east"]["bin_dir"] = str(tmp_path)
        (home / "keys" / "engine.ed25519").chmod(0o644)
        exit_code, found = looked(home, data, capsys)
    assert exit_code == 1
    wrong = {name for name, each in found.items() if each["outcome"] == "failed"}
    assert wrong == {
        "east s3 nowhere",
        "east s3 plain versioning",
        "east s3 plain object lock",
        "east s3 evidence object lock",
        "east db tools",
        "keys modes",
    }
    assert all(found[name]["hint"] for name in wrong)
    warned = found["east db unlogged tables"]
    assert (warned["fact"], "set logged" in warned["hint"]) == ("app.public.cache", True)


def test_standing_terms_without_a_direction_are_told() -> None:
    found = example()
    assert [(each.outcome.value, each.fact) for each in preflight.consent(found)] == [
        ("passed", "failover of core to west")
    ]
    terms = {name: each.but(to=None) for name, each in found.consent.standing.items()}
    (told,) = preflight.consent(found.model_copy(update={"consent": found.consent.but(standing=terms)}))
    assert "names no site that takes over" in told.findings[0].fact


def test_the_modes_of_all_files_that_may_hold_a_secret_are_looked_at(home: Path, tmp_path: Path) -> None:
    nobody = S3Endpoint(endpoint_url="http://127.0.0.1:9", credentials="file:keys/s3.json")
    data = catalog(nobody, "host=h password=hunter2")
    data["services"]["core"]["notify"] = {"team": "file:keys/hook"}
    data["route53"] = {"credentials": "file:keys/dns.json"}
    names = ("s3.json", "hook", "dns.json")
    (home / "keys").mkdir(exist_ok=True)
    for name in names:
        (home / "keys" / name).write_text("{}")
        (home / "keys" / name).chmod(0o640)
    (home / "catalog.yaml").write_text("{}")
    (home / "catalog.yaml").chmod(0o644)
    found = [each.fact for each in preflight.keys(home, Catalog.model_validate(data)) if each.name == "keys modes"]
    assert {Path(fact.partition(" ")[0]).name for fact in found} == {*names, "catalog.yaml"}


def test_what_does_not_answer_fails_and_the_rest_is_still_looked_at(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "credentials.json"
    told.write_text('{"access_key_id": "a", "secret_access_key": "hunter2"}')
    nobody = S3Endpoint(endpoint_url="http://127.0.0.1:9", credentials=f"file:{told}")
    exit_code, found = looked(home, catalog(nobody, f"host={tmp_path} connect_timeout=2"), capsys)
    assert exit_code == 1
    assert found["east s3 backups"]["fact"] == "the endpoint can't be reached"
    assert found["east db"]["outcome"] == "failed"
    assert found["machine disk"]["outcome"] == "unproven"
    assert "hunter2" not in json.dumps(found)


def test_a_machine_that_cannot_run_postgres_fails_and_one_without_isolation_is_unproven() -> None:
    none = preflight.machine(lambda: RunAs(way="none", network=False))
    assert [each.outcome for each in none][-1] is Outcome.FAILED
    open_ = preflight.machine(lambda: RunAs(way="direct", network=False))
    assert [each.outcome for each in open_][-2:] == [Outcome.PASSED, Outcome.UNPROVEN]


@pytest.mark.parametrize(
    ("size", "outcome", "hinted"),
    [(None, Outcome.UNPROVEN, True), (10**18, Outcome.FAILED, True), (1, Outcome.PASSED, False)],
)
def test_the_disk_is_judged_by_the_largest_database(
    tmp_path: Path, size: int | None, outcome: Outcome, hinted: bool
) -> None:
    (found,) = preflight.disk(tmp_path / "scratch", size)
    assert (found.outcome, bool(found.findings)) == (outcome, hinted)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([Outcome.PASSED, Outcome.NOT_CONFIGURED], 0),
        ([Outcome.PASSED, Outcome.UNPROVEN], 3),
        ([Outcome.UNPROVEN, Outcome.FAILED], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst(outcomes: list[Outcome], expected: int) -> None:
    assert code(Check(name="x", outcome=each, fact="f") for each in outcomes) == expected


@pytest.mark.usefixtures("buckets")
def test_an_endpoint_that_ignores_the_condition_of_a_put_cannot_keep_leases(endpoint: S3Endpoint) -> None:
    """Some do so in silence: two engines would each be told that the lease is theirs."""
    client = aws.client("s3", endpoint, region="us-east-1")
    wanted = preflight_s3.Wanted(bucket="plain", why="leases", locked=False)

    class Ignores:
        def put_object(self, IfMatch: str, **words: Any) -> Any:  # noqa: N803 -- the SDK's names
            return client.put_object(**words)

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

    found = preflight_s3._conditional(Ignores(), "east s3 plain", wanted)
    assert (found.outcome, "If-Match" in found.fact, bool(found.findings)) == (Outcome.FAILED, True, True)
    assert preflight_s3._conditional(client, "east s3 plain", wanted).outcome is Outcome.PASSED
    assert not client.list_objects_v2(Bucket="plain").get("Contents"), "nothing is left there"


@pytest.mark.usefixtures("buckets")
def test_s3_is_asked_as_runs_ask_it_too(endpoint: S3Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK brings certificates of its own; a machine without any would be found out in the worst hour."""
    world = Catalog.model_validate(catalog(endpoint, "host=nowhere"))
    assert {each.name: each.outcome for each in preflight_s3.look(world, "east")}[ASKED] is Outcome.PASSED

    class Untrusting:
        def head(self, key: str) -> None:
            raise Failed("its certificate is not trusted", hint="give this machine certificates")

    monkeypatch.setattr(preflight_s3, "open_store", lambda *words, **more: Untrusting())
    found = {each.name: each for each in preflight_s3.look(world, "east")}[ASKED]
    assert (found.outcome, found.fact) == (Outcome.FAILED, "its certificate is not trusted")
