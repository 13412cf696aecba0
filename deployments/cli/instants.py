"""Moments as people write them on a command line; the words are recovery.moment's, shared with Prefect's forms."""

from __future__ import annotations

from recovery.moment import instant, past

__all__ = ["instant", "past"]
