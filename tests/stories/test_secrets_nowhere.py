"""By use: secrets are planted in a whole lab's home, everything is done with it, and then every byte is searched that
was written, shown, kept in a bucket or stood on a command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from moved import DB, ROOT, SERVICE, lab, lost
from ruamel.yaml import YAML

from deployments.lab.world import World
from tasks.home import open_home
from tasks.keys import make

MAY_HOLD = {"catalog.yaml", "passfile", "credentials.json", "s3.json"}
"""Files of the lab that are secret themselves; all of HOME/keys is, too."""
MOST_BYTES = 3_000_000
HOOK = "planted-hook-token"


@pytest.mark.slow
@pytest.mark.lab
@pytest.mark.timeout(900)
def test_no_secret_of_a_home_is_written_shown_kept_or_put_on_a_command_line(tmp_path: Path) -> None:
    with lab(tmp_path / "home") as world:
        secrets = planted(world)
        with command_lines() as seen:
            said = used(world)
        found = dict((*files(world), *objects(world), *said.items(), ("command lines", b"\n".join(seen))))
        assert any(b"deployments.cli.main" in each for each in seen), "the sampling sees what runs"
        assert any("plans/" in where for where in found)
        leaks = {
            (name, where)
            for where, body in found.items()
            for name, secret in secrets.items()
            if secret.encode() in body or quote(secret, safe="").encode() in body
        }
        assert leaks == set()


def planted(world: World) -> dict[str, str]:
    """Passwords in both forms of a DSN, a key for backups, a channel with a token; gives every secret by a name."""
    passwords = {line.split(":")[3]: line.split(":")[4] for line in world.passfile.read_text().splitlines()}
    yaml, path = YAML(typ="safe"), world.home / "catalog.yaml"
    catalog = yaml.load(path)
    members = catalog["resources"][DB]["members"]
    east, west = (dict(re.findall(r"(host|port)=(\S+)", members[site]["dsn"])) for site in ("east", "west"))
    word = passwords["postgres"]
    members["east"]["dsn"] = (
        f"host={east['host']} port={east['port']} user=postgres dbname=postgres password = '{word}'"
    )
    members["west"]["dsn"] = f"postgresql://postgres:{quote(word)}@{west['host']}:{west['port']}/postgres"
    make(world.home / "keys", "vault", "backup")
    catalog["backups"]["postgres-daily"]["encryption"] = "file:keys/vault.aes"
    catalog["services"][SERVICE]["notify"] = {"team": "file:keys/hook"}
    (world.home / "keys" / "hook").write_text(f"json://user:{HOOK}@127.0.0.1:9/{HOOK}")
    with path.open("w") as sink:
        yaml.dump(catalog, sink)
    found = {f"password of {role}": each for role, each in passwords.items()}
    for place in ("east", "west", "witness"):
        found[f"S3 at {place}"] = json.loads(world.s3_credentials(place).read_text())["secret_access_key"]
    for key in (world.home / "keys").glob("*.ed25519"):
        found[f"key of {key.stem}"] = key.read_text().splitlines()[1]
    found["backup key"] = (world.home / "keys" / "vault.aes").read_text().strip()
    return {**found, "hook": HOOK, "signature of a URL": "X-Amz-Signature"}


def used(world: World) -> dict[str, bytes]:
    """What the commands of a day and of a disaster say, by command; also where they fail."""
    said: dict[str, bytes] = {}

    def dr(*words: str) -> bytes:
        argv = [sys.executable, "-m", "deployments.cli.main", *words, "--home", str(world.home)]
        ran = subprocess.run(
            argv, cwd=ROOT, capture_output=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        said[f"dr {' '.join(words)}"] = ran.stdout + ran.stderr
        return ran.stdout

    for words in ("check --json", f"backup {DB}", f"prove {DB} --json", f"prove {DB} --mutate random", "status"):
        dr(*words.split())
    for book in ("failover", "switchover", "failback", "restore"):
        dr("runbook", "print", book)
    lost(world, "s3:west")
    dr("prove", DB)
    dr("lab", "heal")
    lost(world, "site:east")
    plan = json.loads(dr("plan", "failover", "--to", "west", "--json"))["digest"]
    dr("approve", plan, "--as", "ann", "--accept", "all")
    dr("act", plan, "--json")  # nobody can be told by that channel: the run stands still at its end
    for words in (f"show {plan}", f"show {plan} --json", "report", "report --json", "runs", "evidence verify"):
        dr(*words.split())
    assert b'"promote"' in said[f"dr act {plan} --json"], said[f"dr act {plan} --json"]
    return said


@contextmanager
def command_lines() -> Iterator[set[bytes]]:
    """Every command line that this machine has in the meantime, as far as a look each 10 ms sees them."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            for each in os.scandir("/proc"):
                if each.name.isdigit():
                    try:
                        seen.add(Path(each.path, "cmdline").read_bytes())
                    except OSError:
                        continue

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def files(world: World) -> Iterator[tuple[str, bytes]]:
    for path in world.home.rglob("*"):
        if path.name in MAY_HOLD or path.parent == world.home / "keys" or not path.is_file():
            continue
        try:
            yield str(path.relative_to(world.home)), path.read_bytes()
        except OSError:
            continue  # gone between the listing and the reading: the lab lives


def objects(world: World) -> Iterator[tuple[str, bytes]]:
    home = open_home(world.home)
    for site in ("west", "witness"):
        for bucket in (home.catalog.ledger.bucket, home.catalog.ledger.leases, home.resource(DB).bucket):
            if site == "witness" and bucket == home.resource(DB).bucket:
                continue
            store = home.store(site, bucket)
            for found in store.list(""):
                if found.size_bytes <= MOST_BYTES and (got := store.get(found.key)) is not None:
                    yield f"{bucket} at {site}: {found.key}", got[0]
