"""How a person restores a backup with stock tools and without this program: a shell script with its reasons.

Separate because it must stay true when everything else is gone; a test runs what it prints.
"""

from __future__ import annotations

import shlex
from datetime import datetime

from recovery.choose import Point
from recovery.errors import BadInput
from recovery.point import Backup
from recovery.value import rfc3339
from tasks.dir_store import DirStore
from tasks.postgres import base_index
from tasks.s3_store import S3Store
from tasks.store import Store

_UNSEAL = """cat > unseal.py <<'END'
# usage: python3 unseal.py KEYFILE < sealed > plain      (pip install cryptography)
# sealed = "SFENC1\\0\\0", salt (16 bytes), then frames: length (4 bytes, big endian), AES-256-GCM ciphertext with tag
import base64, binascii, sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
key = open(sys.argv[1], "rb").read()
for decode in (binascii.unhexlify, base64.b64decode):
    if len(key) != 32:
        try: key = decode(key.strip())
        except ValueError: pass
source, sink = sys.stdin.buffer, sys.stdout.buffer
assert source.read(8) == b"SFENC1\\0\\0", "not sealed"
box = AESGCM(HKDF(algorithm=SHA256(), length=32, salt=source.read(16), info=b"standfast object key").derive(key))
number = 0
while head := source.read(4):
    body = source.read(int.from_bytes(head, "big"))
    sink.write(box.decrypt(number.to_bytes(12, "big"), body, None))
    number += 1
END
"""


def text(
    backup: Backup,
    store: Store,
    *,
    full: Backup | None = None,
    target: datetime | None = None,
    own_end: Point | None = None,
    bin_dir: str = "/usr/lib/postgresql/18/bin",
) -> str:
    """A POSIX shell script that restores `backup` (with its `full` when it is incremental) below the current folder,
    up to `target`, to its own end, or to the end of the archive. Raises BadInput when the full is missing."""
    if backup.kind == "incremental" and full is None:
        raise BadInput(f"{backup.id} is incremental", hint=f"explain it together with its full, {backup.parent}")
    chain = [full, backup] if full is not None and backup.kind == "incremental" else [backup]
    sealed = [one for one in chain if one.encrypted_with]
    parts = [
        _head(backup, chain),
        *([_key(sealed)] if sealed else []),
        *(_fetch(one, store) for one in chain),
        _combine(chain, bin_dir),
        _verify(bin_dir),
        _wal(backup, store, own_end, sealed=bool(sealed)),
        _settings(own_end.timeline if own_end else backup.timeline, target, own_end=own_end is not None),
        _start(bin_dir),
    ]
    return "\n".join(parts)


def _head(backup: Backup, chain: list[Backup]) -> str:
    return (
        f"# Restore of {backup.resource} from backup {' + '.join(one.id for one in chain)}\n"
        f"# system {backup.system_id}, timeline {backup.timeline}, ended {rfc3339(backup.ended_at)},"
        f" {sum(one.size_bytes for one in chain) / 1e9:.2f} GB\n"
        "# Needs: the tools of this Postgres version, zstd, tar, sh. Run it in an empty folder, as the user that will\n"
        "# run Postgres (never root). It makes ./data; nothing else is touched.\n"
        "set -eu\numask 077\n"
    )


def _key(sealed: list[Backup]) -> str:
    prints = ", ".join(sorted({one.encrypted_with or "" for one in sealed}))
    return (
        f"# 0. The backup is encrypted with the key of fingerprint {prints}.\n"
        "# KEYFILE is the file of that key (32 bytes, raw, hexadecimal or base64).\n"
        ': "${KEYFILE:?set KEYFILE to the key\'s file}"\n' + _UNSEAL
    )


def _fetch(one: Backup, store: Store) -> str:
    name = base_index.SEALED if one.encrypted_with else base_index.BASE
    folder = "full" if one.kind == "full" else "incremental"
    unseal = 'python3 unseal.py "$KEYFILE" < ' if one.encrypted_with else ""
    stream = f"{unseal}{name} | zstd -dc" if unseal else f"zstd -dc {name}"
    return (
        f"# {1 if one.kind == 'full' else 2}. {one.kind}: {one.id}\n"
        f"{_copy(store, f'base/{one.system_id}/{one.id}/{name}', name)}\n"
        f"echo '{one.objects[name]}  {name}' | sha256sum -c -\n"
        f"mkdir {folder}\n{stream} | tar -x -o -C {folder}\nrm {name}\n"
    )


def _combine(chain: list[Backup], bin_dir: str) -> str:
    if len(chain) == 1:
        return "mv full data\nchmod 700 data\n"
    tool = shlex.quote(f"{bin_dir}/pg_combinebackup")
    return f"{tool} full incremental -o data\nchmod 700 data\nrm -r full incremental\n"


def _verify(bin_dir: str) -> str:
    tool = shlex.quote(f"{bin_dir}/pg_verifybackup")
    return f"# 3. What Postgres wrote down about the files must hold.\n{tool} --no-parse-wal --exit-on-error data\n"


def _wal(backup: Backup, store: Store, own_end: Point | None, *, sealed: bool) -> str:
    unseal = (
        'for f in $(find archive -name "*.zst"); do\n'
        '  if [ "$(head -c 6 "$f")" = SFENC1 ]; then python3 unseal.py "$KEYFILE" < "$f" > plain; mv plain "$f"; fi\n'
        "done\n"
        if sealed
        else ""
    )
    what = "The WAL that was archived after it. Without any, recovery ends where the backup ended."
    copies = [_copy(store, f"wal/{backup.system_id}/", "archive/", recursive=True)]
    if own_end is not None:
        what = "The WAL that makes it consistent. What came after it was retired."
        names = (*own_end.segments, *(f"{timeline:08X}.history" for timeline in own_end.histories))
        copies = [
            _copy(store, f"wal/{backup.system_id}/{each[:8]}/{each}.zst", f"archive/{each}.zst") for each in names
        ]
    return (
        f"# 4. {what}\n"
        "mkdir archive wal\n" + "\n".join(copies) + "\n"
        f"{unseal}"
        'find archive -name "*.zst" -exec zstd -q -d --output-dir-flat wal {} +\n'
    )


def _settings(timeline: int, target: datetime | None, *, own_end: bool) -> str:
    goal = f"recovery_target_time = '{rfc3339(target).replace('Z', '+00')}'\n" if target else ""
    goal = "recovery_target = 'immediate'\n" if own_end else goal
    return (
        "# 5. Settings that travelled with the data and must not act again, then the recovery's own.\n"
        "# The timeline is explicit: `latest` would follow a clone that once archived here.\n"
        "touch data/postgresql.auto.conf\n"
        "sed -i -E '/^(recovery_|restore_command|archive_|primary_|standby_|promote_)/d' data/postgresql.auto.conf\n"
        "cat >> data/postgresql.auto.conf <<END\n"
        "archive_mode = 'off'\n"
        f'restore_command = \'cp "$PWD/wal/%f" "%p"\'\n'
        f"recovery_target_timeline = '{timeline}'\n"
        f"{goal}"
        f"recovery_target_action = '{'pause' if goal else 'promote'}'\n"
        "END\n"
        "rm -f data/standby.signal\ntouch data/recovery.signal\n"
    )


def _start(bin_dir: str) -> str:
    return (
        "# 6. Start it by hand when you are ready, apart from the network that the old one served:\n"
        f"#   {bin_dir}/pg_ctl -D data -l recovery.log -w start\n"
        "# Then read recovery.log: it must say `recovery stopping` at the target, or without one `archive recovery\n"
        "# complete`. A paused server answers reads only; `select pg_wal_replay_resume()` makes it a primary.\n"
        "# Never remove backup_label to make it start.\n"
    )


def _copy(store: Store, key: str, to: str, *, recursive: bool = False) -> str:
    if isinstance(store, S3Store):
        endpoint = f" --endpoint-url {shlex.quote(store.endpoint)}" if "://" in store.endpoint else ""
        deep = " --recursive" if recursive else ""
        return f"aws s3 cp{endpoint}{deep} {shlex.quote(f'{store.place}/{key}')} {shlex.quote(to)}"
    if isinstance(store, DirStore):
        source = shlex.quote(f"{store.place}/objects/{key}")
        return f"if [ -d {source} ]; then cp -r {source}. {to}; fi" if recursive else f"cp {source} {to}"
    raise BadInput("the store is of no kind that a person can read", hint="explain a backup in S3 or in a folder")
