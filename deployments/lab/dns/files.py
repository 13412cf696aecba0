"""Small JSON files that several processes of the lab share: written whole or not at all, read again once changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(path: Path, content: Any) -> None:
    """Replace the file by this content, so that a reader sees the old or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps(content))
    fresh.replace(path)


class Watched:
    """A file as it was last read. A file that is missing or half written changes nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def fresh(self) -> Any:
        """Its content when it has changed since the last asking, else None."""
        try:
            found = self.path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return None
            content = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return None
        self._seen = seen
        return content
