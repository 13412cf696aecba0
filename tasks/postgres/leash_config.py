"""What a leash is told, what it remembers over its own end, and what it says of itself. Values only; light."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from recovery.errors import BadInput
from recovery.step import Name
from recovery.term import Leashed, Term
from recovery.value import Instant, Value, canonical
from tasks.store_place import StorePlace


class LeashConfig(Value):
    """What a leash is told (JSON). Paths are absolute; `state_dir` defaults to the data directory's folder, where its
    agent looks for it too, and which the server's user may write. `witness`: the bucket of leases at the witness.
    `other_agents`: site → URL of the agents that may confirm in the witness's place."""

    resource: Name
    site: Name
    member: Name | None = None
    data_dir: Path
    control: Path
    state_dir: Path = Path()
    witness: StorePlace
    other_agents: dict[Name, str] = {}
    lease_seconds: Annotated[float, Field(gt=0, le=600)] = 15.0
    clock_bound_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0

    @model_validator(mode="after")
    def _confirmed_from_elsewhere(self) -> Self:
        if self.site in {self.witness.site, *self.other_agents}:
            raise ValueError(f"{self.site} is the leash's own site: cut off from the others, it would confirm itself")
        return self

    @property
    def named(self) -> str:
        """The member's name."""
        return self.member or self.site

    @property
    def every_seconds(self) -> float:
        """From one question to the next."""
        return self.lease_seconds / 4

    @property
    def patience_seconds(self) -> float:
        """How long an answer is waited for: a late one still gives what is left of the permit."""
        return self.lease_seconds / 2

    @property
    def margin_seconds(self) -> float:
        """How long before the permit ends the server is stopped, so that it has ended when the permit does."""
        return min(self.clock_bound_seconds, self.lease_seconds / 4)


def load(path: Path) -> LeashConfig:
    """The configuration of a file. Raises BadInput naming every wrong key."""
    try:
        config = LeashConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}", hint="name the leash's configuration file") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise BadInput(f"{path}: {wrong}", hint="correct these keys; see tasks/postgres/leash_config.py") from None
    return config.but(state_dir=config.data_dir.parent) if config.state_dir == Path() else config


class Held(Value):
    """An order that the server stays stopped."""

    order: str
    why: str


class Memory(Value):
    """What outlives the leash: an order to stay stopped, the newest term that it heard of, the generation for which
    people signed that it runs unconfirmed, until somebody confirms, and its word at the witness."""

    held: Held | None = None
    term: Term | None = None
    trusted: int | None = None
    worded: Leashed | None = None
    """The word that the witness took last: how it says that the server is bound."""


class State(Value):
    """What a leash says of itself, in its file and through its socket. `asking`: the server waits for a confirmation;
    `held`: it stays stopped until a person, an order or a newer term changes it. `pid` is the postmaster's."""

    state: Literal["asking", "held", "starting", "running", "stopping", "ended"]
    why: str
    pid: int | None
    leash_pid: int
    standby: bool
    foreign: bool = False
    """A server that is not its child works in the data directory."""
    generation: int
    held_by: str = ""
    permit_seconds: float | None = None
    """What is left of the permit at `at`; None before the first confirmation."""
    lease_seconds: float = 0.0
    """How long a confirmation lasts."""
    confirmed_by: str = ""
    silent: dict[str, str] = {}
    """Who does not confirm, and why."""
    at: Instant


def memory_file(state_dir: Path) -> Path:
    """Where a leash remembers."""
    return state_dir / "leash-memory.json"


def state_file(state_dir: Path) -> Path:
    """Where a leash says what it does."""
    return state_dir / "leash.json"


def write_state(state_dir: Path, state: State) -> None:
    """Say it there. Raises OSError."""
    path = state_file(state_dir)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(canonical(state))
    fresh.replace(path)


def read_memory(state_dir: Path) -> Memory:
    """What is remembered. Raises BadInput when it can't be read: a server is never started on a guess."""
    path = memory_file(state_dir)
    try:
        return Memory.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Memory()
    except (OSError, ValidationError):
        raise BadInput(
            f"{path} can't be read", hint="look at it; remove it only when no newer primary can exist"
        ) from None


def write_memory(state_dir: Path, memory: Memory) -> None:
    """Remember, durably."""
    from tasks.postgres.orders import write_durably

    write_durably(memory_file(state_dir), canonical(memory))


def read_state(state_dir: Path) -> State | None:
    """What the leash said last, or None."""
    try:
        return State.model_validate_json(state_file(state_dir).read_bytes())
    except (OSError, ValidationError):
        return None
