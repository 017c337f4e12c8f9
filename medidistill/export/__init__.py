"""The bundle: a self-describing folder that holds a distilled set and everything needed to use it."""

from __future__ import annotations

from medidistill.export.bundle import load, verify, write_bundle

__all__ = ["load", "verify", "write_bundle"]
