"""Make the finished run that the app shows at its first start: phantom X-rays, with a test set from elsewhere.

    python -m benchmarks.make_app_demo --work DIR

Runs the ready-made configuration `demo` in DIR, on phantoms of patients who do not exist, and packs
what the pages read into `apps/demo.zip`. What only a run that goes on would need is left out, and the pixels of the
prepared phantoms and of images on their way, and W, are rounded: pages draw them, nothing is trained with them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from medidistill.cli import main as medidistill
from medidistill.files import load_tensors, save_tensors
from medidistill.pipeline import RunFolder, app_file

_PATIENTS, _ELSEWHERE = 40, 30  # in each class
_SETTINGS = (
    "evaluate.num_networks=3",
    "evaluate.external=elsewhere",
    "evaluate.saliency.cases=1",
)
_GREYS = 15  # of a prepared phantom that pages draw
_FEW = 8  # a list of more numbers is a curve
_SHOWN = "iadd"  # the method whose way from noise the page Progress draws
# read by a run that goes on, or offered as a file where it is there; the report is drawn again by `medidistill report`
_LEFT_OUT = (
    *("experts", "ingest/source.json", "ingest/external", "ingest/test", ".lock"),
    *("report.html", "summary.pdf", "ingest/explained/explained.html", "ingest/explained/cases.safetensors"),
    *(f"evaluate/{folder}{name}.csv" for folder in ("", "external/") for name in ("curves", "clinical")),
)


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


def _shown(name: str, file: Path) -> bytes | None:
    """Return what a page reads of a file of the run, None where no page reads it."""
    parts = name.split("/")
    if name.startswith(_LEFT_OUT):
        return None
    if parts[0] == "distill" and len(parts) > 2:
        if parts[-1] == "evolution.safetensors":
            return None
        if parts[-1] == "checkpoint.safetensors":
            return _images_of_checkpoint(file) if parts[1] == _SHOWN else None
    if parts[0] == "distill" and parts[-1] == "distilled.safetensors":
        return _rewritten(file, lambda key, one: torch.round(32 * one) / 32 if key.startswith("importance/") else one)
    if name in ("ingest/train.safetensors", "ingest/val.safetensors"):
        return _rewritten(file, lambda key, one: torch.round(_GREYS * one) / _GREYS if key == "images" else one)
    if parts[-1] == "clinical.json":
        return json.dumps(_rounded(json.loads(file.read_bytes()))).encode()
    if name == "ingest/explained/picture.png":
        return _in_colours(file, 32)
    return file.read_bytes()


def _images_of_checkpoint(file: Path) -> bytes:
    """Return a checkpoint with the images that Progress draws, and nothing that a run would go on from."""
    return _rewritten(
        file,
        lambda key, one: torch.round(_GREYS * one) / _GREYS if key.startswith(("evolution/", "now/images")) else None,
    )


def _rounded(plain: Any) -> Any:
    """Return JSON types with the points of curves rounded; single figures stay as they are."""
    if isinstance(plain, dict):
        return {key: _rounded(one) for key, one in plain.items()}
    if isinstance(plain, list):
        curve = len(plain) > _FEW and all(isinstance(one, float) for one in plain)
        return [round(one, 4) if curve else _rounded(one) for one in plain]
    return plain


def _rewritten(file: Path, change: Callable[[str, Tensor], Tensor | None]) -> bytes:
    """Return a file of `save_tensors` with changed tensors, without those of which `change` leaves None."""
    tensors, header = load_tensors(file)
    changed = {key: new for key, one in tensors.items() if (new := change(key, one)) is not None}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        save_tensors(copy, changed, header)
        return copy.read_bytes()


def _in_colours(file: Path, colours: int) -> bytes:
    data = io.BytesIO()
    Image.open(file).convert("RGB").quantize(colours).save(data, "PNG", optimize=True)
    return data.getvalue()


def _pack(run: Path, archive: Path, private: str) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as packed:
        for file in sorted(one for one in run.rglob("*") if one.is_file()):
            name = file.relative_to(run).as_posix()
            content = _shown(name, file)
            if content is None:
                continue
            if private.encode() in content:
                raise SystemExit(f"{name}: names a folder of this machine")
            packed.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_LZMA)
        print(f"{archive}: {len(packed.namelist())} files, {archive.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
