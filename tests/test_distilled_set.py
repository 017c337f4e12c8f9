from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from medidistill.config import AugmentConfig, NetworkConfig, TrainingConfig
from medidistill.distilled_set import DistilledSet, LabelledImages, Normalisation
from medidistill.errors import ConfigError, IngestError
from medidistill.files import load_tensors, save_tensors, sha256_file


@pytest.fixture
def distilled() -> DistilledSet:
    return DistilledSet(
        images=torch.linspace(-2, 2, 4 * 64).view(4, 1, 8, 8),
        labels=torch.tensor([0, 0, 1, 1]),
        alpha=0.02,
        class_names=("a", "b"),
        normalisation=Normalisation("fixed", 0.4, 0.2),
        network=NetworkConfig(width=4, norm="group"),
        training=TrainingConfig(steps=7, augment=AugmentConfig(shift=0.1)),
        soft_labels=torch.full((4, 2), 0.5),
        importance={"features.0.weight": torch.ones(4, 1, 3, 3), "classifier.bias": torch.tensor(2.0)},
        recipe={"method": "iadd", "init": "noise"},
    )


def test_a_set_comes_back_whole_and_writes_the_same_bytes(tmp_path: Path, distilled: DistilledSet) -> None:
    distilled.save(tmp_path / "one")
    loaded = DistilledSet.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert sha256_file(tmp_path / "one") == sha256_file(tmp_path / "two")
    for item in dataclasses.fields(DistilledSet):
        before, after = getattr(distilled, item.name), getattr(loaded, item.name)
        if item.name == "importance":
            assert before.keys() == after.keys()
            assert all(torch.equal(before[name], after[name]) for name in before)
        elif isinstance(before, torch.Tensor):
            assert torch.equal(before, after)
        else:
            assert before == after


def test_what_is_not_finite_is_not_a_distilled_set(distilled: DistilledSet) -> None:
    for alpha in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="alpha > 0"):
            dataclasses.replace(distilled, alpha=alpha)
    images = distilled.images.clone()
    images[0, 0, 0, 0] = float("nan")
    with pytest.raises(ConfigError, match="finite"):
        dataclasses.replace(distilled, images=images)
    with pytest.raises(ConfigError, match="3 labels"):
        dataclasses.replace(distilled, labels=distilled.labels[:3])
    with pytest.raises(ConfigError, match=r"in 0\.\.1"):
        dataclasses.replace(distilled, labels=distilled.labels + 1)
    for soft in (torch.full((4, 3), 0.3), torch.full((4, 2), float("nan"))):
        with pytest.raises(ConfigError, match="soft labels"):
            dataclasses.replace(distilled, soft_labels=soft)


def test_foreign_newer_and_incomplete_files_are_refused(tmp_path: Path, distilled: DistilledSet) -> None:
    path = tmp_path / "set"
    distilled.save(path)
    tensors, header = load_tensors(path)
    for change, message in (
        ({"kind": "expert"}, "holds expert, not a distilled set"),
        ({"format": 99}, "format 99 is newer than"),
        ({"normalisation": {"colour": 1}}, "header of the distilled set is incomplete"),
    ):
        save_tensors(path, tensors, header | change)
        with pytest.raises(IngestError, match=message):
            DistilledSet.load(path)
    save_tensors(path, tensors, {name: value for name, value in header.items() if name != "format"})
    with pytest.raises(IngestError, match="incomplete"):
        DistilledSet.load(path)
    save_tensors(path, tensors, header | {"alpha": -1.0})
    with pytest.raises(IngestError, match=r"set: not a usable distilled set.*alpha > 0"):
        DistilledSet.load(path)
    del tensors["labels"]
    save_tensors(path, tensors, header)
    with pytest.raises(IngestError, match="incomplete"):
        DistilledSet.load(path)


def test_targets_are_the_soft_labels_where_there_are_any(distilled: DistilledSet) -> None:
    assert distilled.targets is distilled.soft_labels
    assert dataclasses.replace(distilled, soft_labels=None).targets is distilled.labels


def test_per_image_normalisation_forgets_brightness_and_contrast() -> None:
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    normal = Normalisation().apply(images)
    torch.testing.assert_close(normal.mean(dim=(1, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(normal.std(dim=(1, 2, 3), correction=0), torch.ones(3))
    torch.testing.assert_close(Normalisation().apply(images * 0.5 + 0.3), normal, atol=1e-4, rtol=1e-4)
    assert torch.equal(Normalisation().apply(torch.full((1, 1, 4, 4), 0.7)), torch.zeros(1, 1, 4, 4))


def test_fixed_normalisation_is_undone_for_display() -> None:
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    fixed = Normalisation("fixed", 0.4, 0.2)
    torch.testing.assert_close(fixed.to_display(fixed.apply(images)), images)
    shown = Normalisation().to_display(torch.tensor([-10.0, 0.0, 10.0]).view(1, 1, 1, 3))
    assert shown.flatten().tolist() == [0.0, 0.5, 1.0]


def test_labelled_images_count_and_select() -> None:
    images = LabelledImages(
        torch.arange(4.0).view(4, 1, 1, 1),
        torch.tensor([0, 2, 2, 0]),
        ("a", "b", "c"),
        ("p", "q", "q", "r"),
        tuple("wxyz"),
    )
    assert images.counts() == {"a": 2, "b": 0, "c": 2}
    chosen = images.select([3, 1])
    assert chosen.images.flatten().tolist() == [3.0, 1.0]
    assert (chosen.patient_ids, chosen.keys, chosen.sites) == (("r", "q"), ("z", "x"), ())
    with pytest.raises(IngestError, match="4 labels, 3 patients"):
        LabelledImages(images.images, images.labels, images.class_names, ("p", "q", "q"))
