"""Images a second of the ingest against a plain pydicom and NumPy loop, on phantoms.

    python -m benchmarks.ingest --images 500

The plain loop is what a script would do: read, window, invert, cut the square, average over areas to the same size. The
ingest does that and checks: digests, limits, view and body part, contrast, outline, copies, and the quarantine. Both
read the same files, which the system has in memory, and the best of the repetitions counts. Workers begin inside the
time of the parallel ingest, and their imports before it, as those of the command do, beside its own. Processor time is
given where one process does the work: it depends less on what else the machine does. The files are some twenty
phantoms, each shifted in its frame many times over.
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
from pydicom.uid import UID

from medidistill.child_processes import import_ahead
from medidistill.config import IngestConfig, PhantomConfig
from medidistill.files import write_json
from medidistill.ingest import generate_phantom, ingest
from medidistill.machine import available_cores

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


def cohort(folder: Path, images: int, side: int) -> Path:
    """Write `images` different films with a table of labels, and return their folder."""
    phantoms = generate_phantom(folder / "phantoms", PhantomConfig(patients_per_class=10, size=side, seed=1))
    sources = [pydicom.dcmread(path) for path in sorted(phantoms.rglob("*.dcm"))]
    pixels = [dataset.pixel_array for dataset in sources]
    rng, rows = np.random.default_rng(0), ["path,label,patient_id"]
    (folder / "films").mkdir()
    for number in range(images):
        which = number % len(sources)
        dataset = sources[which]
        dataset.PixelData = np.roll(pixels[which], tuple(rng.integers(0, side, 2)), (0, 1)).tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{number + 1}")
        dataset.save_as(folder / "films" / f"{number:05d}.dcm", enforce_file_format=True)
        rows.append(f"{number:05d}.dcm,{'ab'[number % 2]},PHANTOM-{number:05d}")
    (folder / "films" / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "films"


def best(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the shortest time of `repeats` runs on the clock, and the least processor time of this process, in s."""
    clock, processor = [], []
    for _ in range(repeats):
        start, before = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - before)
    return min(clock), min(processor)


def main() -> None:
    """Make phantoms, time, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500, help="films")
    parser.add_argument("--side", type=int, default=1024, help="rows and columns of each")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    config = IngestConfig(image_size=64)
    import_ahead("medidistill.ingest.loading")
    with tempfile.TemporaryDirectory() as folder:
        source = cohort(Path(folder), arguments.images, arguments.side)
        paths = sorted(source.glob("*.dcm"))
        plain(paths[0], config.image_size)
        seconds = {
            "plain loop": best(lambda: [plain(path, config.image_size) for path in paths], arguments.repeats),
            "ingest, one process": best(lambda: ingest(source, config), arguments.repeats),
        }
        if arguments.workers > 1:
            name = f"ingest, {arguments.workers} processes"
            seconds[name] = best(lambda: ingest(source, config, workers=arguments.workers), arguments.repeats)
    rates = {name: len(paths) / clock for name, (clock, _) in seconds.items()}
    write_json(
        arguments.output,
        {
            "images": len(paths),
            "side": arguments.side,
            "image_size": config.image_size,
            "repeats": arguments.repeats,
            "images_per_second": rates,
            "ratio_to_plain_loop": {name: rate / rates["plain loop"] for name, rate in rates.items()},
            "processor_ms_per_image": {
                name: 1000 * used / len(paths) for name, (_, used) in seconds.items() if "processes" not in name
            },
            "load_average": os.getloadavg()[0],
            "cpus": available_cores(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("medidistill", "pydicom", "monai", "numpy", "torch")},
        },
    )
    print(arguments.output.read_text())


if __name__ == "__main__":
    main()
