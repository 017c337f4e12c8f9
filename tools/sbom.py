"""The bill of materials of the wheel: CycloneDX 1.6, made from the lock alone, so that it is the same on every machine.

python tools/sbom.py > sbom.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from locked import LOCK, ROOT, select

__all__ = ["bill_of_materials"]


def bill_of_materials(root: Path, version: str) -> dict[str, Any]:
    """Return the CycloneDX 1.6 document: the project and what its lock pins for the core and extra `all`."""
    packages = select(["core", "all"], root)
    known = {one.name for one in packages}
    purl = {one.name: f"pkg:pypi/{one.name}@{one.version}" for one in packages}
    project = f"pkg:pypi/medidistill@{version}"
    needs: dict[str, list[str]] = {project: [], **{name: [] for name in purl.values()}}
    for one in packages:
        for parent in sorted(one.needed_by & known):
            needs[purl[parent]].append(purl[one.name])
        if "medidistill" in one.needed_by:
            needs[project].append(purl[one.name])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "application",
                "bom-ref": project,
                "name": "medidistill",
                "version": version,
                "purl": project,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
            "properties": [{"name": "medidistill:lock", "value": LOCK}],
        },
        "components": [
            {
                "type": "library",
                "bom-ref": purl[one.name],
                "name": one.name,
                "version": one.version,
                "purl": purl[one.name],
                "externalReferences": [
                    {
                        "type": "distribution",
                        "url": f"{purl[one.name]}?checksum={digest}",
                        "hashes": [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}],
                    }
                    for digest in one.hashes
                ],
                "properties": [{"name": "medidistill:marker", "value": one.marker}] if one.marker else [],
            }
            for one in packages
        ],
        "dependencies": [{"ref": ref, "dependsOn": below} for ref, below in sorted(needs.items())],
    }


def main() -> None:
    """Print the document of this checkout."""
    text = (ROOT / "medidistill" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'__version__ = "([^"]+)"', text)[1]  # type: ignore[index]
    json.dump(bill_of_materials(ROOT, version), sys.stdout, indent=2, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
