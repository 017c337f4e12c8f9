"""Bundles read by the tools of others: Hugging Face datasets, MedMNIST, Croissant, DD-Ranking's layout, MONAI."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import datasets
import medmnist
import mlcroissant
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_net_in_out
from torch import nn

import medidistill
from medidistill.distilled_set import Normalisation
from medidistill.errors import ArgumentError

from .bundle_example import CLASSES, make_set, write


def test_datasets_reads_labels_as_a_class_label_in_the_order_of_the_set(bundle: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    found = datasets.load_dataset(str(bundle), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"]
    assert found["train"].features["label"] == datasets.ClassLabel(names=list(CLASSES))
    assert found["train"]["label"] == medidistill.load(bundle).labels.tolist()
    assert found["train"][0]["image"].size == (16, 16)


def test_the_card_has_what_the_hub_asks_for(bundle: Path):
    from ruamel.yaml import YAML

    front = YAML(typ="safe").load((bundle / "README.md").read_text().split("---\n")[1])
    assert front["pretty_name"] == "Phantom Run 1"
    assert front["size_categories"] == ["n<1K"]
    assert front["license"] == "unknown"
    assert {"synthetic", "dataset-distillation"} <= set(front["tags"])
    assert front["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]["2"] == "Viral, other"


@pytest.mark.parametrize(("split", "count"), [("train", 9), ("val", 0), ("test", 0)])
def test_medmnist_reads_every_split(bundle: Path, tmp_path: Path, monkeypatch, split: str, count: int):
    (tmp_path / "pneumoniamnist.npz").write_bytes((bundle / "phantom-run-1.npz").read_bytes())
    info = medmnist.INFO["pneumoniamnist"]
    monkeypatch.setitem(info["n_samples"], split, count)
    found = medmnist.PneumoniaMNIST(split=split, root=str(tmp_path), download=False, size=28)
    assert len(found) == count
    assert found.imgs.shape == (count, 16, 16)
    assert found.labels.shape == (count, 1)
    if count:
        image, label = found[4]
        assert image.size == (16, 16)
        assert label.tolist() == [1]


def test_croissant_has_no_warning_without_a_source_and_the_context_of_its_version(bundle: Path, caplog):
    with caplog.at_level(logging.WARNING):
        found = mlcroissant.Dataset(jsonld=bundle / "croissant.json")
    assert list(found.metadata.ctx.issues.warnings) == []
    assert caplog.messages == []
    assert found.metadata.cite_as.startswith("Phantom Run 1 (")


def test_dd_ranking_files_are_plain_tensors(tmp_path: Path):
    soft = torch.softmax(torch.arange(27.0).view(9, 3), 1)
    for labels, name in ((None, "hard"), (soft, "soft")):
        chosen = make_set(soft_labels=labels)
        bundle = medidistill.load(write(tmp_path / f"bundle-{name}", chosen))
        folder = bundle.write_dd_ranking(tmp_path / name, channels=3)
        images, targets, rate = (
            torch.load(folder / file, weights_only=True) for file in ("images.pt", "labels.pt", "lr.pt")
        )
        assert tuple(images.shape) == (9, 3, 16, 16)
        assert torch.equal(images[:, 1:2], chosen.images)
        assert torch.equal(targets, chosen.targets)
        assert rate.item() == pytest.approx(chosen.training.lr)
    with pytest.raises(ArgumentError, match="must be new"):
        bundle.write_dd_ranking(tmp_path / "soft")
    with pytest.raises(ArgumentError, match="channels=2"):
        bundle.write_dd_ranking(tmp_path / "two", channels=2)


@pytest.mark.parametrize("kind", ["per_image", "fixed"])
def test_monai_verifies_the_bundle_and_predicts_as_medidistill_does(kind: str, tmp_path: Path):
    source = medidistill.load(write(tmp_path / "bundle", make_set(normalisation=Normalisation(kind))))
    network = source.train()
    folder = source.write_monai_bundle(tmp_path / "monai", network)
    meta, inference = folder / "configs" / "metadata.json", folder / "configs" / "inference.json"
    verify_net_in_out("network_def", meta_file=str(meta), config_file=str(inference))
    parser = ConfigParser()
    parser.read_config(str(inference))
    pictures = sorted((tmp_path / "bundle" / "png").glob("*.png"))
    parser["bundle_root"], parser["datalist"] = str(folder), list(map(str, pictures))
    for _ in parser.get_parsed_content("initialize"):
        pass
    found = parser.get_parsed_content("predictions")
    expected = source.predict(network, pictures)
    assert torch.allclose(found, expected, atol=0.02)
    assert found.argmax(1).tolist() == expected.argmax(1).tolist()
    assert json.loads(meta.read_text())["network_data_format"]["outputs"]["pred"]["channel_def"]["2"] == "Viral, other"
    assert "not for diagnosis" in (folder / "docs" / "README.md").read_text()


def test_a_monai_bundle_of_another_network_is_refused_and_leaves_nothing(tmp_path: Path):
    source = medidistill.load(write(tmp_path / "bundle"))
    with pytest.raises(ArgumentError, match="network=Sequential"):
        source.write_monai_bundle(tmp_path / "monai", nn.Sequential(nn.Flatten(), nn.Linear(256, 3)))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bundle"]


def test_numpy_reads_the_empty_splits_without_pickle(bundle: Path):
    with np.load(bundle / "phantom-run-1.npz", allow_pickle=False) as file:
        shapes = {name: file[name].shape for name in file.files}
    assert shapes["val_images"] == shapes["test_images"] == (0, 16, 16)
    assert shapes["val_labels"] == (0, 1)
