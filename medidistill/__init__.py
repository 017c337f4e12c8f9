"""medidistill: share what chest X-rays teach without sharing the X-rays."""

from __future__ import annotations

__version__ = "0.1.0"
