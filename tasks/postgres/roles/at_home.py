"""What an agent is ordered about its data: follow, rebuild, losses. Runs in the agent, at the server's home.

Separate from the verbs, which run in the engine on any machine.
"""

from __future__ import annotations

from tasks.postgres.orders import Handler
from tasks.postgres.stopping import Home


def handlers(home: Home) -> dict[str, Handler]:
    """The orders about data."""
    from tasks.postgres.roles.losing import Losing
    from tasks.postgres.roles.returning import Follow, Rebuild

    return {"follow": Follow(home=home), "rebuild": Rebuild(home=home), "losses": Losing(config=home.config)}
