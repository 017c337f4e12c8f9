"""What the receiving hospital does with a bundle: train a network from it, and test it on images of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medidistill.errors import ConfigError
from view_models.jobs import Job, start
from view_models.places import Places, short_id

__all__ = ["Training", "start_training", "training"]

_LINES = 80  # of what the command prints: its table and notes


@dataclass(frozen=True)
class Training:
    """How a training from a bundle stands.

    Args:
        job: its process.
        network: the file of the weights.
        state: `none`, `running`, `failed` or `completed`.
        error: why it failed.
        result: the comparison as Markdown, where own images were given.
    """

    job: Job
    network: Path
    state: str
    error: str = ""
    result: str = ""


def training(places: Places, bundle: Path) -> Training:
    """Return how the last training from a bundle stands."""
    key = short_id(str(bundle.resolve()))
    job, network = Job(places.jobs / f"train-{key}"), places.runs / "networks" / f"{key}.safetensors"
    if not job.exists:
        return Training(job, network, "none")
    if job.is_running():
        return Training(job, network, "running")
    if job.error():
        return Training(job, network, "failed", job.error())
    lines = job.lines(_LINES)
    table = next((place for place, line in enumerate(lines) if line.startswith("|")), None)
    return Training(job, network, "completed", result="" if table is None else _spaced(lines[table:]))


def _spaced(lines: list[str]) -> str:
    """Return Markdown in which a table that ends is followed by an empty line, which the log does not keep."""
    spaced: list[str] = []
    for line in lines:
        if spaced and spaced[-1].startswith("|") != line.startswith("|"):
            spaced.append("")
        spaced.append(line)
    return "\n".join(spaced)


def start_training(places: Places, bundle: Path, test: Path | None, networks: int = 5) -> Training:
    """Train a fresh network from a bundle; with `test`, score networks on labelled X-rays too.

    The weights of an earlier training are replaced. Raises `ConfigError` while one is at work.
    """
    found = training(places, bundle)
    if found.state == "running":
        raise ConfigError("a training from this bundle is at work already")
    found.network.parent.mkdir(exist_ok=True)
    found.network.unlink(missing_ok=True)
    scored = ["--test", str(test), "--networks", str(networks)] if test is not None else []
    start(found.job.folder, ["train", str(bundle), "--output", str(found.network), *scored])
    return training(places, bundle)
