"""Connection strings of libpq in both forms, `name=value …` and `postgresql://…`: whether they are sound, and what may
be shown of them. Pure.

Separate because a password has more ways into one than a pattern of text finds: quoted, escaped, beside a blank, behind
a question mark. What is not sound is told without a word of it: libpq would repeat a piece of the password.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SECRETS = frozenset({"password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"})
"""The options whose values libpq itself hides."""
KNOWN = SECRETS | {
    "application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "fallback_application_name",
    "gssdelegation", "gssencmode", "gsslib", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle",
    "keepalives_interval", "krbsrvname", "load_balance_hosts", "max_protocol_version", "min_protocol_version",
    "oauth_client_id", "oauth_issuer", "oauth_scope", "options", "passfile", "port", "replication", "require_auth",
    "requirepeer", "service", "ssl", "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcertmode",
    "sslcompression", "sslcrl", "sslcrldir", "sslkey", "sslkeylogfile", "sslmode", "sslnegotiation", "sslrootcert",
    "sslsni", "target_session_attrs", "tcp_user_timeout", "user",
}  # fmt: skip
"""The options of libpq 18, and the one that it takes in URIs only. `pasword=…` is none, and would else be shown."""
_PAIR = re.compile(r"\s*([^\s='\\]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(?!')((?:[^\s\\]|\\.)*))", re.DOTALL)
_URI = re.compile(r"(postgres(?:ql)?://)(?:([^@/]*)@)?([^/?]*)((?:/[^?]*)?)(?:\?(.*))?", re.DOTALL)
_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_PORTS = re.compile(r"\d{0,5}(,\d{0,5})*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dsn:
    """What may be told of one. `shown`: the same without its secrets. `secrets`: the options that held any."""

    shown: str
    secrets: frozenset[str]
    host: str
    port: str


def dsn(text: str) -> Dsn:
    """Read a connection string. Raises ValueError for one that libpq would not take, and repeats nothing of it."""
    return _of_uri(text) if re.match(r"postgres(ql)?://", text) else _of_pairs(text)


def shown(text: str) -> str:
    """A connection string without its secrets; nothing of one that cannot be read."""
    try:
        return dsn(text).shown
    except ValueError:
        return "(a connection string that cannot be read)"


def _of_pairs(text: str) -> Dsn:
    kept: list[str] = []
    told: dict[str, str] = {}
    for whole, name, value in _pairs(text):
        told[name] = re.sub(r"\\(.)", r"\1", value)
        if name not in SECRETS:
            kept.append(whole.strip())
    _refuse_unknown(told)
    port = told.get("port", "")
    if not _PORTS.fullmatch(port):
        raise ValueError("its port is no number")
    host = told.get("host") or told.get("hostaddr") or "localhost"
    return Dsn(shown=" ".join(kept), secrets=SECRETS & told.keys(), host=host, port=port or "5432")


def _pairs(text: str) -> Iterator[tuple[str, str, str]]:
    at = 0
    while text[at:].strip():
        found = _PAIR.match(text, at)
        if found is None:
            raise ValueError(
                "it is no row of name=value; a value with a blank stands in '…', with \\' for a quote in it"
            )
        yield found[0], found[1], found[2] if found[2] is not None else found[3]
        at = found.end()


def _of_uri(text: str) -> Dsn:
    found = _URI.fullmatch(text)
    if found is None or _ESCAPE.search(text):
        raise ValueError("it is no URI; write %25 for a % in it")
    scheme, user, hosts, database, asked = found.groups()
    name, colon, _ = (user or "").partition(":")
    options = [each for each in (asked or "").split("&") if each]
    named = {each.partition("=")[0] for each in options} | ({"password"} if colon else set())
    _refuse_unknown(named)
    kept = [each for each in options if each.partition("=")[0] not in SECRETS]
    places = [re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?", each) for each in hosts.split(",")]
    if any(each is None or not _PORTS.fullmatch(each[2] or "") for each in places):
        raise ValueError("a port in it is no number; write %2F for a / and %40 for an @ in the password")
    host, port = (places[0][1], places[0][2]) if places[0] else ("", "")
    return Dsn(
        shown=scheme + (f"{name}@" if name else "") + hosts + database + (f"?{'&'.join(kept)}" if kept else ""),
        secrets=SECRETS & named,
        host=host.strip("[]") or "localhost",
        port=port or "5432",
    )


def _refuse_unknown(names: Iterable[str]) -> None:
    if not KNOWN.issuperset(names):
        raise ValueError("it holds an option that libpq does not know; a password with a blank in it stands in '…'")
