"""`python -m medidistill` is the command `medidistill`."""

from __future__ import annotations

from medidistill.cli import run

if __name__ == "__main__":
    run()
