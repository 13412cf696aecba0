"""The unix socket through which archive_command asks: `archive NUL path NUL`; the answer is `ok` or `fact NUL hint`.

Separate so that the archiver can be called without a socket. One thread per question, each with a patience.
"""

from __future__ import annotations

import os
import socket
import socketserver
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from recovery.errors import BadInput, DrError, Refused

_QUESTION_BYTES = 8192
_PATH_BYTES = 107


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64
    archive: Callable[[Path], None]


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Answer one question."""
        self.request.settimeout(10.0)
        try:
            self.request.sendall(self._answer(self._question()))
        except OSError:
            return  # the client was ended or lost its patience: Postgres asks again

    def _question(self) -> bytes:
        asked = b""
        while asked.count(b"\0") < 2 and len(asked) < _QUESTION_BYTES:
            piece: bytes = self.request.recv(4096)
            if not piece:
                break
            asked += piece
        return asked

    def _answer(self, asked: bytes) -> bytes:
        parts = asked.split(b"\0")
        if len(parts) != 3 or parts[0] != b"archive" or parts[2]:
            return _no("the question is not understood", "use the archive_client.py of this version")
        try:
            self.server.archive(Path(os.fsdecode(parts[1])))
        except DrError as error:
            return _no(error.fact, error.hint)
        except Exception as error:  # noqa: BLE001 -- whatever it is, Postgres must hear "no", and the log the rest
            sys.stderr.write(traceback.format_exc())
            return _no(f"the agent failed ({type(error).__name__})", "see the agent's log")
        return b"ok\n"


def _no(fact: str, hint: str) -> bytes:
    return f"{fact}\0{hint}".replace("\n", " ").encode() + b"\n"


def listen(path: Path, archive: Callable[[Path], None]) -> _Server:
    """A bound server; call `serve_forever` in a thread. A dead agent's socket is replaced, a living one's refused."""
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise BadInput(
            f"the socket's path is longer than {_PATH_BYTES} bytes: {path}",
            hint="name a shorter one, like /run/standfast/agent.sock",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            raise Refused(f"another agent listens on {path}", hint="end it first, or give this one its own socket")
    path.parent.mkdir(parents=True, exist_ok=True)
    server = _Server(os.fspath(path), _Handler)
    # Postgres may run as another account. Whoever asks can only have files of our own pg_wal archived.
    path.chmod(0o666)
    server.archive = archive
    return server
