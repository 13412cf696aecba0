"""Thought: what is true, due, safe, next, proven.

No Prefect, no AWS, no clock, no disk, no network: time enters as an argument named `now`, everything else as values.
"""
