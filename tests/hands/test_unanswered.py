"""Why nobody answered is told in plain words, whatever a library calls it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest
import urllib3

from tasks.unanswered import why


def asked(port: int) -> str:
    with pytest.raises(urllib3.exceptions.HTTPError) as caught:
        urllib3.request("GET", f"http://127.0.0.1:{port}/", timeout=urllib3.Timeout(total=0.3), retries=False)
    return why(caught.value)


@pytest.fixture
def door() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """A server that takes one connection and treats it as it is told."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:

        def opened(treat: Callable[[socket.socket], None]) -> int:
            def serve() -> None:
                with suppress(OSError):
                    treat(taken.accept()[0])

            threading.Thread(target=serve, daemon=True).start()
            return int(taken.getsockname()[1])

        yield opened


def reset(link: socket.socket) -> None:
    link.recv(1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


def test_one_that_refuses_resets_hangs_or_talks_nonsense(
    door: Callable[[Callable[[socket.socket], None]], int],
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = int(closed.getsockname()[1])
    assert asked(port) == "connection refused"
    kept: list[socket.socket] = []
    assert asked(door(reset)) == "connection reset by peer"
    assert asked(door(kept.append)) == "no answer in time"
    assert asked(door(lambda link: link.sendall(b"what?\r\n\r\n"))) == "no HTTP answer (ProtocolError)"
    for each in kept:
        each.close()
