"""The ports of the lab's S3 servers: no two servers of a machine share any, on whatever addresses they listen."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path
from zlib import crc32

import pytest

from deployments.lab.s3 import weed

EAST, WEST = "127.93.7.11", "127.93.7.12"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets in a folder of the test; what other tests of this process claimed stays claimed."""
    monkeypatch.setattr(weed, "sockets_of", lambda base: [tmp_path / f"{base}.sock"])


def same_slot(seed: str, base: int) -> str:
    """Another seed whose first choice is that, too."""
    slots = (weed.LAST_PORT - weed.FIRST_PORT) // len(weed.ROLES)
    wanted = (base - weed.FIRST_PORT) // len(weed.ROLES)
    found = (f"{seed}-{number}" for number in count())
    return next(each for each in found if crc32(each.encode()) % slots == wanted)


def test_two_servers_of_one_lab_never_have_the_same_ports_whatever_their_folders_are_called(tmp_path: Path) -> None:
    east = weed.free_base_port(EAST, f"{tmp_path}/east")
    west = weed.free_base_port(WEST, same_slot(f"{tmp_path}/west", east))
    assert abs(east - west) >= len(weed.ROLES), "their sockets are named by port: they would speak to each other"
    assert weed.free_base_port(EAST, f"{tmp_path}/east", east) == east, "the same server again has its own"


def test_another_process_that_is_about_to_start_a_server_is_seen(tmp_path: Path) -> None:
    code = "import sys; from deployments.lab.s3 import weed; print(weed.free_base_port(*sys.argv[1:]), flush=True)"
    code += "; input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, EAST, f"{tmp_path}/east"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        seed = same_slot(f"{tmp_path}/west", theirs)
        assert weed.free_base_port(WEST, seed) != theirs
        other.communicate("\n")
    assert weed.free_base_port(WEST, same_slot(f"{tmp_path}/later", theirs)) == theirs, "it is gone with its process"


def test_a_server_that_runs_is_seen_by_its_sockets_and_finds_its_own_ports_again(tmp_path: Path) -> None:
    first = weed.free_base_port(EAST, f"{tmp_path}/first")
    weed._CLAIMED.pop(first)[1].close()  # as if the process that raised that lab had ended
    (tmp_path / f"{first}.sock").touch()
    assert weed.free_base_port(WEST, same_slot(f"{tmp_path}/west", first)) != first
    assert weed.free_base_port(EAST, f"{tmp_path}/first", first) == first
