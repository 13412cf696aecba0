"""A standby's WAL summarizer and its promotion, which waits for it (PostgreSQL 17 and 18, seen in their logs).

Separate because it is a trouble of Postgres's own. A summarizer that looks for WAL which is gone goes no further; a
promotion waits for it, hears of no setting meanwhile, and after more than a minute the server ends. So one that fails
is turned off before. What incremental backups lack by that, they say; a full one of the new timeline follows anyway.
"""

from __future__ import annotations

import time

from tasks.postgres.reading import Connection, Deadline

OFF_SECONDS = 5.0
HEARD_SECONDS = 0.2
"""The startup process hears of a setting as the summarizer does, which ends; it is given this much more."""
POLL_SECONDS = 0.02

_FAILS = "select 1 from pg_stat_activity where backend_type = 'walsummarizer' and wait_event = 'WalSummarizerError'"
_RUNS = "select 1 from pg_stat_activity where backend_type = 'walsummarizer'"
_OURS = """
select 1 from pg_file_settings where name = 'summarize_wal' and setting = 'off'
  and sourcefile like '%postgresql.auto.conf'
  and exists (select from pg_file_settings where name = 'summarize_wal' and setting in ('on', 'true', 'yes', '1'))
"""


def fails(connection: Connection) -> bool:
    """Whether it rests from an error, from which it will try the same again."""
    return connection.execute(_FAILS.encode()).fetchone() is not None


def turn_off(connection: Connection) -> None:
    """Let a promotion that is ordered next go on without it."""
    connection.execute("alter system set summarize_wal = off")
    connection.execute("select pg_reload_conf()")
    deadline = Deadline(OFF_SECONDS)
    while connection.execute(_RUNS.encode()).fetchone() is not None and deadline.left_seconds:
        time.sleep(POLL_SECONDS)
    time.sleep(HEARD_SECONDS)


def turn_on_again(connection: Connection) -> bool:
    """As the server's own configuration says, where we turned it off: now, or before we were killed."""
    if connection.execute(_OURS.encode()).fetchone() is None:
        return False
    connection.execute("alter system reset summarize_wal")
    connection.execute("select pg_reload_conf()")
    return True
