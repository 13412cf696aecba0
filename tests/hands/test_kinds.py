"""The table of verbs: each is where it is said to be, and is imported when it is asked for, not before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from tasks import kinds, route53, service
from tasks.kind import Opened
from tasks.postgres import roles
from tasks.stage import Stage


def test_every_verb_can_be_made() -> None:
    stage = Stage(home=cast("Any", None), plan=cast("Any", None), sign=cast("Any", None))
    for kind in (roles, route53, service):
        made = Opened(kind.PLACES, stage)
        assert len(made) == len(kind.PLACES)
        for name in made:
            assert callable(made[name].observe), name
            assert callable(made[name].perform), name
            assert made[name] is made[name]
    assert set(kinds.verbs(stage)) == {*roles.PLACES, *route53.PLACES, *service.PLACES}
    assert kinds.verbs(stage)["quarantine"].parked is True  # type: ignore[attr-defined]
    assert kinds.verbs(stage)["release"].parked is False  # type: ignore[attr-defined]


def test_break_glass_loads_no_sdk_and_no_verb_before_it_needs_them() -> None:
    code = (
        "import sys, deployments.cli.act, tasks.changing, tasks.kinds, tasks.s3_store\n"
        "unwanted = ('prefect', 'boto3', 'botocore', 'awscrt', 'rich', 'psycopg', 'dns', 'jinja2',"
        " 'tasks.postgres.roles.promote', 'tasks.postgres.roles.rehearsing')\n"
        "sys.exit(' '.join(each for each in unwanted if each in sys.modules) or 0)"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
