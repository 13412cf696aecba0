"""Asking a service's own application: one bounded request, its body, or why there is none.

Separate because side effects and connections are asked for in the same way, and their kinds don't import each other.
"""

from __future__ import annotations

from recovery.errors import Failed

MOST_BYTES = 64 * 1024


def ask(
    method: str, url: str, *, what: str, patience_seconds: float, body: bytes | None = None, keep: bool = True
) -> bytes:
    """The body of the answer. `what` names what is asked for; `keep`: the connection may live on. Raises Failed when
    the application is silent or refuses; nothing is tried again."""
    import urllib3

    from tasks.unanswered import why

    hint = "see whether the service's application runs there"
    headers = {"Content-Type": "application/json", **({} if keep else {"Connection": "close"})}
    try:
        answer = urllib3.request(
            method,
            url,
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(total=patience_seconds),
            retries=False,
            preload_content=False,
        )
        try:
            told = answer.read(MOST_BYTES)
        finally:
            answer.close()
    except urllib3.exceptions.HTTPError as error:
        raise Failed(f"{what} can't be asked for ({why(error)})", hint=hint) from None
    if not 200 <= answer.status < 300:
        raise Failed(f"{what} answered {answer.status}", hint=hint)
    return told
