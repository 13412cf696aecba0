"""The Postgres part of the lab: real servers, a primary in the east and streaming standbys in the west."""
