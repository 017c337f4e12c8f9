"""The bundle: a self-describing folder that holds a distilled set and everything needed to use it.

Imported on first use, so that `medidistill.load(path).train()` needs torch and safetensors alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medidistill.extras import require_extra

if TYPE_CHECKING:
    from medidistill.export.bundle import write_bundle
    from medidistill.export.reading import Bundle, load
    from medidistill.export.signing import sign
    from medidistill.export.verifying import Verification, examine, require_verified, verify

__all__ = ["Bundle", "Verification", "examine", "load", "require_verified", "sign", "verify", "write_bundle"]

_HOME = {
    "Bundle": "reading",
    "Verification": "verifying",
    "examine": "verifying",
    "load": "reading",
    "require_verified": "verifying",
    "sign": "signing",
    "verify": "verifying",
    "write_bundle": "bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOME[name] in ("bundle", "verifying"):
        require_extra("export")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
