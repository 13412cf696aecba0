"""Checks of files: the manifest, the WAL and the configuration before the server starts, the pages after its stop."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from recovery.check import Check, Finding
from tasks.postgres.checks import walls
from tasks.postgres.checks.context import CheckContext, failed, judged, not_configured, passed, unproven

MOST_LINES = 50
_TARGETS = (
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
)
_SETTING = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(?:=\s*|\s)('(?:[^']|'')*'|[^\s#]+)")
_OFFSET = re.compile(r"(?:Z|UTC|[+-]\d\d(?::?\d\d)?)$")


def manifest(context: CheckContext, name: str) -> Check:
    """pg_verifybackup over the restored files: every file of the backup is there, with its size and checksum."""
    if not (context.data_dir / "backup_manifest").exists():
        return unproven(name, "the restored files hold no backup_manifest")
    ignored = [f"--ignore={path}" for path in context.unlisted]
    argv = [str(context.bin_dir / "pg_verifybackup"), "-n", *ignored, str(context.data_dir)]
    code, lines = _run(argv, context)
    if code == 0:
        return passed(name, "every file of the manifest is there with its size and checksum")
    hint = "the backup or its way here is damaged: restore another backup and look at the bucket's object"
    return failed(name, [Finding(check=name, fact=line, hint=hint) for line in lines] or [_silent(name, code)])


def wal(context: CheckContext, name: str) -> Check:
    """The WAL from the backup's beginning to the target: no gap, right sizes, right headers, every record's CRC."""
    if context.wal_dir is None:
        return not_configured(name, "the WAL is fetched while it is replayed; the target decides")
    findings = walls.troubles(context, name)
    return judged(name, findings, "the WAL needed is whole, in order and of this cluster")


def configuration(context: CheckContext, name: str) -> Check:
    """One recovery target at most, with a zone; signal and label files; no archiving."""
    found = [*_signals(context, name), *_settings(context, name)]
    return judged(name, found, "one recovery target, with its zone; recovery.signal and backup_label are there")


def pages(context: CheckContext, name: str) -> Check:
    """pg_checksums over the stopped copy: every page of every file."""
    argv = [str(context.bin_dir / "pg_checksums"), "--check", "-D", str(context.data_dir)]
    code, lines = _run(argv, context)
    if code == 0:
        return passed(name, "every page's checksum is right")
    if any("not enabled" in line for line in lines):
        return not_configured(name, "the cluster has no data checksums")
    bad = [line for line in lines if "checksum verification failed" in line]
    if not bad:
        return unproven(name, lines[0] if lines else f"pg_checksums ended with {code}")
    return failed(
        name, [Finding(check=name, fact=line, hint="a page is damaged: restore another backup") for line in bad]
    )


def _run(argv: list[str], context: CheckContext) -> tuple[int, list[str]]:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=context.patience_seconds,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )
    lines = [line.partition("error: ")[2] or line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return done.returncode, lines[:MOST_LINES]


def _silent(name: str, code: int) -> Finding:
    return Finding(check=name, fact=f"pg_verifybackup ended with {code} and said nothing", hint="run it by hand")


def _signals(context: CheckContext, name: str) -> list[Finding]:
    """Without recovery.signal the copy passes for a crashed primary; without backup_label it starts from anywhere."""
    found = []
    if not any((context.data_dir / signal).exists() for signal in ("recovery.signal", "standby.signal")):
        fact = "recovery.signal is missing: the copy would not recover, or only to the backup's end"
        found.append(Finding(check=name, fact=fact, hint="restore again; never remove backup_label instead"))
    if not (context.data_dir / "backup_label").exists():
        fact = "backup_label is missing: recovery would begin at a wrong place and corrupt the copy"
        found.append(Finding(check=name, fact=fact, hint="restore again"))
    return found


def _settings(context: CheckContext, name: str) -> list[Finding]:
    main = context.config or context.data_dir / "postgresql.conf"
    auto = context.data_dir / "postgresql.auto.conf"
    settings: dict[str, set[str]] = {}
    last: dict[str, tuple[str, str]] = {}
    for file in (main, auto):
        for key, value in settings_in(file):
            settings.setdefault(key, set()).add(value)
            last[key] = (value, file.name)
    found = []
    targets = sorted(key for key in settings if key in _TARGETS and settings[key] != {""})
    if len(targets) > 1:
        fact = f"multiple recovery targets: {' and '.join(targets)}"
        hint = "strip the source's recovery settings from postgresql.auto.conf"
        found.append(Finding(check=name, fact=fact, hint=hint))
    for moment in settings.get("recovery_target_time", ()):
        if moment and not _OFFSET.search(moment.strip()):
            fact = f"recovery_target_time {moment} has no zone: the server would read it in its own timezone"
            found.append(Finding(check=name, fact=fact, hint="write the target with +00"))
    archiving, file_name = last.get("archive_mode", ("off", ""))
    if context.config is not None and archiving != "off":
        fact = (
            f"archive_mode is {archiving} in {file_name}: the copy would archive, into the source's archive if it can"
        )
        found.append(Finding(check=name, fact=fact, hint="do not start it: write archive_mode = off behind it"))
    return found


def settings_in(file: Path) -> list[tuple[str, str]]:
    """(name, value) of each setting in a configuration file, in order; no file: none. Includes are not followed."""
    if not file.exists():
        return []
    matches = (_SETTING.match(line) for line in file.read_text(errors="replace").splitlines())
    return [(match[1].lower(), match[2].strip("'").replace("''", "'")) for match in matches if match]
