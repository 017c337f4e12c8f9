from __future__ import annotations

import json
from pathlib import Path

import mlcroissant
import pytest

from medidistill.config import SourceConfig

from .bundle_example import CLASSES, write

SOURCES = (
    SourceConfig("North", "CC-BY-4.0", "https://north.example", "North 2020"),
    SourceConfig("South | coast", "CC-BY-NC-4.0", "", "South 2021"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("c") / "bundle", sources=SOURCES, notice="Confounded.")


def test_mlcroissant_finds_nothing_to_complain_of(folder: Path) -> None:
    found = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    issues = found.metadata.ctx.issues
    assert (list(issues.errors), list(issues.warnings)) == ([], [])
    assert str(found.metadata.license) == "['https://spdx.org/licenses/CC-BY-NC-4.0.html']"
    assert found.metadata.cite_as == "North 2020; South 2021"


def test_mlcroissant_reads_the_records(folder: Path) -> None:
    records = list(mlcroissant.Dataset(jsonld=folder / "croissant.json").records("images"))
    assert len(records) == 9
    assert records[2]["images/label"].decode() == CLASSES[2]
    assert records[2]["images/image"].size == (16, 16)


def test_sources_and_licence_reach_recipe_and_card(folder: Path) -> None:
    recipe, card = json.loads((folder / "recipe.json").read_text()), (folder / "README.md").read_text()
    assert recipe["licence"]["identifier"] == "CC-BY-NC-4.0"
    assert card.startswith("---\nlicense: cc-by-nc-4.0\n")
    assert "**no commercial use**" in card
    assert "| North | CC-BY-4.0 | https://north.example | North 2020 |" in card
    assert "| South \\| coast | CC-BY-NC-4.0 | not stated | South 2021 |" in card
