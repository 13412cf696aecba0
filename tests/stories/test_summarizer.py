"""A standby whose WAL summarizer is stuck is promoted all the same: Postgres alone would wait for it, and then end."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tasks.postgres.roles import summarizing
from tasks.postgres.roles.promote import Promote
from tests.hands.role_scene import caught_up, one, pair, perform, run, wait_for

pytestmark = [pytest.mark.slow]


def test_a_summarizer_that_fails_holds_no_promotion_up_and_is_on_again_afterwards(tmp_path: Path) -> None:
    with pair(tmp_path, standby_archives=True) as two:
        summaries = two.west.data_dir / "pg_wal" / "summaries"
        summaries.rename(summaries.with_name("gone"))
        summaries.touch()
        run(two.east.dsn, "insert into rows values (101)")
        for text in ("checkpoint", "select pg_switch_wal()", "insert into rows values (102)"):
            run(two.east.dsn, text)
        caught_up(two)

        def fails() -> bool:
            run(two.west.dsn, "select pg_reload_conf()")  # it sleeps for up to half a minute
            with psycopg.connect(two.west.dsn) as connection:
                return summarizing.fails(connection)

        wait_for("its failure", fails)
        two.east.kill()
        plan = two.plan()
        facts = perform(Promote(stage=two.stage(plan)), plan, "promote")
        assert "it failed" in str(facts["summarizer"])
        assert one(two.west.dsn, "select max(seq) from rows") == (102,)
        wait_for("its own setting", lambda: one(two.west.dsn, "show summarize_wal") == ("on",))
