"""What is done when S3 does not answer as asked: go on within a patience, or say the fact and what to do.

Separate from the store so that its methods read as what they ask; the classes of errors are in tasks/aws.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from recovery.errors import BadInput, DrError, Failed
from tasks import aws
from tasks.aws_line import Untrusted

Outcome = tuple[aws.Meaning, bool] | None
"""None: done. Else what the server said instead (`absent`, `exists`, `conflict`), and whether an earlier try of the
same call, whose answer was lost, may be the reason."""


SHORT_SECONDS, REFUSED_SHARE = 3.0, 0.05
_REFUSED = frozenset({
    "EndpointConnectionError", "ConnectionClosedError",  # as the SDK says it
    "ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected", "BrokenPipeError", "Untrusted",
})  # fmt: skip
"""Nobody listens there, or who listens hangs up, or is not who was asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Which bucket where, for messages."""

    endpoint: str
    bucket: str

    def trouble(self, doing: str, error: BaseException, kind: aws.Meaning) -> DrError:
        """The error for a person; carries neither keys nor signatures."""
        said = _short(error)
        where = f"bucket {self.bucket} at {self.endpoint}"
        match kind:
            case "denied":
                return BadInput(
                    f"{doing}: {where} refused the credentials ({said})",
                    hint="check the credentials that the catalog names for this site, their rights on this bucket,"
                    " and this machine's clock",
                )
            case "no bucket":
                return BadInput(
                    f"{doing}: there is no {where}", hint="create the bucket, or correct its name in the catalog"
                )
            case "retry":
                return Failed(
                    f"{doing}: {where} did not serve the request within the patience ({said})",
                    hint="see whether the S3 endpoint is up and reachable from this machine, then run it again",
                )
        return Failed(
            f"{doing}: {where} answered {said}", hint="see what the S3 server says about it, then run it again"
        )

    def short(self, key: str) -> DrError:
        """The object is not as long as the index says, or is gone."""
        return Failed(
            f"{key} is absent or shorter than it was when it was written (bucket {self.bucket} at {self.endpoint})",
            hint="restore from another backup or another site's copy, and have this one repaired",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Persistence:
    """Tries a call again, full jitter, while its error is one that passes and the patience lasts. Where the patience is
    short, because there is another place to go to, a refused connection is soon taken at its word."""

    place: Place
    patience_seconds: float

    def __call__(self, doing: str, act: Callable[[], object]) -> Outcome:
        """Perform. Gives an Outcome that the caller decides on; raises DrError for everything else."""
        tries, begun = 0, time.monotonic()
        refused_until = begun + self.patience_seconds * (REFUSED_SHARE if self.patience_seconds <= SHORT_SECONDS else 1)

        def passes(error: BaseException) -> bool:
            return _passes(error) and not (type(error).__name__ in _REFUSED and time.monotonic() > refused_until)

        def pause(state: RetryCallState) -> float:
            failed = state.outcome.exception() if state.outcome is not None else None
            left = max(0.0, refused_until - time.monotonic())  # after that it is believed: nobody waits beyond it
            return min(jitter(state), left) if type(failed).__name__ in _REFUSED else jitter(state)

        def once() -> None:
            nonlocal tries
            tries += 1
            act()

        jitter = wait_random_exponential(
            multiplier=min(0.2, self.patience_seconds / 20), max=min(5, self.patience_seconds / 4)
        )
        try:
            Retrying(
                stop=stop_after_delay(self.patience_seconds),
                wait=pause,
                retry=retry_if_exception(passes),
                reraise=True,
            )(once)
        except DrError:
            raise
        except Exception as error:
            kind = aws.meaning(error)
            if kind in {"absent", "exists", "conflict"} or _beyond(error):
                return ("absent" if _beyond(error) else kind, tries > 1 or aws.was_retried(error))
            if kind == "other" and not _of_the_wire(error):
                raise
            raise self.place.trouble(doing, error, kind) from None
        return None


def _passes(error: BaseException) -> bool:
    return aws.meaning(error) in {"retry", "conflict"}


def _of_the_wire(error: BaseException) -> bool:
    by_the_server = isinstance(getattr(error, "response", None), dict)
    return by_the_server or type(error).__module__.partition(".")[0] in {"botocore", "boto3", "urllib3"}


def _beyond(error: BaseException) -> bool:
    """A range behind the end of the object."""
    response = getattr(error, "response", None)
    return isinstance(response, dict) and response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 416


def _short(error: BaseException) -> str:
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        told = response["Error"]
        return f"{told.get('Code', 'an error')}{': ' + told['Message'] if told.get('Message') else ''}"[:300]
    return str(error) if isinstance(error, Untrusted) else type(error).__name__
