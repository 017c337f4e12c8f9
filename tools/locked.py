"""Read the lock: which packages, with which hashes, a group of dependencies needs. Standard library alone.

    python tools/locked.py core app    what `pip install --require-hashes --no-deps -r` takes for the program
    python tools/locked.py test lint   the same for the checks
    python tools/locked.py --pins      every pin without its hashes: constraints.txt

The lock is constraints-hashes.txt, written by `make lock` (uv): one pinned version of each package for every platform
and Python version, the SHA-256 of each of its files, and a comment that says which packages need it. A group is
`core`, what every install needs, or the name of an extra in pyproject.toml; an extra may name others.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LOCK", "Pinned", "read_lock", "requirement_texts", "requirements", "select"]

ROOT = Path(__file__).resolve().parent.parent
LOCK = "constraints-hashes.txt"
_PINS = "# The pins of constraints-hashes.txt, without their hashes. Written by `make lock`.\n"


@dataclass(frozen=True)
class Pinned:
    """One package of the lock.

    Args:
        name: normalised.
        version: the pinned one.
        marker: where it is needed; empty: everywhere.
        hashes: `sha256:...` of every file of this version.
        needed_by: normalised names of the packages, and `medidistill` for the project itself.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    needed_by: frozenset[str]

    def line(self, *, hashed: bool = True) -> str:
        """Return the requirement as pip reads it."""
        pin = f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")
        return " \\\n    ".join([pin, *(f"--hash={one}" for one in self.hashes)]) if hashed else pin


def normalised(name: str) -> str:
    """Return a package name in its one spelling (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(root: Path = ROOT) -> dict[str, Pinned]:
    """Return the packages of the lock by name.

    Raises:
        ValueError: a package without a pin, a hash or a reason, or one that is there twice.
    """
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", (root / LOCK).read_text(encoding="utf-8"))[1:]
    found: dict[str, Pinned] = {}
    for block in blocks:
        head = re.match(r"([A-Za-z0-9._-]+)==(\S+)(?:\s*;\s*([^\\\n]+?))?\s*\\?\n", block)
        hashes = tuple(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block))
        via = re.search(r"# via (.*)", block)
        if head is None or not hashes or via is None:
            first = block.splitlines()[0]
            raise ValueError(f"{LOCK}: {first}: needs a pinned version, hashes and `# via`; run `make lock`")
        name = normalised(head[1])
        if name in found:
            raise ValueError(f"{LOCK}: {name} is there twice")
        reasons = (one.strip().partition(" ")[0].partition("[")[0] for one in via[1].split(","))
        parents = frozenset(normalised(one) for one in reasons if one and not one.startswith("-"))
        found[name] = Pinned(name, head[2], (head[3] or "").strip(), hashes, parents)
    return found


def requirements(groups: Iterable[str], root: Path = ROOT) -> set[str]:
    """Return the packages that pyproject.toml itself asks for in `groups`. Raises `KeyError` for an unknown one."""
    texts = requirement_texts(groups, root)
    return {normalised(re.match(r"[A-Za-z0-9._-]+", text)[0]) for text in texts}  # type: ignore[index]


def requirement_texts(groups: Iterable[str], root: Path = ROOT) -> list[str]:
    """Return what pyproject.toml writes for `groups`, and for the extras that they name; sorted, each once.

    An extra that names others needs the core too.

    Raises:
        KeyError: an unknown group.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {"core": project["dependencies"], **project["optional-dependencies"]}
    found: set[str] = set()
    queue, seen = list(groups), set()
    while queue:
        group = queue.pop()
        if group in seen:
            continue
        seen.add(group)
        for text in known[group]:
            if inner := re.match(rf"{re.escape(project['name'])}\[([^\]]*)\]$", text):
                queue += ["core", *inner[1].replace(" ", "").split(",")]
            else:
                found.add(text)
    return sorted(found)


def select(groups: Sequence[str], root: Path = ROOT) -> list[Pinned]:
    """Return what `groups` need, dependencies of dependencies included, by name.

    Raises:
        KeyError: an unknown group, or a requirement that the lock lacks.
    """
    lock = read_lock(root)
    wanted = {name: lock[name] for name in requirements(groups, root)}
    while True:
        more = {name: one for name, one in lock.items() if name not in wanted and one.needed_by & wanted.keys()}
        if not more:
            return sorted(wanted.values(), key=lambda one: one.name)
        wanted |= more


def main(arguments: Sequence[str]) -> int:
    """Print; return the exit code."""
    try:
        if list(arguments) == ["--pins"]:
            print(_PINS + "\n".join(one.line(hashed=False) for one in read_lock().values()))
        elif arguments:
            print("\n".join(one.line() for one in select(arguments)))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except (KeyError, ValueError) as error:
        print(f"locked.py: {error.args[0]}: not in the lock, or no such group; run `make lock`", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
