"""medidistill: share what chest X-rays teach without sharing the X-rays.

`distill` is a whole run in one call, `load` reads what such a run exported. The names below are imported on first
use: `import medidistill` loads no other package and changes no global state, and `import medidistill.distillation` on a
GPU node needs torch alone. The stages are packages of their own: `medidistill.ingest`, `medidistill.distillation`,
`medidistill.evaluate`, `medidistill.export`, `medidistill.report`.

Example:
    >>> import medidistill
    >>> medidistill.RunConfig().distill.ipc
    5
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medidistill.api import Result, distill
    from medidistill.config import RunConfig
    from medidistill.distilled_set import DistilledSet, LabelledImages, Normalisation
    from medidistill.errors import ArgumentError, ArgumentTypeError, MedidistillError, MissingExtraError
    from medidistill.export import Bundle, load
    from medidistill.networks import make_network, predict, register_network, train, train_on_distilled
    from medidistill.pipeline import load_config, run

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "Bundle",
    "DistilledSet",
    "LabelledImages",
    "MedidistillError",
    "MissingExtraError",
    "Normalisation",
    "Result",
    "RunConfig",
    "distill",
    "load",
    "load_config",
    "make_network",
    "predict",
    "register_network",
    "run",
    "train",
    "train_on_distilled",
]

_HOME = {
    "ArgumentError": "medidistill.errors",
    "ArgumentTypeError": "medidistill.errors",
    "Bundle": "medidistill.export",
    "DistilledSet": "medidistill.distilled_set",
    "LabelledImages": "medidistill.distilled_set",
    "MedidistillError": "medidistill.errors",
    "MissingExtraError": "medidistill.errors",
    "Normalisation": "medidistill.distilled_set",
    "Result": "medidistill.api",
    "RunConfig": "medidistill.config",
    "distill": "medidistill.api",
    "load": "medidistill.export",
    "load_config": "medidistill.pipeline",
    "make_network": "medidistill.networks",
    "predict": "medidistill.networks",
    "register_network": "medidistill.networks",
    "run": "medidistill.pipeline",
    "train": "medidistill.networks",
    "train_on_distilled": "medidistill.networks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
