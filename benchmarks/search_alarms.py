"""How often pixel data hold a name by chance: why the residual check looks for short names in fewer places."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from tqdm import tqdm

from medidistill.config import PhantomConfig
from medidistill.ingest import generate_phantom
from medidistill.ingest.deidentify.bytesearch import ByteSearch
from medidistill.ingest.deidentify.identifying_values import Identifiers
from medidistill.ingest.deidentify.residual import TextSearch, text_runs
from medidistill.ingest.deidentify.residual_bytes import ANYWHERE, BETWEEN, SEPARATORS, Pattern, counts, patterns_of
from medidistill.ingest.silence_pydicom import silence_pydicom

__all__ = ["search_alarms"]

# frequent surnames of several countries, of two to nine letters
_SURNAMES = """
    Li Wu Ng Ho Hu Ma Xu Yu Le Vo Ali Roy Das Kim Lee Cox Fox Lam Ito Abe Kos Bui Han Koch Wolf Bach Khan Shah Diaz
    Cruz Rios Vega Hall King Hill Hook Dill Gill Webb Todd Reed Bell Ward Gray Wood Ross Long Noor Poon Bauer Weber
    Meyer Braun Klein Silva Costa Lopez Perez Singh Gupta Patel Ahmed Hasan Nowak Clark Lewis Moore White Young
    Allen Green Adams Baker Rossi Suzuki Tanaka Wagner Becker Schulz Garcia Miller Wilson Taylor Thomas Harris
    Wright Nelson Carter Turner Parker Fischer Schmidt Johnson Roberts Collins Edwards Hoffman Phillips Campbell
    Mitchell Fernandez Rodriguez Hernandez Williams
"""
# what is looked for, of how many letters, and whether the check looks for it
_RULES = (
    (f"{ANYWHERE} letters, anywhere", ANYWHERE, 99, False),
    (f"{BETWEEN} and 5, between separators", BETWEEN, 5, True),
    ("not used: 5, anywhere", 5, 5, False),
    ("not used: 4, anywhere", 4, 4, False),
    ("not used: 3, between separators", 3, 3, True),
)
_RUNS = "2, in what reads like text"


def _pixels(data: str | None) -> Iterator[tuple[str, bytes]]:
    """Yield kind and bytes of pixel data as files hold them."""
    with tempfile.TemporaryDirectory() as temporary:
        generate_phantom(Path(temporary) / "p", PhantomConfig(patients_per_class=10, images_per_patient=1, size=512))
        for file in sorted(Path(temporary).rglob("*.dcm")):
            yield "phantoms, 12 of 16 bits", pydicom.dcmread(file).PixelData
    if not data:
        return
    for file in sorted((Path(data) / "covid-cxr").rglob("*.png")):
        yield "covid-cxr, 128 pixels, 8 bits", np.asarray(Image.open(file).convert("L")).tobytes()
    for file in sorted((Path(data) / "covid-cxr").rglob("*.png"))[::24]:
        grey = np.asarray(Image.open(file).convert("L").resize((512, 512)))
        yield "covid-cxr, 512 pixels, 8 bits", grey.tobytes()
        yield "covid-cxr, 512 pixels, 8 of 16 bits", grey.astype("<u2").tobytes()
    for folder in ("chest", "radiograph_other"):
        for file in sorted((Path(data) / "dicom" / folder).glob("*.dcm")):
            dataset = pydicom.dcmread(file)
            if "PixelData" not in dataset:
                continue
            compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
            yield f"DICOM radiographs, {'compressed' if compressed else 'uncompressed'}", dataset.PixelData
            if compressed:
                try:
                    yield "DICOM radiographs, uncompressed", dataset.pixel_array.tobytes()
                except Exception:  # noqa: BLE001 (no decoder for one of them)
                    continue


def search_alarms(data: str | None) -> list[dict[str, Any]]:
    """Return by kind of pixel data and rule in how many pairs of film and name the name is found.

    No film shows or holds one of these names: each find is one by chance, and would put the film into quarantine.

    Args:
        data: folder of the real radiographs; None: phantoms alone.
    """
    names = sorted({name.lower() for name in _SURNAMES.split()})
    patterns: dict[bytes, tuple[str, Pattern]] = {}
    for name in names:
        found = patterns_of(Identifiers(texts=frozenset({name})))
        patterns |= {raw: (name, one) for raw, one in found.items() if one.signs == len(name)}
    search = ByteSearch(patterns)
    in_text = {name: TextSearch(Identifiers(texts=frozenset({name}))) for name in names}
    pairs: dict[tuple[str, str], int] = {}
    hits: dict[tuple[str, str], int] = {}
    with silence_pydicom():
        for kind, pixels in tqdm(_pixels(data), desc="names by chance"):
            places = [(raw, at) for raw, at in search.find(pixels)]
            for rule, shortest, longest, between in _RULES:
                chance = {
                    patterns[raw][0]
                    for raw, at in places
                    if shortest <= patterns[raw][1].signs <= longest
                    and counts(pixels, at, raw, patterns[raw][1], 99 if between else 0, SEPARATORS)
                }
                pairs[kind, rule] = pairs.get((kind, rule), 0) + sum(shortest <= len(n) <= longest for n in names)
                hits[kind, rule] = hits.get((kind, rule), 0) + len(chance)
            text = " \n ".join(text_runs(pixels))
            pairs[kind, _RUNS] = pairs.get((kind, _RUNS), 0) + len(names)
            found_here = sum(one.finds_in_text(text) for one in in_text.values()) if text else 0
            hits[kind, _RUNS] = hits.get((kind, _RUNS), 0) + found_here
    return [{"data": kind, "rule": rule, "pairs": pairs[kind, rule], "found": hits[kind, rule]} for kind, rule in pairs]
