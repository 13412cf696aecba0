"""The process `resolver`. Run as `python -m deployments.lab.resolver.serve CONFIG_FILE`.

CONFIG: {"address", "port", "server": [address, port], "weather": FILE}. Users and the observer ask it.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode

from deployments.lab.dns.answers import HEADER_BYTES, trouble
from deployments.lab.dns.wire import NameServer, Sky
from deployments.lab.resolver.asking import Silent, ask
from deployments.lab.resolver.cache import Cache, Kept, Question, aged, kept

UDP_BYTES = 1232


class Resolver:
    """The cache and who is asked on a miss. Equal questions at the same time are asked once."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server, self.cache = server, Cache()
        self._underway: dict[Question, Future[Kept]] = {}
        self._lock = threading.Lock()

    def respond(self, wire: bytes, stream: bool) -> bytes | None:
        """The answer to a question in wire form; None for what deserves none."""
        if len(wire) < HEADER_BYTES or wire[2] & 0x80:
            return None
        try:
            question = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return trouble(wire, dns.rcode.FORMERR)
        if question.opcode() != dns.opcode.QUERY or len(question.question) != 1:
            return trouble(wire, dns.rcode.NOTIMP)
        reply = dns.message.make_response(question, recursion_available=True)
        asked = question.question[0]
        try:
            known = self._known((asked.name.to_text().lower(), int(asked.rdtype), int(asked.rdclass)))
        except Silent:
            reply.set_rcode(dns.rcode.SERVFAIL)
            return reply.to_wire()
        age = time.monotonic() - known.at
        reply.set_rcode(known.rcode)
        reply.answer, reply.authority = aged(known.answer, age), aged(known.authority, age)
        made = reply.to_wire()
        if not stream and len(made) > max(512, min(question.payload or 512, UDP_BYTES)):
            reply.answer, reply.authority = [], []
            reply.flags |= dns.flags.TC
            made = reply.to_wire()
        return made

    def _known(self, question: Question) -> Kept:
        entry = self.cache.get(question, now=time.monotonic())
        if entry is not None:
            return entry
        with self._lock:
            asked = self._underway.get(question)
            mine = asked is None
            if asked is None:
                asked = self._underway[question] = Future()
        if mine:
            self._fetch(question, asked)
        return asked.result()

    def _fetch(self, question: Question, asked: Future[Kept]) -> None:
        # The TTL counts from before the asking: an answer is never kept longer than it says.
        now = time.monotonic()
        try:
            entry = kept(ask(question[0], question[1], self.server), now=now)
        except BaseException as failed:
            asked.set_exception(failed)
            raise
        else:
            self.cache.put(question, entry)
            asked.set_result(entry)
        finally:
            with self._lock:
                self._underway.pop(question, None)


def serve(config: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    resolver = Resolver((config["server"][0], config["server"][1]))
    pool = ThreadPoolExecutor(32, thread_name_prefix="resolve")
    NameServer(
        config["address"], config["port"], resolver.respond, weather=Sky(Path(config["weather"])), pool=pool
    ).start()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    pool.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()))
