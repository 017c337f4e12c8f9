"""Make the finished run that the app shows at its first start: phantom X-rays, with a test set from elsewhere.

    python -m benchmarks.make_app_demo --work DIR

Runs the ready-made configuration `demo` in DIR, on phantoms of patients who do not exist, and packs
what the pages read into `apps/demo.zip`. What only a run that goes on would need is left out.
"""

from __future__ import annotations

import argparse
import os
import zipfile
from pathlib import Path

from medidistill.cli import main as medidistill
from medidistill.pipeline import RunFolder, app_file

_PATIENTS, _ELSEWHERE = 60, 30  # in each class
_SETTINGS = (
    "evaluate.networks=3",
    "evaluate.external=elsewhere",
    "evaluate.saliency.cases=2",
)
_SHOWN = "iadd"  # the method whose way from noise the page Progress draws
_LEFT_OUT = ("experts", "ingest/source.json", "ingest/external", "ingest/test", ".lock")


def _call(*arguments: str) -> None:
    if code := medidistill(list(arguments)):
        raise SystemExit(f"medidistill {' '.join(arguments)}: ended with {code}")


def main() -> None:
    """Run and pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="kept: a second call goes on")
    work = parser.parse_args().work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(work)  # names of folders in the run are relative, so that none of this machine is in it
    for name, patients, seed in (("phantoms", _PATIENTS, 0), ("elsewhere", _ELSEWHERE, 1)):
        if not Path(name, "labels.csv").is_file():
            _call("phantom", name, "--patients-per-class", str(patients), "--seed", str(seed))
    again = ["--resume"] if RunFolder(Path("demo")).holds_run() else ["--config", "demo"]
    settings = [part for setting in _SETTINGS for part in ("--set", setting)]
    _call("run", "--input", "phantoms", "--output", "demo", *again, *settings)
    _pack(Path("demo"), app_file().parent / "demo.zip", str(work))


def _only_for_going_on(name: str) -> bool:
    """Whether a file of a distillation is read by nothing but a run that goes on."""
    parts = name.split("/")
    if parts[0] != "distill" or len(parts) < 3:
        return False
    return parts[-1] == "evolution.safetensors" or (parts[-1] == "checkpoint.safetensors" and parts[1] != _SHOWN)


def _pack(run: Path, archive: Path, private: str) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for file in sorted(one for one in run.rglob("*") if one.is_file()):
            name, content = file.relative_to(run).as_posix(), file.read_bytes()
            if name.startswith(_LEFT_OUT) or _only_for_going_on(name):
                continue
            if private.encode() in content:
                raise SystemExit(f"{name}: names a folder of this machine")
            packed.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
        print(f"{archive}: {len(packed.namelist())} files")


if __name__ == "__main__":
    main()
