"""A probe says passed, failed or unproven within its patience, whatever the site does to it."""

from __future__ import annotations

import errno
import socket
import time

import pytest
from site_scene import bare, closed_port, site

from tasks import probing
from tasks.probing import Question, ask, ask_all


def hang(link: socket.socket) -> None:
    link.recv(1)


def drip(link: socket.socket) -> None:
    """One byte each 30 ms, for ever: no single read is late, only the whole."""
    link.recv(4096)
    link.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        link.sendall(b"x")
        time.sleep(0.03)


def chunked(link: socket.socket) -> None:
    link.recv(4096)
    link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n6\r\n well.\r\n0\r\n\r\n")
    link.close()


def test_a_site_that_answers_well_passes() -> None:
    with site() as east:
        assert ask(Question(url=f"{east.url}/ready?x=1", expect="ok")).outcome == "passed"
        assert east.asked[0][:2] == ("GET", "/ready?x=1")
        assert ask(Question(url=east.url)).outcome == "passed"


@pytest.mark.parametrize(("status", "outcome"), [(204, "passed"), (302, "passed"), (404, "failed"), (503, "failed")])
def test_the_status_counts_as_at_route53(status: int, outcome: str) -> None:
    with site(lambda *_: (status, b"")) as east:
        assert ask(Question(url=east.url)).outcome == outcome


def test_a_liar_that_says_200_and_not_what_is_expected_fails() -> None:
    with site(lambda *_: (200, b"maintenance")) as east:
        found = ask(Question(url=east.url, expect="ok"))
    assert (found.outcome, found.why) == ("failed", "its answer does not hold 'ok'")


def test_only_the_first_5120_bytes_are_looked_at() -> None:
    body = {"/in": b"x" * 5118 + b"ok", "/out": b"x" * 5119 + b"ok"}
    with site(lambda _method, path, _body: (200, body[path])) as east:
        assert ask(Question(url=f"{east.url}/in", expect="ok")).outcome == "passed"
        assert ask(Question(url=f"{east.url}/out", expect="ok")).outcome == "failed"


def test_an_answer_in_pieces_is_read_as_one() -> None:
    with bare(chunked) as where:
        assert ask(Question(url=f"http://{where}/", expect="all well.")).outcome == "passed"


@pytest.mark.parametrize("serve", [hang, drip])
def test_one_that_hangs_or_drips_fails_within_the_patience(serve: object) -> None:
    with bare(serve) as where:  # type: ignore[arg-type]
        begin = time.monotonic()
        found = ask(Question(url=f"http://{where}/", expect="ok"), patience_seconds=0.3)
        took = time.monotonic() - begin
    assert (found.outcome, found.why) == ("failed", "no answer within 0.3 s")
    assert 0.3 <= found.seconds <= took < 10


def test_one_that_refuses_resets_or_talks_nonsense_fails() -> None:
    assert ask(Question(url=f"http://127.0.0.1:{closed_port()}/")).outcome == "failed"
    with bare(lambda link: link.close()) as where:
        assert ask(Question(url=f"http://{where}/")).outcome == "failed"
    with bare(lambda link: link.sendall(b"SSH-2.0-x\r\n\r\n")) as where:
        assert ask(Question(url=f"http://{where}/")).outcome == "failed"
        assert ask(Question(url=f"https://{where}/")).outcome == "failed"


def test_a_bare_port_passes_when_it_takes_the_connection_and_says_what_is_expected() -> None:
    with bare(lambda link: link.sendall(b"220 ready\r\n")) as where:
        assert ask(Question(url=f"tcp://{where}")).outcome == "passed"
        assert ask(Question(url=f"tcp://{where}", expect="220")).outcome == "passed"
        assert ask(Question(url=f"tcp://{where}", expect="554"), patience_seconds=0.2).outcome == "failed"


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EMFILE])
def test_our_own_trouble_is_unproven_and_theirs_is_failed(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def broken(*_: object) -> socket.socket:
        raise OSError(number, "no way")

    monkeypatch.setattr(probing, "_connected", broken)
    assert ask(Question(url="http://127.0.0.1:1/")).outcome == "unproven"
    number = errno.EHOSTUNREACH
    assert ask(Question(url="http://127.0.0.1:1/")).outcome == "failed"


def test_a_name_that_cannot_be_resolved_or_a_url_that_is_none_is_unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    assert ask(Question(url="ftp://127.0.0.1/")).outcome == "unproven"
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    assert ask(Question(url="http://app.nowhere.test/")).outcome == "unproven"


def test_a_resolver_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object) -> socket.socket:
        time.sleep(12)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(probing, "_connected", late)
    begin = time.monotonic()
    found = ask_all({"app": Question(url="http://app.nowhere.test/")}, patience_seconds=0.1)
    assert found["app"].outcome == "unproven"
    assert time.monotonic() - begin < 10


def test_many_are_asked_at_once_and_another_address_may_be_asked_by_the_name() -> None:
    with bare(hang) as where, site() as east:
        port = east.url.rpartition(":")[2]
        begin = time.monotonic()
        hanging = {f"h{n}": Question(url=f"http://{where}/") for n in range(8)}
        named = Question(url=f"http://app.lab.test:{port}/ready", connect_to="127.0.0.1")
        found = ask_all({**hanging, "named": named}, patience_seconds=1.5)
        assert time.monotonic() - begin < 8 * 1.5, "as long as one of them, not as all of them one by one"
    assert [found[name].outcome for name in (*hanging, "named")] == ["failed"] * 8 + ["passed"]
    assert east.asked[0][2] == f"app.lab.test:{port}"
