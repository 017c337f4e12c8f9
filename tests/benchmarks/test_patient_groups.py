"""Draws by the size of patient groups: what is stored, who is found, and the table."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from benchmarks import patient_groups
from medidistill.config import RunConfig, with_settings
from medidistill.distilled_set import LabelledImages, Normalisation
from medidistill.pipeline.prepared import PreparedData
from medidistill.seeding import stream
from medidistill.spectral_images import rounded_spectrum

SIDE = 16


def split(name: str, count: int) -> LabelledImages:
    """Return smooth images with grain, more of it in some than in others."""
    smooth = F.avg_pool2d(torch.randn(count, 1, SIDE, SIDE, generator=stream(0, name)), 7, 1, 3)
    grain = torch.randn(count, 1, SIDE, SIDE, generator=stream(0, name, "grain"))
    images = smooth + 0.4 * torch.rand(count, 1, 1, 1, generator=stream(0, name, "amount")) * grain
    return LabelledImages(
        images, torch.arange(count) % 2, ("a", "b"), tuple(f"PHANTOM^{name}{n}" for n in range(count))
    )


@pytest.fixture
def data() -> PreparedData:
    return PreparedData(split("train", 40), split("val", 20), split("test", 20), Normalisation(), "made up")


def config() -> RunConfig:
    run = RunConfig(seed=3)
    return with_settings(run, {"distill": {"ipc": 1, "factor": 4, "group_patients": 2}})


@pytest.mark.parametrize("way", ["gaussian", "8", "real"])
def test_every_way_has_as_many_images_of_every_class(way: str, data: PreparedData) -> None:
    shown = patient_groups.stored_images(way, config(), data)
    assert shown.shape == (2 * 64, 1, SIDE, SIDE)  # 16 in the bytes of one, and four times as many in 2 bits
    assert bool(torch.isfinite(shown).all())


def test_patients_whose_images_are_in_the_set_are_found_and_others_are_not(data: PreparedData) -> None:
    images, labels = data.training_tensors()
    copies = torch.cat([images[labels == name] for name in range(2)])
    found = patient_groups.membership(copies, data)
    assert found == {"auc": 1.0, "tpr_at_1_percent": 1.0}
    strangers = torch.randn(copies.shape, generator=stream(0, "strangers"))
    assert 0.3 < patient_groups.membership(strangers, data)["auc"] < 0.7


def test_copies_are_found_although_they_are_stored_in_few_frequencies(data: PreparedData) -> None:
    images, labels = data.training_tensors()
    copies = torch.cat([images[labels == name] for name in range(2)])
    assert patient_groups.membership(rounded_spectrum(copies, SIDE // 4, 4), data)["auc"] > 0.95


def test_the_table_has_a_row_for_each_way_and_the_largest_p() -> None:
    rows = [
        {
            "way": way,
            "seed": seed,
            "images": 128,
            "validation": 0.7 + 0.02 * seed,
            "nearest_is_member": 0.75,
            "chance": 0.7,
            "linkage_p": 0.001 * (1 + seed),
            "near_copies": 2,
            "auc": 0.6,
            "tpr_at_1_percent": 0.02,
        }
        for way in patient_groups.ways()
        for seed in range(2)
    ]
    lines = patient_groups.table({"rows": rows}).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:8]] == [
        "| one Gaussian a class, one covariance",
        "| 64 to 127",
        "| 32 to 63",
        "| 16 to 31",
        "| 8 to 15",
        "| random real X-rays",
    ]
    assert lines[3].split(" | ")[2:5] == ["0.710 (0.700, 0.720)", "75.0%", "0.002"]
    assert lines[-1] == "Chance of the nearest to be a member: 70.0%. Seeds: 2."
