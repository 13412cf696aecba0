"""Why a request has no answer, in the words of a person and not of a library.

Separate because whoever is asked, an agent, an application, a bucket or a cloud's door, is silent in the same few ways.
Nothing is loaded for it: a leash asks within milliseconds of its start.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence

LATE = "no answer in time"
_LATE = {"TimeoutError", "ConnectTimeoutError", "ReadTimeoutError"}
"""As Python, urllib3 and botocore call it."""
_GARBLED = {"ProtocolError", "DecodeError", "InvalidChunkLength", "ResponseParserError", "InvalidHeader"}


def why(error: BaseException) -> str:
    """`connection refused`, `connection reset by peer`, `no answer in time`, …; a name only where nothing is known."""
    links = _chain(error)
    return next(filter(None, map(_plain, links)), "") or _unlike(links) or f"no HTTP answer ({type(error).__name__})"


def _plain(link: BaseException) -> str:
    """What one of them says by itself, or nothing."""
    if isinstance(link, OSError) and link.strerror:
        return link.strerror.lower()
    if type(link).__name__ in _LATE:
        return LATE
    if said := getattr(link, "verify_message", ""):  # ssl.SSLCertVerificationError's
        return f"its certificate is not trusted: {said}"
    ours = isinstance(link, ConnectionError) and type(link).__module__.startswith(("builtins", "tasks"))
    return str(link) if ours else ""


def _unlike(links: Sequence[BaseException]) -> str:
    """What came instead of an answer, or nothing."""
    if any(isinstance(link, ConnectionError) for link in links):
        return "the connection was closed without an answer"
    if any(type(link).__name__ in _GARBLED or isinstance(link, http.client.HTTPException) for link in links):
        return "what answers there speaks no HTTP"
    odd = any(isinstance(link, ValueError | KeyError | TypeError) for link in links)
    return "it answers something else than was asked for" if odd else ""


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it came from, nearest first."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        inner = next((each for each in link.args if isinstance(each, BaseException)), None)
        link = inner or link.__cause__ or link.__context__
    return seen
