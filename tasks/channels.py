"""Telling people over a service's channels: mail, chat, pagers, by references to their URLs, which hold secrets.

Separate from the verb `notify`, which is a step of a runbook: a backup that is missed is told of without any runbook.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from recovery.errors import BadInput
from tasks.home import Home
from tasks.probing import at_once

CHANNEL_SECONDS = 20.0
Word = Literal["told", "failed", "not configured"]


def tell(home: Home, channels: Mapping[str, str], whom: Sequence[str], *, title: str, text: str) -> dict[str, Word]:
    """Hand a message to these channels, all at once; gives what became of it, and no URL. Raises BadInput for a file
    that can't be read."""
    urls = {name: url for name in whom if (url := _url(home, channels.get(name))) is not None}
    told: dict[str, Word] = {name: "not configured" for name in whom if name not in urls}
    sent = at_once({name: partial(_sent, url, title, text) for name, url in urls.items()}, CHANNEL_SECONDS)
    return told | {name: "told" if sent.get(name) else "failed" for name in urls}


def _url(home: Home, reference: str | None) -> str | None:
    """The URL behind a reference; None where there is none. Raises BadInput for a file that can't be read."""
    scheme, _, rest = (reference or "").partition(":")
    if scheme == "env":
        return os.environ.get(rest) or None
    if scheme != "file":
        return None
    try:
        return (home.folder / rest).read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{rest} can't be read: {error.strerror}", hint="see the channel's file and its mode") from None


def _sent(url: str, title: str, text: str) -> bool:
    """Hand the message over. What the library logs may hold the URL: it is not let out."""
    import logging

    import apprise

    logging.getLogger("apprise").disabled = True
    channel = apprise.Apprise()
    return bool(channel.add(url)) and bool(channel.notify(title=title, body=text))
