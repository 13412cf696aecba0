"""What an agent is told, and the file that it is told by. Separate so that what only reads it loads no agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from recovery.dsn import dsn
from recovery.errors import BadInput
from recovery.step import Name
from recovery.value import Value
from tasks.prober import ProberConfig
from tasks.store_place import StorePlace


class AgentConfig(Value):
    """What an agent is told (JSON). Paths are absolute; `state_dir` defaults to `agent` beside the file.

    `local` is the bucket that makes WAL durable, `remote` and `others` those it is shipped to. `key` is a reference.
    """

    site: Name
    resource: Name
    member: Name | None = None
    """The server's name in the catalog; default: the site's."""
    dsn: str
    data_dir: Path
    bin_dir: Path
    socket: Path
    address: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8471
    local: StorePlace
    remote: StorePlace | None = None
    others: tuple[StorePlace, ...] = ()
    state_dir: Path = Path()
    key: str | None = None
    heartbeat: bool = True
    heartbeat_seconds: Annotated[float, Field(gt=0)] = 1.0
    ahead: Annotated[int, Field(ge=0, le=16)] = 8
    ready_limit: Annotated[int, Field(ge=1)] = 32
    reconcile_seconds: Annotated[float, Field(gt=0)] = 300.0
    base_seconds: Annotated[float, Field(gt=0)] = 20.0
    store_patience_seconds: Annotated[float, Field(gt=0)] = 20.0
    trusted: tuple[str, ...] = ()
    """Whose orders are obeyed: fingerprints, or `folder:PATH` for the engine's keys in a folder. None: nobody's."""
    leash: Path | None = None
    """The control socket of the leash that the server runs under."""
    leash_dir: Path = Path()
    """The leash's state folder; default: the folder of the data directory."""
    witness: StorePlace | None = None
    """The bucket of leases at the witness: where terms are kept."""
    other_agents: dict[Name, str] = {}
    """Site → URL of the other sites' agents."""
    upstreams: dict[Name, str] = {}
    """Member (or site) → DSN by which this server reaches that one, with the rights of `dsn` and no secret in it: what
    it follows, is rewound and is rebuilt from."""
    replicator: str = ""
    """The role that streams; default: that of the DSN."""
    lease_seconds: Annotated[float, Field(gt=0)] = 15.0
    clock_bound_seconds: Annotated[float, Field(gt=0)] = 2.0
    probes: ProberConfig | None = None
    """What the agent asks as a vantage point."""

    @field_validator("dsn")
    @classmethod
    def _sound(cls, text: str) -> str:
        dsn(text)  # what libpq would say of one that is not repeats a piece of its password
        return text

    @field_validator("upstreams")
    @classmethod
    def _without_secrets(cls, upstreams: dict[str, str]) -> dict[str, str]:
        if any(dsn(each).secrets for each in upstreams.values()):
            # It becomes the primary_conninfo of this server, which every backup of it carries along.
            raise ValueError("a connection string holds a secret; name where it lies: passfile=PATH")
        return upstreams

    @property
    def named(self) -> str:
        """The member's name."""
        return self.member or self.site


def load(path: Path) -> AgentConfig:
    """The configuration of a file. Raises BadInput naming every wrong key."""
    try:
        config = AgentConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}", hint="name the agent's configuration file") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise BadInput(
            f"{path}: {wrong}", hint="correct these keys; see AgentConfig in tasks/postgres/agent_config.py"
        ) from None
    beside = {"state_dir": path.absolute().parent / "agent", "leash_dir": config.data_dir.parent}
    return config.model_copy(update={name: at for name, at in beside.items() if getattr(config, name) == Path()})
