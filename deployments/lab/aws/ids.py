"""Identifiers that the lab's Route53 gives: derived from names, so that the catalog can say them before anything runs.

On AWS they are random; a catalog then carries what was given. Here a lab that is raised anew has the same ones.
"""

from __future__ import annotations

import hashlib
import uuid

_SPACE = uuid.UUID("6f9b2c1e-4d57-4a38-9c60-2e8f1b7a5d43")


def zone_id(name: str) -> str:
    """Like Z0A1B2C3D4E5F6A7B8C9D."""
    return "Z" + hashlib.sha256(name.lower().rstrip(".").encode()).hexdigest()[:20].upper()


def check_id(reference: str) -> str:
    """A UUID from the caller's reference, which is what makes its creation idempotent on AWS, too."""
    return str(uuid.uuid5(_SPACE, reference))
