"""Asks a probe's question once, within a patience, and says what came of it. Never raises for what a site does.

Separate and at the root because agents, the process at a third place and the engine all ask the same way; it imports
nothing but the standard library. The rules are those of a Route53 health check: an answer of 2xx or 3xx, in which what
is expected stands in the first 5120 bytes. No proxy of the environment is used, and no redirect is followed: the site
itself is asked.
"""

from __future__ import annotations

import errno
import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

T = TypeVar("T")
Outcome = Literal["passed", "failed", "unproven"]
PATIENCE_SECONDS = 1.0
READ_BYTES = 5120
_OURS = {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS}
_OURS |= {errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT}
"""Errors of this machine and its network: the question did not come as far as the site."""
_GRACE_SECONDS = 0.25
_TICK_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked. `connect_to`: the address to connect to instead of the URL's host, which stays in the question."""

    url: str
    expect: str = ""
    connect_to: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """`unproven`: the question could not be put. `seconds` is the time that it took."""

    outcome: Outcome
    why: str = ""
    seconds: float = 0.0


class _Late(Exception):
    """The patience is over."""


class _Bounded(io.RawIOBase):
    """A socket's bytes until a deadline, however slowly they drip; it is what http.client reads from."""

    def __init__(self, link: socket.socket, deadline: float) -> None:
        self.link, self.deadline = link, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self.link.settimeout(_left(self.deadline))
        return self.link.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)


def ask(question: Question, *, patience_seconds: float = PATIENCE_SECONDS) -> Answer:
    """Ask once. It takes the patience at the longest, but where resolving the host's name hangs (see `ask_all`)."""
    begin = time.monotonic()
    deadline = begin + patience_seconds
    try:
        outcome, why = _asked(question, deadline)
    except (_Late, TimeoutError):
        outcome, why = "failed", f"no answer within {patience_seconds:g} s"
    except socket.gaierror as error:
        outcome, why = "unproven", f"the name cannot be resolved here: {error.strerror}"
    except ssl.SSLError as error:
        outcome, why = "failed", f"TLS: {error.reason or 'the connection broke'}"
    except http.client.HTTPException as error:
        outcome, why = "failed", f"no HTTP answer ({type(error).__name__})"
    except OSError as error:
        ours = error.errno in _OURS
        outcome, why = "unproven" if ours else "failed", (error.strerror or type(error).__name__).lower()
    except ValueError as error:
        outcome, why = "unproven", f"the URL cannot be asked: {error}"
    return Answer(outcome=outcome, why=why, seconds=time.monotonic() - begin)


def ask_all(questions: Mapping[str, Question], *, patience_seconds: float = PATIENCE_SECONDS) -> dict[str, Answer]:
    """Ask all at once; one that did not come back a little after the patience (a resolver hangs) is unproven."""

    def one(question: Question) -> Callable[[], Answer]:
        return lambda: ask(question, patience_seconds=patience_seconds)

    came = at_once({name: one(question) for name, question in questions.items()}, patience_seconds + _GRACE_SECONDS)
    late = Answer(outcome="unproven", why="the host's name was not resolved in time", seconds=patience_seconds)
    return {name: came.get(name, late) for name in questions}


def at_once(
    jobs: Mapping[str, Callable[[], T]],
    patience_seconds: float,
    enough: Callable[[Mapping[str, T], float], bool] = lambda done, seconds: False,  # noqa: ARG005 -- all are awaited
) -> dict[str, T]:
    """What each job gives, by name; those that are not done within the patience, or once `enough` says so (of what is
    done, after so many seconds), are left to themselves and missing. The threads are daemons: one that hangs keeps
    nobody from ending. A job must not raise."""
    came: SimpleQueue[tuple[str, T]] = SimpleQueue()
    for name, job in jobs.items():
        threading.Thread(target=_into, args=(came, name, job), daemon=True).start()
    begin = time.monotonic()
    done: dict[str, T] = {}
    while len(done) < len(jobs):
        passed = time.monotonic() - begin
        if passed >= patience_seconds or enough(done, passed):
            break
        try:
            name, found = came.get(timeout=min(patience_seconds - passed, _TICK_SECONDS))
        except Empty:
            continue
        done[name] = found
    return done


def _into(came: SimpleQueue[tuple[str, T]], name: str, job: Callable[[], T]) -> None:
    came.put((name, job()))


def _asked(question: Question, deadline: float) -> tuple[Outcome, str]:
    url = urlsplit(question.url)
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    if url.scheme not in ("http", "https", "tcp") or not url.hostname or not port:
        raise ValueError("it has to be http://, https:// or tcp:// with a host, and a port for tcp")
    with _connected(question.connect_to or url.hostname, port, deadline) as link:
        if url.scheme == "tcp":
            return _expected(_read(_Bounded(link, deadline)), question.expect) if question.expect else ("passed", "")
        if url.scheme == "http":
            return _over_http(link, url, question.expect, deadline)
        link.settimeout(_left(deadline))
        with ssl.create_default_context().wrap_socket(link, server_hostname=url.hostname) as secured:
            return _over_http(secured, url, question.expect, deadline)


def _connected(host: str, port: int, deadline: float) -> socket.socket:
    """A connection to the first of the host's addresses that takes one; all of them share the deadline."""
    refused: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        link: socket.socket | None = None
        try:
            link = socket.socket(family, kind, protocol)
            link.settimeout(_left(deadline))
            link.connect(address)
        except OSError as error:
            refused = error
            if link is not None:
                link.close()
        else:
            return link
    raise refused or TimeoutError


def _over_http(link: socket.socket, url: SplitResult, expect: str, deadline: float) -> tuple[Outcome, str]:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    host = url.netloc.rpartition("@")[2]
    lines = (f"GET {target} HTTP/1.1", f"Host: {host}", "User-Agent: standfast", "Accept: */*", "Connection: close")
    link.settimeout(_left(deadline))
    link.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
    answer = http.client.HTTPResponse(_Bounded(link, deadline), method="GET")  # type: ignore[arg-type]
    answer.begin()
    if not 200 <= answer.status < 400:
        return "failed", f"it answered {answer.status}"
    if not expect:
        return "passed", ""
    return _expected(answer.read(READ_BYTES), expect)


def _read(source: _Bounded) -> bytes:
    """What a bare TCP service says first: until it pauses for the patience, closes, or has said enough."""
    found = b""
    while len(found) < READ_BYTES:
        try:
            part = source.read(READ_BYTES - len(found))
        except (TimeoutError, _Late):
            if not found:
                raise
            break
        if not part:
            break
        found += part
    return found


def _expected(said: bytes, expect: str) -> tuple[Outcome, str]:
    if expect.encode() in said[:READ_BYTES]:
        return "passed", ""
    return "failed", f"its answer does not hold {expect!r}"


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise _Late
    return left
