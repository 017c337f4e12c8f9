"""Build hooks: the bill of materials in the wheel (PEP 770), and a README whose links work outside of the checkout.

The bill of materials (CycloneDX) is made from the lock alone, so that the same sources give the same wheel everywhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

SBOM = "medidistill.cdx.json"


class SbomHook(BuildHookInterface):
    """Add the bill of materials to the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the document beside the build and name it to the builder."""
        if self.target_name != "wheel" or version != "standard":
            return
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / SBOM
        script = Path(self.root) / "tools" / "sbom.py"
        with file.open("wb") as stream:
            subprocess.run([sys.executable, str(script)], stdout=stream, check=True)  # noqa: S603 (a file of this checkout)
        build_data["sbom_files"].append(str(file))


def readme_elsewhere(text: str, links: str = "", images: str = "") -> str:
    """Return a README for where the checkout is not: every link is absolute, or is none.

    Args:
        text: Markdown.
        links: address that the path of a file is appended to; empty: the path is named in place of the link.
        images: the same for pictures; empty: they are left out.
    """

    def place(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        if "://" in target or target.startswith("#"):
            return found[0]
        base = images if mark else links
        if base:
            return f"{mark}[{words}]({base}{target})"
        path = target.partition("#")[0]
        return "" if mark else words if words == path else f"{words} ({path})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^()\s]+)\)", place, text)


class ReadmeHook(MetadataHookInterface):
    """Make the description of the package from README.md; the addresses are options in pyproject.toml."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        told = readme_elsewhere(text, self.config.get("links", ""), self.config.get("images", ""))
        metadata["readme"] = {"content-type": "text/markdown", "text": told}
