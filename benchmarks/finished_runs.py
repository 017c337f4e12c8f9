"""What benchmarks that only read finished run folders have in common: their command line and their JSON."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medidistill.files import read_json, write_json
from medidistill.record import hardware, versions


def collect(
    doc: str | None,
    command: str,
    file: Path,
    read: Callable[[Path], dict[str, Any]],
    table: Callable[[Mapping[str, Any]], str],
) -> None:
    """Read the folders named on the command line, write `file` with what made it, print its table."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--keep", action="store_true", help="keep the runs of the earlier result before these")
    options = parser.parse_args()
    earlier = read_json(file)["runs"] if options.keep else []
    runs = [*earlier, *(read(folder) for folder in options.runs)]
    result = {"command": command, "runs": runs, "hardware": hardware(), "versions": versions()}
    write_json(file, result)
    print(table(result))
