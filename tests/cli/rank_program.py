"""What each process of the torchrun tests does: `rank_program.py CODES OUT [OUT]`, a run folder for each rank."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from medidistill.cli import main

if __name__ == "__main__":
    codes, *folders = sys.argv[1:]
    rank = int(os.environ["RANK"])
    code = main(["distill", "--method", "mtt", "--output", folders[rank % len(folders)]])
    (Path(codes) / str(rank)).write_text(str(code))
    sys.exit(code)
