"""Why nobody answered is told in plain words, whatever a library calls it."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3

from recovery.catalog import S3Endpoint
from recovery.errors import Failed
from recovery.lease import Under
from tasks.postgres.leash_control import LeashControl
from tasks.postgres.order_client import Agent, Silent
from tasks.s3_small import SmallObjects
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
    assert asked(door(lambda link: (link.recv(1024), link.close())[1])) == "the connection was closed without an answer"
    assert asked(door(lambda link: link.sendall(b"what?\r\n\r\n"))) == "what answers there speaks no HTTP"
    for each in kept:
        each.close()


def of(raised: BaseException, cause: BaseException | None = None) -> str:
    raised.__cause__ = cause
    return why(raised)


def test_whatever_library_it_comes_from_the_words_are_the_same() -> None:
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

    refused = ConnectionRefusedError(111, "Connection refused")
    assert of(EndpointConnectionError(endpoint_url="http://x"), refused) == "connection refused"
    assert of(ConnectTimeoutError(endpoint_url="http://x")) == "no answer in time"
    assert of(ReadTimeoutError(endpoint_url="http://x")) == "no answer in time"
    assert of(TimeoutError()) == "no answer in time"
    assert of(http.client.RemoteDisconnected("")) == "the connection was closed without an answer"
    assert of(http.client.BadStatusLine("what?")) == "what answers there speaks no HTTP"
    assert of(json.JSONDecodeError("no JSON", "x", 0)) == "it answers something else than was asked for"
    assert of(KeyError("term")) == "it answers something else than was asked for"
    assert of(ConnectionError("its certificate is not trusted: expired")) == "its certificate is not trusted: expired"
    assert of(RuntimeError("odd")) == "no HTTP answer (RuntimeError)"


def test_an_agent_a_leash_and_a_bucket_that_are_silent_are_told_without_a_librarys_name(
    tmp_path: Path, door: Callable[[Callable[[socket.socket], None]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Failed, match=r"the leash at .* does not answer: no such file or directory"):
        LeashControl(path=tmp_path / "none").status(patience_seconds=0.2)
    engine = Agent(
        url=f"http://127.0.0.1:{door(reset)}",
        sign=None,  # type: ignore[arg-type]
        now=lambda: datetime.now(UTC),
        under=lambda: Under(lease="shop", generation=1),
    )
    said = engine.get("/status", patience_seconds=2.0)
    assert isinstance(said, Silent)
    assert said.why.endswith("does not answer: connection reset by peer")
    monkeypatch.setenv("SMALL_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("SMALL_SECRET_ACCESS_KEY", "b")
    kept: list[socket.socket] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        refuses = int(closed.getsockname()[1])
    facts = {door(kept.append): "did not answer within 0.3 s", refuses: "did not answer (connection refused)"}
    for port, fact in facts.items():
        where = S3Endpoint(endpoint_url=f"http://127.0.0.1:{port}", credentials="env:SMALL")
        with pytest.raises(Failed) as caught:
            SmallObjects(endpoint=where, bucket="leases", timeout_seconds=0.3).get("x")
        assert caught.value.fact.endswith(fact)
    for each in kept:
        each.close()
