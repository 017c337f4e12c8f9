"""`medidistill log`: what was released, and whether the log of it is whole."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command
from medidistill.errors import ConfigError, IngestError

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "log",
        "show and verify the log of releases",
        "Every release, refusal and sending is a line of release-log.jsonl beside the ledger: when, by which user, "
        "which set, under which policy, in spite of which rules. Each line holds the hash of the one before. `verify` "
        "ends with exit code 3 where a line was changed, removed, added or moved; keep the hash that it prints "
        "elsewhere and give it as --head next time, so that a log that was cut or written anew shows too. `show` "
        "prints the lines.",
        "medidistill log verify runs\n  medidistill log verify runs --head 5f1c...\n  medidistill log show runs --json",
    )
    parser.add_argument("action", choices=("verify", "show"), metavar="ACTION", help="verify or show")
    parser.add_argument("log", type=Path, metavar="LOG", help="the log, or the folder that it lies in")
    parser.add_argument("--head", metavar="HASH", help="a hash that an earlier `verify` printed; it must be in the log")
    parser.add_argument("--json", action="store_true", help="with show: one JSON object a line")
    parser.set_defaults(handler=_log)


def _log(arguments: Namespace, stop: Any) -> None:
    import json

    from medidistill.chained_log import read_chain
    from medidistill.pipeline.release import release_log

    path = arguments.log / release_log.NAME if arguments.log.is_dir() else arguments.log
    chain = read_chain(path)
    if arguments.action == "show":
        for entry in chain.entries:
            print(json.dumps(entry, sort_keys=True) if arguments.json else _line(entry))
    problems = list(chain.problems)
    if arguments.head is not None:
        if len(arguments.head) != 64:
            raise ConfigError(f"--head {arguments.head}: must be the 64 hexadecimal digits that `log verify` printed")
        if not chain.holds(arguments.head):
            problems.append(f"--head {arguments.head}: not in the log; it was cut or written anew")
    for problem in problems:
        print(problem)
    if problems:
        raise IngestError(f"{path}: {len(problems)} problem(s), first: {problems[0]}")
    if arguments.action == "verify":
        for line in [*release_log.unfinished(chain.entries), *release_log.not_logged(path, chain.entries)]:
            print(f"note: {line}")
        print(f"verified: {path}, {len(chain.entries)} entries, head {chain.head}")


def _line(entry: Any) -> str:
    words = [str(entry.get(name, "")) for name in ("when", "event", "set", "user")]
    words += [f"policy {entry['policy']}"] if entry.get("policy") else []
    words += [f"to {entry['where']}"] if entry.get("where") else []
    words += [f"in spite of {', '.join(entry['overridden'])}"] if entry.get("overridden") else []
    words += [f"failed {', '.join(entry['failed_rules'])}"] if entry.get("failed_rules") else []
    return "  ".join(word for word in words if word)
