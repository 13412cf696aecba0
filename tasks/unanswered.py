"""Why a request over HTTP has no answer, in the words of a person and not of a library.

Separate because whoever is asked, an agent or an application, is silent in the same few ways.
"""

from __future__ import annotations

import urllib3


def why(error: BaseException) -> str:
    """`connection refused`, `connection reset by peer`, `no answer in time`, …; a name only where nothing is known."""
    link: BaseException | None = error
    seen: list[BaseException] = []
    while link is not None and link not in seen:
        seen.append(link)
        if isinstance(link, OSError) and link.strerror:
            return link.strerror.lower()
        if isinstance(link, (urllib3.exceptions.TimeoutError, TimeoutError)) and not isinstance(
            link, urllib3.exceptions.NewConnectionError
        ):
            return "no answer in time"
        inner = next((each for each in link.args if isinstance(each, BaseException)), None)
        link = inner or link.__cause__ or link.__context__
    return f"no HTTP answer ({type(error).__name__})"
