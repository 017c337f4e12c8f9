"""`python -m medidistill` is the command `medidistill`."""

from __future__ import annotations

import sys

from medidistill.cli import main

if __name__ == "__main__":
    sys.exit(main())
