"""The one name for a JSON object whose keys are not known: what stays a mapping when results are dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["JsonObject", "ReadOnlyJsonObject"]

JsonObject: TypeAlias = dict[str, Any]
"""Keys and values that others decide: a configuration of any version, a vocabulary of a catalogue, facts of a stage."""

ReadOnlyJsonObject: TypeAlias = Mapping[str, Any]
"""The same, of which nothing is changed."""
