#!/bin/sh
# Finds a Python that can make the virtual environment, then lets environment.py make it. Run from the project's folder.
set -eu

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
whole='import ensurepip, venv'

if [ -n "${1:-}" ]; then
    "$1" -c "$fits" || { echo "error: $1 is not Python 3.11, 3.12 or 3.13" >&2; exit 2; }
    exec "$1" deployments/environment.py
fi
incomplete=
for python in python3.13 python3.12 python3.11 python3; do
    "$python" -c "$fits" >/dev/null 2>&1 || continue
    if "$python" -c "$whole" >/dev/null 2>&1; then
        exec "$python" deployments/environment.py
    fi
    incomplete=$python
done
if [ -n "$incomplete" ]; then
    echo "error: $incomplete cannot make virtual environments (its ensurepip is missing)" >&2
    echo "hint: on Debian and Ubuntu: apt-get install python3-venv (or $incomplete-venv)" >&2
else
    echo "error: there is no Python 3.11, 3.12 or 3.13 on PATH" >&2
    echo "hint: install one, or name it: make setup PYTHON=/path/to/python3.12" >&2
fi
exit 2
