"""What no file of an offline bundle may hold, since it leaves this machine. Separate from collecting it, which asks the
world."""

from __future__ import annotations

import re
from collections.abc import Mapping

from recovery.catalog import Catalog
from recovery.dsn import dsn
from recovery.errors import BadInput

_SECRET = re.compile(
    rb"""(?i)password\s*=\s*["']?[^\s"',}]|://[^/\s:@"']*:[^/\s@"']+@|PRIVATE KEY"""
    rb"""|(?:secret_access_key|session_token)["']?\s*[:=]\s*["']?\w"""
)
"""A password in a DSN or a URL, a private key, a key of AWS."""
_HINT = "name where it lies instead: passfile=PATH in a DSN, file:PATH or env:NAME for credentials"


def refuse(files: Mapping[str, bytes], catalog: Catalog) -> None:
    """Raises BadInput for a file that seems to hold a secret, and for a connection string that does in any form."""
    for name, body in files.items():
        if name.endswith((".yaml", ".md", ".json", ".pem", ".pub")) and (found := _SECRET.search(body)):
            line = body.count(b"\n", 0, found.start()) + 1
            raise BadInput(
                f"{name}:{line} holds what looks like a secret; a bundle leaves this machine and may hold none",
                hint=_HINT,
            )
    for name, resource in catalog.resources.items():
        for member, there in resource.members.items():
            if dsn(there.dsn).secrets:
                raise BadInput(
                    f"the dsn of {name} at {member} holds a secret; a bundle leaves this machine and may hold none",
                    hint=_HINT,
                )
