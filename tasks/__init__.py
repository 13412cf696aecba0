"""Hands: every effect on the world; one folder per kind of resource."""
