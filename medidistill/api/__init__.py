"""The door for Python: `medidistill.distill(data, ...)` and what it returns. Imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medidistill.extras import require_extra

if TYPE_CHECKING:
    from medidistill.api.distilling import distill
    from medidistill.api.result import Result

__all__ = ["Result", "distill"]

_HOME = {"Result": "result", "distill": "distilling"}

require_extra("run")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
