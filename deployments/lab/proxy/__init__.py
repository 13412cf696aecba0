"""The proxy part of the lab: every path between sites, and from engine and application to a site, runs through it."""
