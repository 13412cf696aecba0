"""Questions to a Prefect server, asked again as its own clients ask while it is busy (a locked database is a 503)."""

from __future__ import annotations

import json
from typing import Any

import urllib3

BUSY = frozenset({429, 500, 502, 503})
AGAIN = urllib3.Retry(
    total=8, connect=0, read=0, status_forcelist=BUSY, allowed_methods=None, backoff_factor=0.1, raise_on_status=False
)


def ask(url: str, wanted: dict[str, Any]) -> Any:
    """Its answer to a POST. Fails with what it said when it stays busy."""
    alone = {"Connection": "close"}  # one that is kept is reset where the server's patience with it ends just now
    told = urllib3.request("POST", url, json=wanted, headers=alone, timeout=20, retries=AGAIN)
    assert told.status not in BUSY, told.data
    return json.loads(told.data)
