"""The kind `service`: what users need as a whole; its probes, its vantage points, its side effects, its people.

The verbs are imported when they are asked for: a vantage point is a process of this folder and must stay light.
"""

from __future__ import annotations

PLACES = {
    "probe": "tasks.service.disaster:Probe",
    "declare": "tasks.service.disaster:Declare",
    "approve": "tasks.service.disaster:Approve",
    "quarantine": "tasks.service.effects:quarantine",
    "release": "tasks.service.effects:release",
    "validate": "tasks.service.validating:Validate",
    "notify": "tasks.service.people:Notify",
    "person": "tasks.service.people:Person",
    "run": "tasks.service.running:Run",
    "bake": "tasks.service.watching:Bake",
    "scale": "tasks.service.scaling:Scale",
}
"""Verb → where it is made."""
