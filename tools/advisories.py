"""Compare the lock with the known vulnerabilities of its packages, and say as of when. Needs the network.

    python tools/advisories.py [--service pypi|osv]

The databases are asked at the moment of the call, so the date of the data is the date that is printed. The exit code is
1 where a package has a known vulnerability, 2 where the database could not be asked: no answer is no clean bill.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    from locked import LOCK, read_lock
except ImportError:  # imported, not started as a script
    from tools.locked import LOCK, read_lock

__all__ = ["main", "summary"]

_SHOWN = 5  # packages without an answer that are named
_SERVICES = {"pypi": "the advisories of the Python package index", "osv": "the OSV database"}


def summary(found: dict[str, Any], pinned: int, service: str, when: datetime.datetime) -> tuple[list[str], int]:
    """Return the lines to print and the exit code.

    Args:
        found: JSON of pip-audit.
        pinned: packages in the lock.
        service: `pypi` or `osv`.
        when: of the answer, UTC.
    """
    packages = found["dependencies"]
    skipped = [one for one in packages if "skip_reason" in one]
    hit = [(one, bug) for one in packages for bug in one.get("vulns", ())]
    lines = [f"advisories of {when:%Y-%m-%d %H:%M} UTC, from {_SERVICES[service]}"]
    compared = len(packages) - len(skipped)
    lines.append(f"{LOCK}: {pinned} packages, {compared} compared, {len(hit)} known vulnerabilities")
    lines += [f"- not compared: {one['name']} ({one['skip_reason']})" for one in skipped[:_SHOWN]]
    lines += [f"- not compared: {len(skipped) - _SHOWN} more"] if len(skipped) > _SHOWN else []
    for one, bug in hit:
        fixed = ", ".join(bug.get("fix_versions", ())) or "no fixed version"
        lines.append(f"- {one['name']} {one['version']}: {bug['id']} (fixed in: {fixed})")
    return lines, 1 if hit else 2 if compared < pinned else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", choices=tuple(_SERVICES), default="pypi")
    options = parser.parse_args(argv)
    lock = read_lock()
    with tempfile.TemporaryDirectory() as folder:
        # without markers and hashes: a package of another platform has the same advisories
        pins, answer = Path(folder) / "pins.txt", Path(folder) / "answer.json"
        pins.write_text("".join(f"{one.name}=={one.version}\n" for one in lock.values()), encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(pins), "--no-deps", "--disable-pip"]
        command += ["--vulnerability-service", options.service, "--format", "json", "--output", str(answer)]
        when = datetime.datetime.now(datetime.UTC)
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        if not answer.is_file() or not answer.stat().st_size:
            reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            print(f"advisories.py: {_SERVICES[options.service]} could not be asked: {reason}", file=sys.stderr)
            return 2
        found = json.loads(answer.read_text(encoding="utf-8"))
    lines, code = summary(found, len(lock), options.service, when)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
