"""As whom Postgres runs, and with which way out: the choice for every machine, and the one made here for real."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest

from deployments.lab.scratch_cluster import cluster
from recovery.errors import Refused
from tasks.postgres.run_as import RunAs, decide, probe, server_argv


def everything(prefix: Sequence[str]) -> bool:
    return True


def nothing(prefix: Sequence[str]) -> bool:
    return False


def test_an_ordinary_user_runs_it_directly():
    assert decide(root=False, works=everything, accounts=[]) == RunAs(way="direct", network=True)
    assert decide(root=False, works=nothing, accounts=["nobody"]) == RunAs(way="direct", network=False)


def test_root_prefers_a_user_namespace_to_an_account():
    assert decide(root=True, works=everything, accounts=["nobody"]) == RunAs(way="namespace", network=True)


def test_root_without_user_namespaces_takes_the_first_account_that_works():
    def only_nobody(prefix: Sequence[str]) -> bool:
        return "--reuid=nobody" in prefix

    chosen = decide(root=True, works=only_nobody, accounts=["nobody"])
    assert chosen == RunAs(way="account", account="nobody", network=False)
    argv, isolated = server_argv(["postgres"], isolated=True, how=chosen)
    assert argv[:2] == ["setpriv", "--reuid=nobody"]
    assert argv[-1] == "postgres"
    assert not isolated


def test_root_with_neither_is_refused_with_what_to_do():
    how = decide(root=True, works=nothing, accounts=["nobody"])
    with pytest.raises(Refused, match="does not run as root") as refusal:
        server_argv(["postgres"], isolated=False, how=how)
    assert "user namespaces" in refusal.value.hint


def test_isolation_is_claimed_only_where_there_is_some():
    assert server_argv(["x"], isolated=True, how=RunAs(way="direct", network=False)) == (["x"], False)
    argv, isolated = server_argv(["x"], isolated=True, how=RunAs(way="direct", network=True))
    assert isolated
    assert "--net" in argv


def test_what_runs_here_is_no_root_and_has_no_network_when_isolated():
    argv, isolated = server_argv(["sh", "-c", "id -u; cat /proc/net/route | wc -l; ls /sys/class/net"], isolated=True)
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert said[0] != "0"
    if isolated:
        assert int(said[1]) <= 1, "at most the header line: no route leads out"


def test_the_wrapper_keeps_the_pid():
    argv, _ = server_argv(["sh", "-c", "echo $$"], isolated=probe().network)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate(timeout=10)
        assert int(said) == process.pid


def test_a_cluster_with_a_standby_runs_and_leaves_nothing(tmp_path: Path):
    with cluster(tmp_path / "a folder", archive=True, standby=True) as one:
        assert one.standby
        pids = [one.pid, one.standby.pid]
        with psycopg.connect(one.dsn, autocommit=True) as sql:
            assert sql.execute("show data_checksums").fetchone() == ("on",)
            assert sql.execute("show summarize_wal").fetchone() == ("on",)
        with psycopg.connect(one.standby.dsn) as sql:
            assert sql.execute("select pg_is_in_recovery()").fetchone() == (True,)
    assert not (tmp_path / "a folder" / "data").exists()
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)
    assert not one.socket_dir.exists()
    assert os.environ.get("PGDATA") is None
