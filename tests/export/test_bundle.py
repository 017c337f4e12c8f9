from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import json
import resource
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medidistill.config import AugmentConfig, NetworkConfig, TrainingConfig
from medidistill.distilled_set import Normalisation
from medidistill.errors import ConfigError, IngestError, ResourceError
from medidistill.export import load, verify
from medidistill.networks import make_network, predict
from medidistill.normalisation import fit_normalisation
from medidistill.packed_images import PackedImages, rounded_labels
from medidistill.record import RunRecord
from medidistill.results.comparison import Comparison, Row
from medidistill.seeding import stream
from medidistill.spectral_images import SpectralImages
from medidistill.statistics import Interval

from .bundle_example import CLASSES, card_code, make_set, striped, write


def test_a_bundle_holds_what_it_names_and_verifies(tmp_path: Path) -> None:
    folder = write(tmp_path / "deep" / "bundle")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {n for n in names if not n.startswith(("png/", "dicom/"))} == {
        "README.md",
        "SHA256SUMS",
        "croissant.json",
        "distilled.safetensors",
        "phantom-run-1.npz",
        "recipe.json",
    }
    assert verify(folder) == []
    assert list((tmp_path / "deep").iterdir()) == [folder]
    assert folder.stat().st_mode & 0o777 == 0o755
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    record = RunRecord()
    one, two = write(tmp_path / "one", record=record), write(tmp_path / "two", record=record)
    assert (one / "SHA256SUMS").read_text() == (two / "SHA256SUMS").read_text()


def test_load_returns_the_set_from_folder_and_file(tmp_path: Path) -> None:
    distilled = make_set(soft_labels=torch.full((9, 3), 1 / 3), importance={"w": torch.tensor(2.0)})
    folder = write(tmp_path / "bundle", distilled)
    for loaded in (load(folder), load(str(folder / "distilled.safetensors"))):
        assert torch.equal(loaded.images, distilled.images)
        assert torch.equal(loaded.targets, distilled.targets)
        assert loaded.header() == distilled.header()


def test_load_refuses_what_is_not_a_bundle_or_was_changed(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="no such file"):
        load(tmp_path / "absent")
    with pytest.raises(IngestError, match="not a bundle"):
        load(tmp_path)
    folder = write(tmp_path / "bundle")
    make_set(alpha=0.06).save(folder / "distilled.safetensors")
    with pytest.raises(IngestError, match=r"differs from SHA256SUMS.*fetch it again"):
        load(folder)


def test_verify_names_every_missing_changed_and_extra_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "bundle")
    (folder / "recipe.json").unlink()
    (folder / "README.md").write_text("changed")
    (folder / "patients.csv").write_text("extra")
    (folder / "phantom-run-1.npz").rename(tmp_path / "moved.npz")
    (folder / "phantom-run-1.npz").symlink_to(tmp_path / "moved.npz")
    assert verify(folder) == [
        "README.md: changed",
        "patients.csv: extra, not listed in SHA256SUMS",
        "phantom-run-1.npz: changed, not a plain file any more",
        "recipe.json: missing",
        "recipe.json: no such file",
    ]
    (folder / "SHA256SUMS").write_text("garbage\n")
    assert verify(folder)[:2] == ["SHA256SUMS: line 1 is not 'sha256  name'", "SHA256SUMS: lists no file"]
    (folder / "SHA256SUMS").unlink()
    assert "SHA256SUMS: no such file: nothing can be checked" in verify(folder)[0]


def test_an_existing_target_is_refused_and_kept(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    with pytest.raises(ConfigError, match="never overwritten"):
        write(target)
    assert list(target.iterdir()) == []
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="never overwritten"):
        write(tmp_path / "dangling")


def test_what_is_left_of_a_replaced_bundle_does_not_undo_the_release_of_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, noted = write(tmp_path / "bundle"), []

    @contextlib.contextmanager
    def publishing(_: Path) -> Iterator[None]:
        noted.append("releasing")
        try:
            yield
        except BaseException:
            noted.append("withdrawn")
            raise
        noted.append("released")

    remove = shutil.rmtree

    def held_open(path: Path, ignore_errors: bool = False) -> None:
        if "replaced" not in Path(path).name:
            remove(path, ignore_errors=ignore_errors)
        elif not ignore_errors:
            raise OSError(errno.EBUSY, "in use")

    monkeypatch.setattr(shutil, "rmtree", held_open)
    before = (written / "SHA256SUMS").read_text()
    write(written, make_set(alpha=0.03), replace=True, publishing=publishing)
    assert noted == ["releasing", "released"]
    assert (written / "SHA256SUMS").read_text() != before


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    # the tensors are larger than the files this process may write from here on
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    distilled = make_set()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(ResourceError, match="cannot write"):
            write(tmp_path / "bundle", distilled)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["method", "init"])
def test_a_set_without_provenance_is_not_exported(tmp_path: Path, key: str) -> None:
    recipe = {"method": "iadd", "init": "noise"}
    del recipe[key]
    with pytest.raises(ConfigError, match=f"does not state its '{key}'"):
        write(tmp_path / "bundle", make_set(recipe=recipe))
    assert list(tmp_path.iterdir()) == []


def test_the_recipe_has_no_path_or_command_of_the_run(tmp_path: Path) -> None:
    record = RunRecord(config={"seed": 3}, command="medidistill run --input /wards/north")
    record.stage("ingest", inputs="abc", source="/wards/north")
    folder = write(tmp_path / "bundle", record=record)
    assert not [path for path in folder.rglob("*") if path.is_file() and b"/wards/north" in path.read_bytes()]
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["digests"]["stages"] == {"ingest": "abc"}
    assert recipe["architecture"]["depth"] == 2
    assert (recipe["alpha"], recipe["classes"], recipe["training"]["steps"]) == (0.05, list(CLASSES), 60)


@pytest.mark.parametrize("channels", [1, 3])
def test_display_copies_show_the_images(tmp_path: Path, channels: int) -> None:
    distilled = make_set(channels, normalisation=Normalisation("fixed"))
    folder = write(tmp_path / "bundle", distilled)
    raw, labels = striped(9, seed=0, channels=channels)
    with (folder / "png" / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [CLASSES[i] for i in labels]
    assert {row["file_name"] for row in rows} | {"metadata.csv"} == {path.name for path in (folder / "png").iterdir()}
    expected = (raw * 255).permute(0, 2, 3, 1).squeeze(-1).numpy()
    shown = np.stack([np.asarray(Image.open(folder / "png" / row["file_name"])) for row in rows])
    assert np.abs(shown - expected).max() <= 0.51
    with np.load(folder / "phantom-run-1.npz") as file:
        assert file["train_images"].dtype == np.uint8
        np.testing.assert_array_equal(file["train_images"], shown)
        np.testing.assert_array_equal(file["train_labels"], labels.numpy()[:, None])


def test_more_channels_than_a_picture_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 channels: must have 1 or 3"):
        write(tmp_path / "bundle", make_set(2))


@pytest.mark.parametrize(
    ("norm", "schedule", "kind", "soft"),
    [
        ("instance", "step", "per_image", False),
        pytest.param("group", "constant", "fixed", True, marks=pytest.mark.slow),
        pytest.param("none", "cosine", "per_image", False, marks=pytest.mark.slow),
        pytest.param("instance", "step", "zca", False, marks=pytest.mark.slow),
    ],
)
def test_the_code_of_the_card_trains_without_medidistill(
    tmp_path: Path, norm: str, schedule: str, kind: str, soft: bool
) -> None:
    distilled = make_set(
        normalisation=fit_normalisation(kind, 0.5, 0.25, striped(60, seed=2)[0]),
        network=NetworkConfig(width=8, norm=norm),
        training=TrainingConfig(steps=150, batch_size=9, lr=0.1, schedule=schedule),
        soft_labels=torch.eye(3)[torch.arange(9) % 3] * 0.7 + 0.1 if soft else None,
    )
    folder = write(tmp_path / "bundle", distilled)
    real, labels = striped(60, seed=1)
    np.save(tmp_path / "real.npy", real.numpy())
    blocked = ["medidistill", "PIL", "pandas", "scipy", "sklearn", "monai", "torchvision", "pydicom", "yaml"]
    before = f"import sys\nsys.modules.update(dict.fromkeys({blocked!r}))\nimport torch\ntorch.manual_seed(0)\n"
    after = (
        "\nimport numpy\nfrom safetensors.torch import save_file\n"
        f"x = torch.from_numpy(numpy.load({str(tmp_path / 'real.npy')!r}))\n"
        f"save_file(network.state_dict() | {{'out': predict(x)}}, {str(tmp_path / 'out.safetensors')!r})\n"
    )
    subprocess.run([sys.executable, "-c", before + card_code(folder) + after], cwd=folder, check=True, timeout=280)

    from safetensors.torch import load_file

    trained = load_file(tmp_path / "out.safetensors")
    theirs = trained.pop("out")
    # whitening raises noise that nine images cannot teach a network to overlook: it learns, but less
    assert (theirs.argmax(1) == labels).float().mean() > (0.45 if kind == "zca" else 0.9)
    # the network of the card is the network of the recipe: our ConvNet with its weights says the same
    network = make_network(distilled.network, channels=1, image_size=16, num_classes=3, generator=stream(0))
    linear = max(int(name.split(".")[0]) for name in trained)
    renamed = {
        name.replace(f"{linear}.", "classifier.") if name.startswith(f"{linear}.") else f"features.{name}": value
        for name, value in trained.items()
    }
    network.load_state_dict(renamed)
    torch.testing.assert_close(predict(network, distilled.normalisation.apply(real)), theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("decoder", "bits"),
    [("spectral", 4), *(pytest.param("bilinear", one, marks=pytest.mark.slow) for one in (32, 8, 4, 2))],
)
def test_the_code_of_the_card_decodes_packed_images_and_trains_by_adamw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str, bits: int
) -> None:
    small = torch.nn.functional.interpolate(make_set().images, size=8, mode="area")
    packed: PackedImages | SpectralImages = PackedImages(small, 16).quantised(bits)
    soft = None
    if decoder == "spectral":
        packed = SpectralImages.of(make_set().images, 8, bits)
        soft = rounded_labels(torch.nn.functional.one_hot(make_set().labels, 3) + 0.05)
    training = TrainingConfig(
        optimizer="adamw",
        schedule="one_cycle",
        steps=60,
        batch_size=9,
        lr=0.01,
        augment=AugmentConfig(shift=0.02, scale=0.02, rotate=2, brightness=0.1, contrast=0.1),
    )
    distilled = make_set(images=packed.decode(), packed=packed, training=training, soft_labels=soft)
    folder = write(tmp_path / "bundle", distilled)
    assert verify(folder) == []
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["format"] == (4 if decoder == "spectral" else 3)
    assert recipe["storage"]["bytes"] == packed.nbytes + (0 if soft is None else 9 * 3)
    assert len(list((folder / "png").glob("*.png"))) == 9
    real, labels = striped(60, seed=1)
    np.save(tmp_path / "real.npy", real.numpy())
    code = (
        "import torch\ntorch.manual_seed(0)\n"
        + card_code(folder)
        + f"\nimport numpy\nfrom safetensors.torch import save_file\n"
        f"x = torch.from_numpy(numpy.load({str(tmp_path / 'real.npy')!r}))\n"
        "found = {'out': predict(x), 'images': images.contiguous(), 'targets': targets}\n"
        f"save_file(found, {str(tmp_path / 'out.safetensors')!r})\n"
    )
    (tmp_path / "card.py").write_text(code)
    monkeypatch.chdir(folder)
    runpy.run_path(str(tmp_path / "card.py"))

    from safetensors.torch import load_file

    found = load_file(tmp_path / "out.safetensors")
    bundle = load(folder)
    torch.testing.assert_close(found["images"], bundle.images)
    assert soft is None or torch.equal(found["targets"], soft)
    assert (found["out"].argmax(1) == labels).float().mean() > 0.8
    lines = [line for line in card_code(folder).splitlines() if line]
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 120


def test_the_code_of_the_card_is_short(tmp_path: Path) -> None:
    lines = [line for line in card_code(write(tmp_path / "bundle")).splitlines() if line]
    assert len(lines) <= 36
    assert max(map(len, lines)) <= 110


def test_the_card_warns_where_images_started_from_real_ones(tmp_path: Path) -> None:
    noise = (write(tmp_path / "noise") / "README.md").read_text()
    real = write(tmp_path / "real", make_set(recipe={"method": "mtt", "init": "real"})) / "README.md"
    head, _, _ = real.read_text().partition("## What it is worth")
    assert "init: real" in head
    assert "Handle this bundle as patient data" in head
    assert "init: real" not in noise
    for card in (noise, real.read_text()):
        assert "no formal guarantee" in card
        assert "No attack has been measured" in card
        assert "not for diagnosis" in card


def test_the_card_shows_the_comparison_and_the_notice(tmp_path: Path) -> None:
    figure = Interval(0.61, 0.55, 0.67)
    row = Row("iadd", "convnet", 9, 1, (0,), "network", figure, figure, (), (), None, None, 0.6, (), (), ())
    notes = ("Class Normal has 4 test patients.",)
    comparison = Comparison(("Normal", "Ill"), (row,), (), 40, 20, bootstrap=9, confidence=0.95, seed=0, notes=notes)
    card = (write(tmp_path / "a", comparison=comparison, notice="Confounded by source.") / "README.md").read_text()
    assert "| distilled images (IADD) | convnet | 9 | 0.610 [0.550, 0.670] | 0.610 [0.550, 0.670] |" in card
    assert "Class Normal has 4 test patients." in card
    assert "**Confounded by source.**" in card
    assert "Not evaluated" in (write(tmp_path / "b") / "README.md").read_text()


def test_the_card_says_what_its_code_leaves_out(tmp_path: Path) -> None:
    erased = dataclasses.replace(make_set().training, augment=AugmentConfig(shift=0.1, cutout=0.1))
    assert (
        "erases squares or flips images" in (write(tmp_path / "e", make_set(training=erased)) / "README.md").read_text()
    )
    training = dataclasses.replace(make_set().training, augment=AugmentConfig(shift=0.1))
    card = (write(tmp_path / "a", make_set(training=training, network=NetworkConfig(name="vgg11")))) / "README.md"
    assert "these lines do not" not in card.read_text()
    assert "distilled with vgg11; these lines train a ConvNet" in card.read_text()
