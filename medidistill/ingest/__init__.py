"""From files to labelled images: `ingest` reads a folder, `generate_phantom` makes one that needs no patients.

Imported on first use: what lies in the spool of a receiver is counted without loading torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medidistill.extras import require_extra

if TYPE_CHECKING:
    from medidistill.ingest.phantom import generate_phantom
    from medidistill.ingest.stage import IngestResult, ingest

__all__ = ["IngestResult", "generate_phantom", "ingest"]

_HOME = {"IngestResult": "stage", "generate_phantom": "phantom", "ingest": "stage"}


require_extra("ingest")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
