"""The agent part of the lab: `dr agent`, one for each site, with its configuration."""
