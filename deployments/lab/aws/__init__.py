"""The AWS part of the lab: one emulator process; a door on each region's own address leads to it."""
