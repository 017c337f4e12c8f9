"""Images a second of the ingest against a plain pydicom and NumPy loop, on phantoms.

    python -m benchmarks.ingest --images 300

The plain loop is what a script would do: read, window, invert, cut the square, average over areas to the same size. The
ingest does that and checks: digests, limits, view and body part, contrast, outline, copies, and the quarantine. Both
read the same files, which the system has in memory, and the best of the repetitions counts. The start of worker
processes is inside the time of the parallel ingest.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from medidistill.config import IngestConfig, PhantomConfig
from medidistill.files import write_json
from medidistill.ingest import generate_phantom, ingest

RESULT = Path(__file__).parent / "results" / "ingest.json"


def plain(path: Path, size: int) -> NDArray[np.float32]:
    """Return one film as a short script would read it: (size, size) float32 in [0, 1]."""
    dataset = pydicom.dcmread(path)
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float32) / 4095
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = 1 - values
    side = min(values.shape)
    top, left = (values.shape[0] - side) // 2, (values.shape[1] - side) // 2
    picture = Image.fromarray(values[top : top + side, left : left + side])
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def best(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest wall time of `repeats` runs in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Make phantoms, time, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, help="phantom films, about")
    parser.add_argument("--side", type=int, default=1024, help="rows and columns of each")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    config = IngestConfig(image_size=64)
    with tempfile.TemporaryDirectory() as folder:
        films = PhantomConfig(patients_per_class=max(5, arguments.images // 6), size=arguments.side)
        source = generate_phantom(Path(folder) / "phantoms", films)
        paths = sorted(source.rglob("*.dcm"))
        seconds = {
            "plain loop": best(lambda: [plain(path, config.image_size) for path in paths], arguments.repeats),
            "ingest, one process": best(lambda: ingest(source, config), arguments.repeats),
        }
        if arguments.workers > 1:
            name = f"ingest, {arguments.workers} processes"
            seconds[name] = best(lambda: ingest(source, config, workers=arguments.workers), arguments.repeats)
    rates = {name: len(paths) / value for name, value in seconds.items()}
    write_json(
        arguments.output,
        {
            "images": len(paths),
            "side": arguments.side,
            "image_size": config.image_size,
            "repeats": arguments.repeats,
            "images_per_second": rates,
            "ratio_to_plain_loop": {name: rate / rates["plain loop"] for name, rate in rates.items()},
            "load_average": os.getloadavg()[0],
            "cpus": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("medidistill", "pydicom", "monai", "numpy", "torch")},
        },
    )
    print(arguments.output.read_text())


if __name__ == "__main__":
    main()
