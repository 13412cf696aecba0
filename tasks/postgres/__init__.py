"""The kind `postgres`: how a self-managed Postgres cluster is observed, backed up, restored and proven."""
