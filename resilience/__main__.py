"""`python -m resilience`: see `resilience.testing.simulation.command_line`."""

from __future__ import annotations

import sys

from resilience.testing.simulation.command_line import main

if __name__ == "__main__":
    sys.exit(main())
