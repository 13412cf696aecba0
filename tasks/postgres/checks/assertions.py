"""The user's own checks: one SQL query each, read-only and bounded in time."""

from __future__ import annotations

from recovery.catalog import Assertion
from recovery.check import Check, Finding
from tasks.postgres.checks.context import CheckContext, failed, passed, unproven
from tasks.postgres.reading import Deadline, reading

ASSERTION_SECONDS = 300


def look(context: CheckContext, name: str, assertion: Assertion) -> Check:
    """The first column of the first row, in Postgres's own text form, is what was expected."""
    patience = Deadline(min(ASSERTION_SECONDS, context.patience_seconds))
    with reading(context.dsn, patience, assertion.database) as connection:
        connection.execute(b"set search_path to default")
        connection.execute(b"begin read only")
        result = connection.execute(assertion.sql.encode()).pgresult
    if result is None or not result.ntuples or not result.nfields:
        return unproven(name, "the query gave no row")
    value = result.get_value(0, 0)
    seen = "null" if value is None else value.decode(errors="replace")
    if value is not None and seen == assertion.expect:
        return passed(name, f"{seen}, as expected")
    fact = f"assertion {assertion.name} in database {assertion.database} gave {seen} instead of {assertion.expect}"
    return failed(name, [Finding(check=name, fact=fact, hint="the data is wrong, or the expectation is out of date")])
