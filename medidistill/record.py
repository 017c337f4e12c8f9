"""What a run did, for whoever reads its results later: config, versions, digests, and who saw the test split."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medidistill.errors import IngestError
from medidistill.files import read_checked_json, write_checked_json
from medidistill.jsontypes import JsonObject  # as the version that wrote it knew them

__all__ = ["RunRecord", "hardware", "versions"]

_PACKAGES = ("medidistill", "torch", "torchvision", "monai", "pydicom", "scikit-learn", "numpy", "streamlit")


def versions() -> dict[str, str]:
    """Return the installed versions of what decides a result; packages that are absent are left out."""
    from importlib import metadata  # a tenth of a second; a status is read without it

    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> JsonObject:
    """Return processor, cores, threads and accelerator, as a benchmark result should state them."""
    import torch  # takes seconds; a status is read without it

    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {"cpu": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "accelerator": device}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass
class RunRecord:
    """The record of one run, kept as `record.json` beside its results.

    `test_openings` lists each time the test split was scored: when, by what, and the digest of
    what was scored. One entry is the rule; more are printed in the report as a warning.
    """

    config: JsonObject = field(default_factory=dict)
    command: str = ""
    versions: dict[str, str] = field(default_factory=versions)
    hardware: JsonObject = field(default_factory=hardware)
    started: str = field(default_factory=_now)
    stages: dict[str, JsonObject] = field(default_factory=dict)
    test_openings: list[dict[str, str]] = field(default_factory=list)

    def stage(self, name: str, **facts: Any) -> None:
        """Note that a stage finished, with its digests and figures."""
        self.stages[name] = {"finished": _now(), **facts}

    def open_test(self, by: str, digest: str, **facts: str) -> None:
        """Note that the test split was scored, and what had been decided by then."""
        self.test_openings.append({"when": _now(), "by": by, "digest": digest, **facts})

    def save(self, path: Path) -> None:
        """Write the record atomically."""
        write_checked_json(path, vars(self))

    @classmethod
    def load(cls, path: Path) -> RunRecord:
        """Read a record written by `save`. Raises `IngestError` when the file is damaged or not one."""
        try:
            return cls(**read_checked_json(path))
        except TypeError as error:
            raise IngestError(f"{path}: not a run record of this version ({error})") from error
