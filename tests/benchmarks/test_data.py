"""The image sets of the benchmarks: layouts, splits, sizes, and what is said when they are not there."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.data import load
from medidistill.config import IngestConfig
from medidistill.errors import ConfigError, IngestError

CONFIG = IngestConfig(image_size=32)


def pictures(count: int, side: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def jpeg(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="JPEG")
    return data.getvalue()


@pytest.fixture
def jpegs(tmp_path: Path) -> Path:
    arrays = {"classes": np.array(["plane", "car"])}
    for split, count in (("train", 60), ("test", 10)):
        parts = [jpeg(one) for one in pictures(count, 32, count)]
        arrays[f"{split}_jpeg"] = np.frombuffer(b"".join(parts), dtype=np.uint8)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, parts)])
        arrays[f"{split}_labels"] = np.arange(count) % 2
    np.savez(tmp_path / "cifar10_jpeg.npz", **arrays)
    return tmp_path


def test_jpeg_copies_with_a_validation_split_of_their_own(jpegs: Path) -> None:
    data = load("cifar10-jpeg", jpegs, CONFIG)
    assert data.train.class_names == ("plane", "car")
    assert data.train.counts() == {"plane": 27, "car": 27}
    assert data.val.counts() == {"plane": 3, "car": 3}
    assert len(data.test) == 10
    assert data.train.images.shape == (54, 3, 32, 32)
    assert 0 <= float(data.train.images.min()) < float(data.train.images.max()) <= 1
    seen = {bytes(image.numpy().tobytes()) for image in (*data.train.images, *data.val.images)}
    assert len(seen) == 60
    first = np.asarray(Image.open(io.BytesIO(jpeg(pictures(10, 32, 10)[0])))).astype(np.float32) / 255
    torch.testing.assert_close(data.test.images[0], torch.from_numpy(first).permute(2, 0, 1))
    again = load("cifar10-jpeg", jpegs, CONFIG)
    assert torch.equal(again.val.images, data.val.images)
    assert again.digest == data.digest


@pytest.mark.slow
def test_fewer_images_and_classes_and_zca_on_what_is_left(jpegs: Path) -> None:
    data = load("cifar10-jpeg", jpegs, IngestConfig(image_size=32, normalisation="zca"), train_images=20)
    assert data.train.counts() == {"plane": 10, "car": 10}
    assert len(data.test) == 10
    whitened = data.normalisation.apply(data.train.images)
    assert abs(float(whitened.mean())) < 1e-3
    other = load("cifar10-jpeg", jpegs, CONFIG, train_images=20)
    assert torch.equal(other.train.images, data.train.images)
    assert other.digest != data.digest
    assert load("cifar10-jpeg", jpegs, CONFIG, classes=1).train.class_names == ("plane",)


def test_torchvision_layout_of_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, count in (("data_batch_1", 40), ("test_batch", 20)):
        batch = {"data": pictures(count, 32, count).reshape(count, -1), "labels": [k % 10 for k in range(count)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"c{k}" for k in range(10)]}))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [("data_batch_1", None)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [("test_batch", None)])
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(
        datasets.CIFAR10, "_load_meta", lambda self: setattr(self, "classes", [f"c{k}" for k in range(10)])
    )
    data = load("cifar10", tmp_path, CONFIG)
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 20)
    assert data.train.images.shape[1:] == (3, 32, 32)


def test_tiny_imagenet_as_it_is_unpacked(tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    for name in ("n01", "n02"):
        (root / "train" / name / "images").mkdir(parents=True)
        for i in range(12):
            (root / "train" / name / "images" / f"{name}_{i}.JPEG").write_bytes(jpeg(pictures(1, 64, i)[0]))
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for i in range(4):
        (root / "val" / "images" / f"val_{i}.JPEG").write_bytes(jpeg(pictures(1, 64, 99 + i)[0]))
        lines.append(f"val_{i}.JPEG\tn0{1 + i % 2}\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    data = load("tinyimagenet", tmp_path, IngestConfig(image_size=64))
    assert data.train.counts() == {"n01": 11, "n02": 11}
    assert data.test.labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(ConfigError, match="64 x 64"):
        load("tinyimagenet", tmp_path, CONFIG)


def test_a_medmnist_file_keeps_its_own_splits(tmp_path: Path) -> None:
    arrays = {}
    for split, count in (("train", 9), ("val", 4), ("test", 5)):
        arrays[f"{split}_images"] = pictures(count, 28, count)[..., 0]
        arrays[f"{split}_labels"] = (np.arange(count) % 2)[:, None]
    np.savez(tmp_path / "mnist.npz", **arrays)
    data = load("mnist.npz", tmp_path, IngestConfig(image_size=28))
    assert (len(data.train), len(data.val), len(data.test)) == (9, 4, 5)
    assert data.train.images.shape == (9, 1, 28, 28)
    assert data.train.class_names == ("0", "1")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(IngestError, match="lacks test_images"):
        load("other.npz", tmp_path, CONFIG)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cifar10-jpeg", "tinyimagenet", "mnist.npz"])
def test_what_is_not_there_is_said_with_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"--download|--root|unpack|no such MedMNIST"):
        load(name, tmp_path, CONFIG)


def test_an_unknown_name_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        load("cifar1O", tmp_path, CONFIG)


@pytest.mark.slow
@pytest.mark.data
def test_the_real_files_are_read(real_data: Path) -> None:
    data = load("cifar10-jpeg", real_data / "cifar10", CONFIG, train_images=500)
    assert len(data.train) == 500
    assert data.train.num_classes == 10
    assert len(load("pneumoniamnist.npz", real_data / "medmnist", IngestConfig(image_size=28)).train) > 4000
