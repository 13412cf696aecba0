"""Time: Prefect flows, one promise per file. Leaves: nothing imports them but the CLI and deployments."""
