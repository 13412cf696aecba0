"""pgBackRest behind the port: its own commands on the estate's own configuration; its repository is never touched.

It takes, keeps and expires; we choose the point, write all recovery settings, and prove. WAL comes by `archive-get`
beforehand, each segment compared with the SHA-1 in its name, so a hole is found before a server starts.
"""

from __future__ import annotations

import bz2
import hashlib
import json
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from recovery.check import Check, Finding
from recovery.engine_options import PgBackRestOptions
from recovery.errors import Failed, Unproven
from recovery.point import Backup
from recovery.wal import Archive, Label, Partial, Segment, Switch, contiguous, parse, parse_history
from tasks.postgres.checks.context import failed
from tasks.postgres.engines import pgbackrest_said as said
from tasks.postgres.engines.port import Expired, Progress, Restored, Wanted
from tasks.postgres.engines.tool import (
    DATA_SECONDS,
    LOOK_SECONDS,
    Tool,
    WalCommand,
    fetch_each,
    on_the_tools_word,
    refuse_unfit,
)

PROGRAM = "pgbackrest"
INSTALL = "install pgbackrest (apt-get install pgbackrest), or name its folder in engine_options.bin_dir"
_CONTROL = "global/pg_control"
_UNPACK: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda body: zlib.decompress(body, wbits=47),
    ".bz2": bz2.decompress,
    ".zst": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PgBackRest:
    """One stanza. `data_dir` is the member's, used for nothing but its pg_control, and only where it is there."""

    tool: Tool
    options: PgBackRestOptions
    resource: str
    data_dir: Path

    @property
    def name(self) -> str:
        """See Engine.name."""
        return "pgbackrest"

    def version(self) -> str:
        """See Engine.version."""
        return self.tool.version(PROGRAM, ["version"])

    def backups(self) -> tuple[Backup, ...]:
        """See Engine.backups."""
        return said.backups(self._info(), self.resource, self.options.segment_bytes)

    def archive(self, system_id: str) -> Archive:
        """See Engine.archive. `strange` also names a segment that is there twice: archive-get refuses those."""
        files = list(self._wal_files(system_id))
        size = self.options.segment_bytes
        names = [name for name, sha1 in files if sha1 != "-"]
        kinds = {name: parse(name, size) for name in names}
        twice = sorted({name for name in names if names.count(name) > 1}) if len(names) != len(kinds) else []
        return Archive(
            system_id=system_id,
            segment_bytes=size,
            stretches=contiguous((name for name, kind in kinds.items() if isinstance(kind, Segment)), size),
            histories=self._histories(system_id, [name for name in kinds if name.endswith(".history")]),
            partials=tuple(name for name, kind in kinds.items() if isinstance(kind, Partial)),
            labels=tuple(name for name, kind in kinds.items() if isinstance(kind, Label)),
            strange=(*twice, *(name for name, sha1 in files if sha1 == "-")),
        )

    def take(self, wanted: Wanted) -> Backup:
        """See Engine.take."""
        before = {each.id for each in self.backups()}
        sort = "full" if wanted.kind == "full" else self.options.incremental
        self._must("backup", f"--type={sort}", f"--process-max={self.options.process_max}", patience=DATA_SECONDS)
        fresh = [each for each in self.backups() if each.id not in before]
        if not fresh:
            raise Failed("pgbackrest ended well but shows no new backup", hint="see `pgbackrest info`")
        return fresh[-1]

    def fetch_data(self, chain: Sequence[Backup], into: Path, progress: Progress) -> Restored:
        """See Engine.fetch_data. Tablespaces go beside the folder, never to where the source has them."""
        last, size = chain[-1], sum(each.size_bytes for each in chain)
        refuse_unfit(self.tool.host, into, size)
        begun = time.monotonic()
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        progress(0, size)
        self._must(
            "restore", f"--set={last.id}", "--type=none", "--archive-mode=off", "--no-delta", "--no-link-all",
            f"--pg1-path={into}", f"--tablespace-map-all={into.parent / 'tablespaces'}",
            f"--process-max={self.options.process_max}", patience=DATA_SECONDS,
        )  # fmt: skip
        progress(size, size)
        return Restored(seconds=time.monotonic() - begun, size_bytes=size)

    def fetch_wal(self, system_id: str, names: Sequence[str], into: Path) -> int:
        """See Engine.fetch_wal."""
        sums = dict(self._wal_files(system_id))
        fetched = self._fetch(system_id, names, into)
        for name in names:
            _compare(into / name, sums.get(name, ""))
        return fetched

    def stored(self, backup: Backup) -> Check:
        """See Engine.stored."""
        name = "backup objects"
        if said.error_of(self._info(), backup.id):
            fact = f"pgbackrest met broken page checksums while it took {backup.id}"
            hint = "`pgbackrest info --set` lists the pages: repair the source, and restore an older backup"
            return failed(name, [Finding(check=name, fact=fact, hint=hint)])
        return on_the_tools_word(
            name, "pgbackrest keeps the repository: it says that it compared each file's SHA-1 while restoring it"
        )

    def without_manifest(self) -> str | None:
        """See Engine.without_manifest."""
        return (
            "pgbackrest leaves no backup_manifest in the data directory, so pg_verifybackup cannot look; "
            "amcheck and the page checksums decide"
        )

    def expire(self, policy_days: int, *, really: bool) -> Expired:  # noqa: ARG002 -- pgBackRest's own configuration says how long
        """pgBackRest's own retention, as its configuration has it; ours is never applied to its repository."""
        known = [each.id for each in self.backups()]
        how = [] if really else ["--dry-run"]
        out = self._must("expire", *how, "--log-level-console=info", patience=DATA_SECONDS).out
        lines = [line for line in out.splitlines() if re.search(r"\b(expire|remove)\b", line)]
        gone = [each for each in known if any(re.search(rf"(?<![\w-]){each}(?![\w-])", line) for line in lines)]
        others = [line.partition("INFO: ")[2].strip() for line in lines if "remove archive" in line]
        notes = [line.partition("WARN: ")[2].strip() for line in out.splitlines() if "WARN: " in line]
        return Expired(backups=tuple(gone), others=tuple(others), notes=tuple(notes))

    def _must(self, command: str, *arguments: str, patience: float) -> Any:
        return self.tool.must(PROGRAM, [*self._common(), command, *arguments], patience_seconds=patience)

    def _common(self) -> list[str]:
        config = [f"--config={self.options.config}"] if self.options.config else []
        repo = [f"--repo={self.options.repo}"] if self.options.repo else []
        return [*config, f"--stanza={self.options.stanza}", *repo]

    def _info(self) -> Mapping[str, Any]:
        ran = self._must("info", "--output=json", patience=LOOK_SECONDS)
        return said.stanza_of(json.loads(ran.out), self.options.stanza)

    def _wal_files(self, system_id: str) -> Iterator[tuple[str, str]]:
        ids = said.archive_ids(self._info(), system_id)
        where = f"archive/{self.options.stanza}"
        ran = self._must("repo-ls", "--output=json", "--recurse", where, patience=LOOK_SECONDS)
        return said.wal_files(json.loads(ran.out or "{}"), ids)

    def _histories(self, system_id: str, names: Sequence[str]) -> dict[int, tuple[Switch, ...]]:
        if not names:
            return {}
        with tempfile.TemporaryDirectory(prefix="standfast-") as folder:
            self._fetch(system_id, names, Path(folder))
            return {int(name[:8], 16): parse_history((Path(folder) / name).read_text()) for name in names}

    def _fetch(self, system_id: str, names: Sequence[str], into: Path) -> int:
        with self._identity(system_id) as cluster:
            get = [*self._common(), "archive-get", "--no-archive-async", f"--pg1-path={cluster}"]
            arguments = {name: (*get, name, str(into / name)) for name in names}
            return fetch_each(
                self.tool, WalCommand(program=PROGRAM, arguments=arguments), into, self.options.segment_bytes
            )

    @contextmanager
    def _identity(self, system_id: str) -> Iterator[Path]:
        """A folder with a pg_control of that system: archive-get reads the cluster's identity from it, and no more."""
        with tempfile.TemporaryDirectory(prefix="standfast-") as folder:
            body = self._control_here(system_id) or self._control_kept(system_id)
            control = Path(folder) / _CONTROL
            control.parent.mkdir()
            control.write_bytes(body)
            yield Path(folder)

    def _control_here(self, system_id: str) -> bytes | None:
        try:
            body = (self.data_dir / _CONTROL).read_bytes()
        except OSError:
            return None
        return body if _system_of(body) == system_id else None

    def _control_kept(self, system_id: str) -> bytes:
        """The pg_control of the newest backup, by repo-get."""
        newest = [each.id for each in self.backups() if each.system_id == system_id][-1:]
        for label in newest:
            where = f"backup/{self.options.stanza}/{label}/pg_data/global"
            listed = json.loads(self._must("repo-ls", "--output=json", where, patience=LOOK_SECONDS).out or "{}")
            for file in (name for name in listed if name.startswith("pg_control")):
                unpack = _UNPACK.get(file.removeprefix("pg_control"))
                if unpack is not None:
                    return unpack(self._bytes(f"{where}/{file}"))
        raise Unproven(
            "archive-get needs a pg_control of this cluster, and neither the member's data directory nor the newest "
            "backup has one that can be read",
            hint="name the data directory of one of its servers as the member's data_dir, or compress by gz or zst",
        )

    def _bytes(self, path: str) -> bytes:
        """A file of the repository, decrypted by pgBackRest: through a pipe, because it is not text."""
        argv = [self.tool.program(PROGRAM), *self._common(), "repo-get", path]
        process = self.tool.host.open(argv)
        out, err = process.communicate(timeout=LOOK_SECONDS)
        if process.returncode:
            raise Failed(f"pgbackrest could not read {path}: {err.decode(errors='replace')[:300]}", hint=INSTALL)
        return bytes(out)


def _system_of(control: bytes) -> str:
    """The system identifier: the first eight bytes of pg_control, in the byte order of the machine that wrote it."""
    return str(int.from_bytes(control[:8], "little"))


def _compare(file: Path, sha1: str) -> None:
    if sha1 and hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest() != sha1:
        raise Failed(
            f"{file.name} is damaged in the archive: its SHA-1 is not the one in its name",
            hint="see whether another repository has it whole, or choose a point before it",
        )
