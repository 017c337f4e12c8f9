"""From files to labelled images: `ingest` reads a folder, `generate_phantom` makes one that needs no patients."""

from medidistill.ingest.phantom import generate_phantom
from medidistill.ingest.stage import IngestResult, ingest

__all__ = ["IngestResult", "generate_phantom", "ingest"]
