"""The sockets of a name server: UDP and TCP on one address and port. Nothing that is asked can end them.

Separate from what is answered: the authoritative server and the resolver share it, and so does their weather, which
makes a slow or a silent name server (a fault of the lab) without stopping the process.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import dns.rcode
from pydantic import ValidationError

from deployments.lab.dns.answers import HEADER_BYTES, trouble
from deployments.lab.dns.files import Watched
from deployments.lab.proxy.weather import Weather

Respond = Callable[[bytes, bool], bytes | None]
"""Question, whether it came over a stream → answer."""
PORT_TRIES = 8
BUFFER_BYTES = 1 << 20
STREAM_PATIENCE_SECONDS = 5.0
POLL_SECONDS = 0.1


class Sky:
    """The weather of a name server as its file says at this moment; fine without one. Looking costs microseconds."""

    def __init__(self, path: Path) -> None:
        self._file, self._now = Watched(path), Weather()

    def __call__(self) -> Weather:
        """The weather that holds now."""
        content = self._file.fresh()
        if content is not None:
            try:
                self._now = Weather.model_validate(content)
            except ValidationError as wrong:
                print(f"this is no weather, the last one stays: {wrong}", flush=True)  # noqa: T201 -- its log
        return self._now


class NameServer:
    """Serves until the process ends. With `pool`, UDP questions are answered there: for who has to ask others."""

    def __init__(
        self, address: str, port: int, respond: Respond, *, weather: Callable[[], Weather], pool: Executor | None = None
    ) -> None:
        self.respond, self.weather, self.pool = respond, weather, pool
        self.closed = False
        handler = type("Handler", (_Stream,), {"server_of": self})
        for left in reversed(range(PORT_TRIES if port == 0 else 1)):
            self.tcp = _Streams((address, port), handler)
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            try:
                self.udp.bind((address, self.tcp.server_address[1]))
                break
            except OSError:  # the kernel chose the port for TCP; somebody has it for UDP
                self.udp.close()
                self.tcp.server_close()
                if not left:
                    raise

    @property
    def port(self) -> int:
        """The port that it has: the one asked for, or the kernel's choice for 0."""
        port: int = self.udp.getsockname()[1]
        return port

    def start(self) -> None:
        """Serve in threads of its own."""
        self.receiving = threading.Thread(target=self._serve, name="dns-udp", daemon=True)
        self.receiving.start()
        threading.Thread(target=self.tcp.serve_forever, args=(POLL_SECONDS,), name="dns-tcp", daemon=True).start()

    def close(self) -> None:
        """Stop serving and close the sockets. The receiving thread ends first: one that still waits in a closed socket
        keeps its port, and goes on with whatever gets the same number."""
        self.tcp.shutdown()
        self.tcp.server_close()
        self.closed = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.udp.getsockname())
        self.receiving.join()
        self.udp.close()

    def _serve(self) -> None:
        while True:
            try:
                wire, client = self.udp.recvfrom(65535)
            except OSError:
                continue
            if self.closed:
                return
            if self.pool is None:
                self._answer(wire, client)
            else:
                self.pool.submit(self._answer, wire, client)

    def _answer(self, wire: bytes, client: tuple[str, int]) -> None:
        weather = self.weather()
        if weather.mode != "pass":
            return
        reply = self.safe(wire, stream=False)
        if reply is None:
            return
        if weather.delay_ms:
            late = threading.Timer(weather.delay_ms / 1000, self._send, (reply, client))
            late.daemon = True
            late.start()
        else:
            self._send(reply, client)

    def _send(self, reply: bytes, client: tuple[str, int]) -> None:
        try:
            self.udp.sendto(reply, client)
        except OSError as lost:
            print(f"no answer to {client[0]}: {lost}", flush=True)  # noqa: T201 -- this process's log

    def safe(self, wire: bytes, *, stream: bool) -> bytes | None:
        """The answer; SERVFAIL when answering fails in a way that nobody foresaw, which goes to the log."""
        try:
            return self.respond(wire, stream)
        except Exception:  # noqa: BLE001 -- the serving thread lives on: the asker gets SERVFAIL, the log the trace
            traceback.print_exc()
            return trouble(wire, dns.rcode.SERVFAIL) if len(wire) >= HEADER_BYTES else None


class _Streams(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


class _Stream(socketserver.BaseRequestHandler):
    server_of: NameServer

    def handle(self) -> None:
        """Answer question after question until the client ends or stays silent."""
        plug: socket.socket = self.request
        plug.settimeout(STREAM_PATIENCE_SECONDS)
        try:
            while wire := _framed(plug):
                weather = self.server_of.weather()
                if weather.mode != "pass":
                    return
                time.sleep(weather.delay_ms / 1000)
                reply = self.server_of.safe(wire, stream=True)
                if reply is None:
                    return
                plug.sendall(struct.pack("!H", len(reply)) + reply)
        except OSError:
            return


def _framed(plug: socket.socket) -> bytes:
    """The next message of the stream; empty at its end."""
    head = _exactly(plug, 2)
    return _exactly(plug, struct.unpack("!H", head)[0]) if len(head) == 2 else b""


def _exactly(plug: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = plug.recv(count - len(got))
        if not more:
            return b""
        got += more
    return got
