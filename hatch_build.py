"""Build hook: a bill of materials (CycloneDX) of the locked runtime packages goes into the wheel (PEP 770).

It is made from the lock alone, so that the same sources give the same wheel on every machine.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SBOM = "medidistill.cdx.json"


class SbomHook(BuildHookInterface):
    """Add the bill of materials to the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the document beside the build and name it to the builder."""
        if self.target_name != "wheel" or version != "standard":
            return
        sys.path.insert(0, str(Path(self.root) / "tools"))
        try:
            from sbom import bill_of_materials
        finally:
            sys.path.pop(0)
        document = bill_of_materials(Path(self.root), self.metadata.version)
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / SBOM
        file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        build_data["sbom_files"].append(str(file))
