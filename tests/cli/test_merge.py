"""Two hospitals with vocabularies of their own: each distills, one place merges and scores, as a user types it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medidistill.cli import main
from medidistill.export import load, verify

CONFIG = """\
name: {site}
seed: {seed}
threads: 1
sources: [{{name: {site} clinic, licence: CC-BY-4.0}}]
ingest: {{image_size: 16}}
network: {{width: 4, depth: 1}}
experts: {{count: 2, epochs: 3, batch_size: 8}}
distill: {{ipc: 2, outer_steps: 4, inner_steps: 2, expert_epochs: 1, max_start: 2, validate_every: 2}}
evaluate:
  {{arms: [random, iadd], num_networks: 2, full_epochs: 2, bootstrap: 100,
   small_set_training: {{steps: 5}}, adaptive: {{steps: 5}}}}
"""
MAPPING = """\
classes: [COVID-19, Normal, Pneumonia]
bundles:
  north/bundle: {Covid: COVID-19, Healthy: Normal, Bacterial: Pneumonia, Viral: Pneumonia}
  south/bundle: {Other: null}
"""


def films(folder: Path, classes: Sequence[str], seed: int) -> Path:
    """Write PNG films, a sub-folder for each class; how bright the middle is tells the class."""
    rng = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for image in range(10):
            pixels = rng.integers(0, 60, (20, 20))
            pixels[5:15, 5:15] += 50 * number
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{image}.png")
    return folder


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished runs `north` and `south`."""
    root = tmp_path_factory.mktemp("hospitals")
    sites = {"north": ("Bacterial", "Covid", "Healthy", "Viral"), "south": ("COVID-19", "Normal", "Other")}
    for seed, (site, classes) in enumerate(sites.items()):
        config = root / f"{site}.yaml"
        config.write_text(CONFIG.format(site=site, seed=seed))
        source = films(root / f"films-{site}", classes, seed)
        run = ["run", "--config", str(config), "--input", str(source), "--output", str(root / site), "--quiet"]
        assert main([*run, "--until", "export"]) == 0
    (root / "mapping.yaml").write_text(MAPPING)
    return root


def test_without_a_mapping_the_difference_is_named_and_nothing_is_written(
    hospitals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles = [str(hospitals / site / "bundle") for site in ("north", "south")]
    assert main(["merge", *bundles, "--output", str(tmp_path / "both"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "Bacterial, Covid, Healthy, Viral missing, COVID-19, Normal, Other more" in said
    assert "--classes FILE" in said
    mapping = ["--classes", str(hospitals / "mapping.yaml"), "--rename", "Covid=COVID-19"]
    assert main(["merge", *bundles, "--output", str(tmp_path / "both"), "--quiet", *mapping]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()


def test_a_mapping_merges_both_and_the_merged_set_is_scored(
    hospitals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles = [str(hospitals / site / "bundle") for site in ("north", "south")]
    test = films(tmp_path / "films", ("COVID-19", "Normal", "Pneumonia"), 7)
    output = tmp_path / "both"
    arguments = ["merge", *bundles, "--output", str(output), "--classes", str(hospitals / "mapping.yaml"), "--quiet"]
    assert main([*arguments, "--evaluate", str(test), "--networks", "2"]) == 0
    assert "| merged |" in capsys.readouterr().out
    assert verify(output) == []
    merged = load(output)
    assert merged.class_names == ("COVID-19", "Normal", "Pneumonia")
    # two images of each class of the north, its two kinds of pneumonia as one; two of two classes of the south
    assert np.bincount(merged.labels).tolist() == [4, 4, 4]
    recipe = json.loads((output / "recipe.json").read_text())
    assert [row["arm"] for row in recipe["evaluation"]["rows"]] == ["merged", "1: north", "2: south"]
    assert recipe["merged_from"][0]["classes"]["Viral"] == "Pneumonia"
    assert recipe["merged_from"][1]["classes"] == {"Other": None}
    assert [one["name"] for one in recipe["sources"]] == ["north clinic", "south clinic"]
    card = (output / "README.md").read_text()
    assert "Bacterial to Pneumonia; Covid to COVID-19; Healthy to Normal; Viral to Pneumonia." in card
    assert "Classes of part 2 (south): Other left out." in card
    assert "All images of class Pneumonia come from north" in card
    # a network trains from the merged bundle by its own recipe
    assert merged.predict(merged.train(), merged.normalisation.to_display(merged.images)).shape == (12, 3)
