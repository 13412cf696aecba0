"""All planted faults by name: what `dr prove --mutate NAME` and `make faults` know."""

from __future__ import annotations

from recovery.errors import BadInput
from tasks.postgres.faults import backup_copy, files, objects, rows, wal_copy
from tasks.postgres.faults.fault import Fault, Stage

FAULTS: tuple[Fault, ...] = (*backup_copy.FAULTS, *wal_copy.FAULTS, *files.FAULTS, *objects.FAULTS, *rows.FAULTS)


def names(stage: Stage | None = None) -> tuple[str, ...]:
    """The names of all faults, or of one stage's."""
    return tuple(fault.name for fault in FAULTS if stage in (None, fault.stage))


def of(name: str) -> Fault:
    """The fault of that name. Raises BadInput for an unknown one."""
    for fault in FAULTS:
        if fault.name == name:
            return fault
    raise BadInput(f"there is no fault {name}", hint=f"known are: {', '.join(names())}, and random")
