"""Backup engines behind one port: our own, and the tools of estates that already have one, called as commands."""
