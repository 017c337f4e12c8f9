"""Take over the counts of a fault campaign and write the tables of docs/reliability.md from them.

    MEDIDISTILL_FAULT_REPORT=faults.json pytest -m "slow or not slow" tests/faults tests/pipelines/test_nightly.py \\
        tests/pipelines/test_intake_keeping.py tests/pipelines/test_intake_killed.py tests/cli/test_release.py
    python -m benchmarks.reliability_page faults.json         # into docs/reliability.json and the page
    python -m benchmarks.reliability_page faults.json --keep  # what the report lacks keeps its earlier counts
    python -m benchmarks.reliability_page                     # the page from docs/reliability.json again

A fault that is not counted has no row with a number: the page says that it was not in the campaign. `make faults` does
all of it; it takes hours, and the files may as well be run one after another with the same report.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medidistill.files import read_json, write_json, write_text
from medidistill.record import hardware, versions

__all__ = ["NAMES", "main", "soak_table", "table"]

DOCS = Path(__file__).parent.parent / "docs"
PAGE, RESULT = DOCS / "reliability.md", DOCS / "reliability.json"


@dataclass(frozen=True)
class Fault:
    """A row of the page.

    Args:
        what: is done, in words.
        outcome: that the tests ask for, each time.
        names: of the counts that it adds up.
    """

    what: str
    outcome: str
    names: tuple[str, ...]


_SAME = "the same"
RUNS = (
    Fault(
        "`kill -9` at a random moment, aimed at each stage in turn", "`--resume` reaches the same bytes", ("kill -9",)
    ),
    Fault("`kill -9` of the same run again and again", _SAME, ("kill -9, the same run again and again",)),
    Fault(
        "SIGTERM at a random moment of each stage",
        "143 within ten seconds, status `stopped`, `--resume` reaches the same bytes",
        ("SIGTERM",),
    ),
    Fault("SIGINT at a random moment of each stage", "130, the same", ("SIGINT",)),
    Fault(
        "killed by the kernel for lack of memory (a memory group of 1 to 36 MiB above the parent's)",
        "without the limit `--resume` reaches the same bytes",
        ("killed for lack of memory",),
    ),
    Fault(
        "a small file system that fills up, with room for none, half or nine tenths of what the stage in work writes",
        "exit code 5 with the remedy, no half file; with more room the same bytes",
        ("disk full",),
    ),
    Fault("a quota on the size of each file", _SAME, ("file size quota",)),
    Fault("read-only output", "exit code 5", ("read-only output",)),
    Fault(
        "a file that vanishes, changes, is cut or is swapped between checksum and decoding, or just after",
        "quarantined by name",
        ("file vanished, changed, cut or swapped during ingest",),
    ),
    Fault("a clock that jumps by three years at every look, both ways", "the same results", ("jumping clock",)),
    Fault(
        "one flipped bit in each file of a finished run, one file at a time",
        "made again, refused by name, or not read; never another result",
        ("damaged file (bit)",),
    ),
    Fault("each file cut in half, one at a time", _SAME, ("damaged file (cut)",)),
    Fault("damaged status or events", "named by `status`; the run does not need them", ("damaged status or events",)),
    Fault("damaged configuration", "refused by name, exit code 2", ("damaged configuration",)),
    Fault(
        "two runs race for one output",
        "one wins, the other is refused; the same bytes",
        ("two runs race for one output",),
    ),
    Fault(
        "folders named in Japanese, with quotes, spaces, combining accents, a leading dash",
        "the same results",
        ("unusual names of folders",),
    ),
    Fault(
        "paths of 3,500 characters; a name of 300",
        "the same bytes; exit code 5 where the file system refuses",
        ("very long paths",),
    ),
    Fault("100,000 other files beside the images", "the same results", ("100,000 small files",)),
    Fault(
        "the line breaks while films come from a PACS (C-STORE)",
        "what was acknowledged is there and whole, sending again completes it",
        ("network lost while films come from a PACS",),
    ),
    Fault(
        "the receiver dies between two films",
        "its successor takes the rest into the same folder",
        ("receiver died and came back",),
    ),
    Fault(
        "the line breaks while a bundle goes to a PACS",
        "one line says what is stored; sending again leaves nothing twice or half",
        ("network lost while a bundle goes to a PACS",),
    ),
    Fault(
        "a DICOMweb service goes away, in pull and push",
        "one line, nothing in the spool",
        ("DICOMweb service lost",),
    ),
)
UNATTENDED = (
    Fault(
        "a night is stopped (SIGTERM, `kill -9`) in each stage while a film arrives and another goes",
        "the run is continued, every film in the inbox is read by a finished run, and what went after the reading was "
        "read",
        ("SIGTERM of a night while films come and go", "SIGKILL of a night while films come and go"),
    ),
    Fault(
        "`kill -9` before each change of a night's notes and of its cleaning",
        "the same; no prepared pixel of a patient is left",
        ("kill -9 before each change of a night",),
    ),
    Fault(
        "`kill -9` before each change that the processing of an intake makes outside of a run and of a "
        "de-identification",
        "each object is somewhere exactly once; the next process delivers one verified bundle; the log of releases "
        "holds",
        ("kill -9 before each change of an intake's processing",),
    ),
    Fault(
        "`kill -9` before each change that a receiver makes while a pynetdicom sender sends",
        "what was acknowledged is there; sending again leaves each object once",
        ("kill -9 before each change of a receiver",),
    ),
    Fault(
        "`kill -9` before each change that a release makes",
        "a bundle that says it is released is counted and logged; the same release again is no second one",
        ("kill -9 before each change of a release",),
    ),
    Fault(
        "SIGTERM with a disk that is full to the last block, in each stage",
        "exit within ten seconds (143, or 5 where the checkpoint found no room), no half file, the same bytes once "
        "there is room",
        ("SIGTERM with a full disk",),
    ),
    Fault(
        "the clock is set back, by an hour or (nights, intakes) by years, between two processes of a run, of a night, "
        "of an intake",
        "the same results; order, silence and age do not follow the clock, and nothing is removed early",
        ("clock set back an hour",),
    ),
    Fault(
        "a read-only target of an export, a merge, a delivery",
        "exit code 5, what was there stays, neither ledger nor log counts it",
        ("read-only bundle target",),
    ),
    Fault(
        "two merges at once, into one folder and into two",
        "one wins, the other is refused; the same images",
        ("two merges at once",),
    ),
    Fault(
        "two releases at once that share a ledger",
        "both are counted",
        ("two releases at once",),
    ),
)
SOAKS = ("soak, one process", "soak, runs that the app starts")
NAMES = frozenset(name for fault in (*RUNS, *UNATTENDED) for name in fault.names) | frozenset(SOAKS)
_STAGES = (
    "before the first stage",
    "ingest",
    "experts",
    "distill",
    "distill/mtt",
    "distill/iadd",
    "evaluate",
    "export",
)
_ABOUT = "campaign"


def table(faults: Sequence[Fault], counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return the Markdown table of some faults.

    Args:
        faults: the rows.
        counts: name -> part -> times, as `tests/faults/workplace.py` notes them.
    """
    lines = ["| fault | times | by part | what came out, each time |", "|---|---|---|---|"]
    for fault in faults:
        found = [counts[name] for name in fault.names if name in counts]
        times = str(sum(one["in all"] for one in found)) if found else "not in this campaign"
        parts: dict[str, int] = {}
        for name in fault.names:
            for part, number in counts.get(name, {}).items():
                if part != "in all" and not part.startswith("slowest"):
                    parts[part] = parts.get(part, 0) + number
        ordered = sorted(parts, key=lambda part: (_STAGES.index(part) if part in _STAGES else len(_STAGES), part))
        by_part = ", ".join(f"{part} {parts[part]}" for part in ordered)
        slowest = max((one[part] for one in found for part in one if part.startswith("slowest")), default=0)
        by_part += f"; slowest {slowest / 1000:.1f} s" if slowest else ""
        lines.append(f"| {fault.what} | {times} | {by_part} | {fault.outcome} |")
    return "\n".join(lines)


def soak_table(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return the Markdown table of what a process holds after many runs."""
    lines = ["| soak | resident memory, MiB | file handles | temporary files, first and last |", "|---|---|---|---|"]
    for name in SOAKS:
        one = counts.get(name)
        if one is None:
            lines.append(f"| {name.removeprefix('soak, ')} | not in this campaign | | |")
            continue
        runs = one["runs"]
        warm = next(
            int(key.rpartition(" ")[2]) for key in one if key.startswith("handles") and not key.endswith(f" {runs}")
        )
        memory = f"{one[f'MiB after run {warm}']} to {one[f'MiB after run {runs}']}"
        handles = f"{one[f'handles after run {warm}']} to {one[f'handles after run {runs}']}"
        files = f"{one['temporary files after run 1']}, {one[f'temporary files after run {runs}']}"
        lines.append(f"| {name.removeprefix('soak, ')} | {memory} | {handles} | {files} |")
    return "\n".join(lines)


def _filled(text: str, found: Mapping[str, Any]) -> str:
    from benchmarks.make_tables import fill

    text = fill(text, "faults", table(RUNS, found))
    text = fill(text, "unattended", table(UNATTENDED, found))
    return fill(text, "soak", soak_table(found))


def main() -> None:
    """Take over a report, where one is given, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, nargs="?", help="what MEDIDISTILL_FAULT_REPORT named in the campaign")
    parser.add_argument("--keep", action="store_true", help="keep the counts of faults that the report lacks")
    options = parser.parse_args()
    if options.report is not None:
        counts = read_json(options.report)
        if unknown := sorted(counts.keys() - NAMES):
            raise SystemExit(f"{options.report}: no row for {', '.join(unknown)}; add one here")
        about = {"hardware": hardware(), "versions": versions(), "load": round(os.getloadavg()[2], 1)}
        before = read_json(RESULT) if options.keep and RESULT.is_file() else {}
        kept = sorted(before.keys() - counts.keys() - {_ABOUT})
        write_json(RESULT, {**before, **counts, _ABOUT: {**about, "of an earlier campaign": kept}})
    write_text(PAGE, _filled(PAGE.read_text(encoding="utf-8"), read_json(RESULT)))


if __name__ == "__main__":
    main()
