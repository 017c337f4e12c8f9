"""`medidistill.distill`: every kind of data, the split by patient, the result, seeds, interrupts."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import medidistill
from medidistill.config import PhantomConfig
from medidistill.distilled_set import LabelledImages
from medidistill.ingest import generate_phantom
from medidistill.pipeline.prepared import PreparedData

from .api_example import CLASSES, EVALUATED, FAST, patients, stripes


class Info:
    """What a MedMNIST object has: arrays, labels (N, 1), and names by number."""

    def __init__(self, images, labels):
        self.imgs, self.labels = images, labels[:, None]
        self.info = {"task": "multi-class", "label": {str(k): name for k, name in enumerate(CLASSES)}}


def containers():
    images, labels = stripes()
    names = [CLASSES[k] for k in labels]
    floats = torch.from_numpy(images).float()[:, None] / 255
    part = slice(0, 60, 2), slice(1, 60, 4), slice(3, 60, 4)
    return {
        "uint8 array": (images, {"labels": labels}),
        "uint16 array": (images.astype(np.uint16) * 16, {"labels": labels}),
        "float tensor in [0, 1]": (floats, {"labels": torch.from_numpy(labels)}),
        "floats in [0, 255]": (images.astype(np.float32), {"labels": names}),
        "channels last": (np.repeat(images[..., None], 3, axis=3), {"labels": labels}),
        "pair": ((images, labels), {}),
        "torch Dataset": (TensorDataset(floats, torch.from_numpy(labels)), {}),
        "MONAI items": ([{"image": x, "label": int(y)} for x, y in zip(images, labels, strict=True)], {}),
        "MedMNIST object": (Info(images, labels), {}),
        "splits": (
            {s: (images[p], labels[p]) for s, p in zip(("train", "val", "test"), part, strict=True)},
            {},
        ),
        "LabelledImages": (
            LabelledImages(floats, torch.from_numpy(labels), tuple(CLASSES), tuple(patients())),
            {},
        ),
    }


@pytest.mark.parametrize("kind", containers())
def test_distils_every_container(kind):
    data, arguments = containers()[kind]
    found = medidistill.distill(data, **arguments, **FAST)
    channels = 3 if kind == "channels last" else 1
    assert found.status == "completed"
    assert tuple(found.set.images.shape) == (12, channels, 16, 16)  # four of half the side in the bytes of one
    assert found.set.num_classes == 3
    named = kind in ("floats in [0, 255]", "MedMNIST object", "LabelledImages")
    assert list(found.set.class_names) == (CLASSES if named else ["0", "1", "2"])
    assert any("unknown" in note for note in found.notes) is (kind != "LabelledImages")


def test_distils_a_folder_of_dicom_with_its_table(tmp_path):
    folder = generate_phantom(tmp_path / "xrays", PhantomConfig(patients_per_class=5, images_per_patient=1, size=64))
    found = medidistill.distill(folder, image_size=16, folder=tmp_path / "run", **FAST)
    assert tuple(found.set.images.shape) == (12, 1, 16, 16)
    assert "normal" in found.set.class_names
    assert found.notes == ()
    assert (tmp_path / "run" / "run.yaml").is_file()
    assert found.folder == tmp_path / "run"


def test_patients_are_disjoint_over_splits(tmp_path):
    images, labels = stripes()
    found = medidistill.distill(images, labels=labels, groups=patients(), folder=tmp_path / "run", **FAST)
    data = PreparedData.read(tmp_path / "run" / "ingest")
    parts = [set(part.patient_ids) for part in (data.train, data.val, data.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == 30
    assert found.notes == ()
    assert not any("PHANTOM" in patient for part in parts for patient in part)


def test_same_pixels_share_a_split_where_patients_are_unknown(tmp_path):
    images, labels = stripes(30)
    twice, names = np.concatenate([images, images]), np.concatenate([labels, labels])
    medidistill.distill(twice, labels=names, folder=tmp_path / "run", **FAST)
    data = PreparedData.read(tmp_path / "run" / "ingest")
    parts = [set(part.patient_ids) for part in (data.train, data.val, data.test)]
    assert sum(map(len, parts)) == 30
    assert len(data.train) + len(data.val) + len(data.test) == 60


def test_given_splits_with_the_same_image_twice_are_kept_and_said():
    images, labels = stripes()
    found = medidistill.distill({"train": (images[:40], labels[:40]), "test": (images[30:], labels[30:])}, **FAST)
    assert any("10 images are in more than one split" in note for note in found.notes)


@pytest.mark.parametrize(
    ("fit", "shape", "words"),
    [("crop", (20, 40), "central square"), ("pad", (20, 40), "padded"), ("crop", (24, 24), "")],
)
def test_images_that_are_not_square_follow_the_stated_rule(fit, shape, words):
    images, labels = stripes(shape=shape)
    found = medidistill.distill(images, labels=labels, fit=fit, image_size=16, **FAST)
    assert found.set.images.shape[2:] == (16, 16)
    assert any("resized to 16 x 16" in note for note in found.notes)
    assert any("not square" in note and words in note for note in found.notes) is (shape[0] != shape[1])


def test_crop_keeps_the_middle_and_pad_the_whole():
    from medidistill.api.inputs import check_images
    from medidistill.api.items import raw_images

    wide = np.zeros((2, 16, 32), dtype=np.uint8)
    wide[:, :, :4] = 255
    raw = raw_images(wide, [0, 1])
    cropped = check_images(raw, fit="crop").images
    padded = check_images(raw, fit="pad").images
    assert cropped.max() == 0
    assert tuple(cropped.shape) == (2, 1, 16, 16)
    assert tuple(padded.shape) == (2, 1, 32, 32)
    assert padded[:, 0, :8].max() == 0
    assert padded[:, 0, 8:24, :4].min() == 1


@pytest.mark.usefixtures("blank_figures")
def test_result_has_verdict_table_figure_report_and_bundle(result, tmp_path):
    assert result.status == "completed"
    assert list(result.table["trained_on"]) == ["full", "packed", "random", "iadd"]
    assert result.table["balanced_accuracy"].between(0, 1).all()
    assert result.verdict.colour.value in ("red", "amber", "green")
    assert result.verdict.patients_known
    assert len(result.plot().axes) >= 3
    page = result.report(tmp_path / "made" / "report.html")
    assert result.verdict.sentence[:30] in page.read_text()
    bundle = medidistill.load(result.export(tmp_path / "bundle"))
    assert torch.equal(bundle.images, result.set.images)
    assert bundle.facts["privacy"]["audited"] is False
    assert result.export(tmp_path / "again").is_dir()


def test_a_result_and_its_bundle_train_the_same_network(result, tmp_path):
    bundle = medidistill.load(result.export(tmp_path / "bundle"))
    kept = medidistill.load(result.folder / "distill" / "iadd" / "distilled.safetensors")
    assert kept.training != bundle.training  # validation chose another one than images were distilled with
    assert result.set.training == bundle.training
    ours, theirs = result.set.train(seed=3), bundle.train(seed=3)
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_representations_are_short(result, tmp_path):
    bundle = medidistill.load(result.export(tmp_path / "bundle"))
    for shown in (result, result.set, bundle):
        assert len(repr(shown)) < 1000
        assert "tensor(" not in repr(shown)
        assert len(shown._repr_html_()) < 6000
    assert "12 of 1 x 16 x 16" in repr(bundle)
    assert "<td>" in result.set._repr_html_()


def test_html_escapes_class_names():
    images, labels = stripes()
    found = medidistill.distill(images, labels=labels, class_names=["<b>", "a", "c"], **FAST)
    assert "<b>" not in found.set._repr_html_()
    assert "&lt;b&gt;" in found.set._repr_html_()


def test_report_and_export_need_an_evaluation(tmp_path):
    images, labels = stripes()
    found = medidistill.distill(images, labels=labels, **FAST)
    assert found.verdict is None
    assert found.table.empty
    assert "not evaluated" in repr(found)
    for call in (found.report, found.export):
        with pytest.raises(ValueError, match="evaluate=True"):
            call(tmp_path / "x.html")
    assert len(found.plot().axes) >= 3


def test_unknown_patients_are_said_in_result_and_verdict():
    images, labels = stripes()
    found = medidistill.distill(images, labels=labels, **EVALUATED)
    assert "patients: unknown" in repr(found)
    assert not found.verdict.patients_known


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_audit_of_a_result_attacks_its_set(tmp_path):
    images, labels = stripes()
    found = medidistill.distill(images, labels=labels, groups=patients(), **FAST)
    document = found.audit("quick")
    assert {"membership_release", "canaries", "linkage"} <= set(document["audits"])
    assert document["set"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    images, labels = stripes()
    first, second, other = (
        medidistill.distill(images, labels=labels, seed=seed, **FAST).set.images for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_call_leaves_algorithms_and_the_random_state_as_they_were():
    images, labels = stripes()
    torch.manual_seed(7)
    before = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), Path.cwd()
    medidistill.distill(images, labels=labels, deterministic=True, **FAST)
    after = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), Path.cwd()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_threads_are_given_back():
    from medidistill.api.distilling import torch_unchanged

    before = torch.get_num_threads()
    with torch_unchanged():
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_threads_differ_from_one_by_rounding_alone():
    images, labels = stripes()
    one, two = (medidistill.distill(images, labels=labels, threads=n, **FAST).set.images for n in (1, 2))
    assert torch.allclose(one, two, atol=1e-3)


def test_a_temporary_run_goes_with_its_result():
    images, labels = stripes()
    found = medidistill.distill(images, labels=labels, **FAST)
    folder = found.folder
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0
    del found
    import gc

    gc.collect()
    assert not folder.exists()


def interrupt_when(file: Path) -> threading.Thread:
    """Send SIGINT to this process once a file is there, as a notebook does for its stop button."""

    def wait():
        for _ in range(2000):
            if file.exists():
                os.kill(os.getpid(), signal.SIGINT)
                return
            threading.Event().wait(0.01)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_an_interrupt_keeps_the_best_set_so_far(tmp_path):
    images, labels = stripes()
    long = FAST | {"outer_steps": 3000, "validate_every": 1000}
    thread = interrupt_when(tmp_path / "run" / "distill" / "iadd" / "checkpoint.safetensors")
    found = medidistill.distill(images, labels=labels, folder=tmp_path / "run", **long)
    thread.join()
    assert found.status == "stopped"
    assert tuple(found.set.images.shape) == (12, 1, 16, 16)
    assert 0 < found.set.recipe["outer_step"] < 3000
    assert "stopped" in repr(found)
    with pytest.raises(ValueError, match="resume=True"):
        found.export(tmp_path / "bundle")


def test_resume_finishes_a_run_and_refuses_other_images(tmp_path):
    images, labels = stripes()
    medidistill.distill(images, labels=labels, folder=tmp_path / "run", **FAST)
    history = tmp_path / "run" / "distill" / "iadd" / "history.json"
    assert len(json.loads(history.read_text())["entries"]) == 4
    more = FAST | {"outer_steps": 6}
    medidistill.distill(images, labels=labels, folder=tmp_path / "run", resume=True, **more)
    assert len(json.loads(history.read_text())["entries"]) == 6
    with pytest.raises(ValueError, match="other images"):
        medidistill.distill(255 - images, labels=labels, folder=tmp_path / "run", resume=True, **more)
    with pytest.raises(ValueError, match=r"already holds a run.*resume=True"):
        medidistill.distill(images, labels=labels, folder=tmp_path / "run", **FAST)
    with pytest.raises(ValueError, match=r"distill\.inner_steps: 2 -> 3"):
        medidistill.distill(images, labels=labels, folder=tmp_path / "run", resume=True, **(more | {"inner_steps": 3}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="nothing is overwritten"):
        medidistill.distill(images, labels=labels, folder=tmp_path / "mine", **FAST)
