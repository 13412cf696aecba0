"""Waiting for consent beside an open form: whichever comes first, an answer or enough of it in the ledger. No Prefect.

Separate from the form's meaning (form.py) and from the screen that shows it: a screen that hangs or is gone must not
stand in the way of consent that came another way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from recovery.errors import BadInput, DrError, Refused
from recovery.hazard import Hazard
from tasks.form import Answer, Case, Decision

LOOK_EVERY_SECONDS = 2.0
"""Between two looks for consent in the ledger."""
SCREEN_SECONDS = 10.0
"""The patience with a screen that has to be closed."""
LEAST_SECONDS = 1.0
Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


class Screen(Protocol):
    """Where the form is shown to people."""

    async def ask(self, text: str, patience_seconds: float) -> Answer | None:
        """Show the form and give its answer; None past the patience, which the caller keeps as well. Raises anything
        when it cannot be shown."""
        ...

    async def close(self) -> None:
        """Take the form away: the run goes on without an answer."""
        ...


async def consented(case: Case, screen: Screen, *, wait_seconds: float, log: Log) -> None:
    """Ask until the ledger has enough. Raises Refused for a rejection, and when nobody consented in time; both are left
    on record."""
    now = asyncio.get_running_loop().time
    until = now() + wait_seconds
    standing = await asyncio.to_thread(case.stands)
    trouble = ""
    while standing.why:
        if trouble:
            log.warning("the answer was not taken: %s", trouble)
        log.warning("waiting for consent: %s", "; ".join(standing.why))
        left = until - now()
        text = case.words(standing, trouble, left_seconds=left)
        answer = await _first(case, screen, text, left, log) if left >= LEAST_SECONDS else None
        if answer is None:
            raise await asyncio.to_thread(case.nobody, f"{wait_seconds / 60:g} min")
        trouble = await asyncio.to_thread(_judged, case, answer, standing.hazards)
        standing = await asyncio.to_thread(case.stands)


def _judged(case: Case, answer: Answer | str, shown: Sequence[Hazard]) -> str:
    """Take an answer to what was shown; gives why it was not taken, or nothing. Raises Refused for a rejection."""
    if not isinstance(answer, Answer):
        return ""
    if answer.decision is Decision.REJECT:
        raise case.rejected()
    try:
        case.consent(answer, shown)
    except (BadInput, Refused) as trouble:
        case.not_taken(trouble)
        return f"{trouble.fact} (hint: {trouble.hint})"
    return ""


async def _first(case: Case, screen: Screen, text: str, left: float, log: Log) -> Answer | str | None:
    """The form's answer; a word when the ledger had enough first; None past the patience."""
    shown = asyncio.create_task(screen.ask(text, left))
    watch = asyncio.create_task(_enough(case, log))
    try:
        await asyncio.wait({shown, watch}, return_when=asyncio.FIRST_COMPLETED, timeout=left)
        if shown.done() and not watch.done():
            try:
                return shown.result()
            except Exception as trouble:  # noqa: BLE001 -- whatever became of the screen, consent may come by the ledger
                log.error("the form cannot be shown; consent is awaited in the ledger alone: %s", trouble)  # noqa: TRY400
                await asyncio.wait({watch}, timeout=left)
        if not watch.done():
            return None
        watch.result()
        if not shown.done():
            await _closed(screen, shown, log)
        return "the ledger has enough"
    finally:
        await _ended(shown, watch)


async def _enough(case: Case, log: Log) -> None:
    """Return when the ledger has enough; a look that fails is made again. Raises Refused when nothing could help."""
    while True:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        try:
            if not (await asyncio.to_thread(case.stands)).why:
                return
        except Refused:
            raise
        except DrError as trouble:
            log.warning("the look for consent failed and is made again: %s", trouble.fact)


async def _closed(screen: Screen, shown: asyncio.Task[Answer | None], log: Log) -> None:
    """Close the form, bounded: when the screen does not answer the run goes on all the same."""
    try:
        async with asyncio.timeout(SCREEN_SECONDS):
            await screen.close()
            await asyncio.wait({shown})
    except Exception as trouble:  # noqa: BLE001 -- as above
        log.error("the form is still shown, though consent is complete: %s", trouble)  # noqa: TRY400


async def _ended(*tasks: asyncio.Task[Answer | None] | asyncio.Task[None]) -> None:
    """Cancel what is left, and take its trouble: it was told already, or concerns nobody any more."""
    for each in tasks:
        each.cancel()
    done, _ = await asyncio.wait(tasks, timeout=SCREEN_SECONDS)
    for ended in done:
        if not ended.cancelled():
            ended.exception()
