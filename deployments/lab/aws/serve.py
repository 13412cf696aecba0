"""The emulator's process. Run as `python -m deployments.lab.aws.serve ADDRESS PORT`."""

from __future__ import annotations

import sys

from moto.server import main

if __name__ == "__main__":
    main(["--host", sys.argv[1], "--port", sys.argv[2]])
