"""How the platform around the data is operated: all its promises in one optional section of the catalog.

Separate from catalog.py so that what every installation needs stays readable on one page.
"""

from __future__ import annotations

from typing import Literal

from recovery.alerting import Alerting
from recovery.capacity import Limits, Redundancy, Scaling, Zone
from recovery.exercise import Changes, Chaos, Checklist, Drill, Load
from recovery.health import Health, Integrity, Metrics, SelfHealing
from recovery.objective import Duration
from recovery.service_level import Maintenance, ServiceLevels
from recovery.step import Name
from recovery.value import Value


class DataRecovery(Value):
    """From what each sort of data is brought back."""

    point_in_time_within: Duration
    video_files: Literal["several-backup-sources"]
    configuration: Literal["infrastructure-as-code"]
    single_user: bool
    """The data of one user can be brought back alone."""


class Operations(Value):
    """Every promise about the platform; each part may be left out."""

    service_levels: ServiceLevels | None = None
    maintenance: Maintenance | None = None
    zones: dict[Name, Zone] = {}
    redundancy: Redundancy | None = None
    integrity: Integrity | None = None
    self_healing: SelfHealing | None = None
    health: Health | None = None
    data_recovery: DataRecovery | None = None
    metrics: Metrics | None = None
    alerting: Alerting | None = None
    scaling: dict[Name, Scaling] = {}
    limits: dict[Name, Limits] = {}
    changes: Changes | None = None
    chaos: tuple[Chaos, ...] = ()
    drills: dict[Name, Drill] = {}
    load: Load | None = None
    checklist: Checklist | None = None
