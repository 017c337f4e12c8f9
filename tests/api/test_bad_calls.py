"""Bad calls: each is refused before anything is trained, by an error with argument, value and what may be given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import medidistill
from medidistill.errors import ArgumentError, MedidistillError

from .api_example import CLASSES, FAST, patients, stripes

X, Y = stripes()
NAN = X.astype(np.float32) / 255
NAN[3, 4, 5] = np.nan
FEW = [f"{CLASSES[k]}-{number % 2}" for number, k in enumerate(Y)]  # two patients of each class


class Multi:
    """A MedMNIST object with several findings an image."""

    imgs, labels = X, np.ones((60, 14), dtype=int)
    info = {"task": "multi-label, binary-class", "label": {"0": "a", "1": "b"}, "python_class": "ChestMNIST"}  # noqa: RUF012


class Dropping(nn.Module):
    """A network with dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, 3))

    def forward(self, x):
        return self.layers(x)


def normed():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


# name: (data, arguments, words of the message)
CALLS = {
    "a folder that is not there": ("no-such-folder", {}, "data='no-such-folder': must be a folder"),
    "a number as data": (5, {}, "data=int: must be a folder"),
    "arrays without labels": (X, {}, "labels=None: must be one label an image"),
    "fewer labels than images": (X, {"labels": Y[:-1]}, "labels=59 entries: must be as many"),
    "labels twice": ((X, Y), {"labels": Y}, "labels=given: must be None"),
    "multi-label": (X, {"labels": np.ones((60, 3), dtype=int)}, "multi-label is refused"),
    "a multi-label MedMNIST object": (Multi(), {}, "multi-label"),
    "labels of other lengths": (X, {"labels": [[0, 1]] * 30 + [[0]] * 30}, "multi-label"),
    "one class": (X, {"labels": np.zeros(60, dtype=int)}, "labels=1 class: must be 2 to 100 classes"),
    "an empty class": (X, {"labels": Y, "class_names": [*CLASSES, "d"]}, "no image of class 'd'"),
    "an empty class between": (X, {"labels": np.where(Y == 1, 3, Y)}, "no image of class '1'"),
    "101 classes": (np.zeros((303, 16, 16)), {"labels": np.arange(303) % 101}, "2 to 100 classes"),
    "a negative label": (X, {"labels": Y - 1}, "labels=-1: must be >= 0"),
    "a label beyond the names": (X, {"labels": Y, "class_names": ["a", "b"]}, "labels=2: must be in 0..1"),
    "a label of half": (X, {"labels": Y + 0.5}, "labels=floats"),
    "a missing label": (X, {"labels": ["a", None, "b"] * 20}, "labels[1]=None: must be a class name"),
    "names and numbers": (X, {"labels": ["covid", "normal", 0, 1] * 15}, "labels[2]=0: must be a class name (text)"),
    "an unknown class name": (X, {"labels": ["a", "b", "q"] * 20, "class_names": ["a", "b"]}, "labels='q'"),
    "a class name twice": (X, {"labels": Y, "class_names": ["a", "a", "b"]}, "class_names='a': must be given once"),
    "class names as one text": (X, {"labels": Y, "class_names": "abc"}, "class_names='abc'"),
    "NaN": (NAN, {"labels": Y}, "data=1 values that are NaN or infinite"),
    "normalised images": (X / 128.0 - 1, {"labels": Y}, "must not be normalised yet"),
    "floats beyond 255": (X.astype(np.float32) * 4, {"labels": Y}, "give value_range"),
    "a range that is left": (X, {"labels": Y, "value_range": (0, 100)}, "value_range=(0, 100)"),
    "a range upside down": (X, {"labels": Y, "value_range": (1, 0)}, "low < high"),
    "two channels": (np.zeros((60, 2, 16, 16)), {"labels": Y}, "1 or 3 channels"),
    "images of five pixels": (X[:, :5, :5], {"labels": Y}, "at least 16 pixels"),
    "no image": (X[:0], {"labels": []}, "N >= 1"),
    "texts as images": (["a.png", "b.png"], {}, "data[0]=str"),
    "fewer groups than images": (X, {"labels": Y, "groups": patients()[:-1]}, "groups=59 entries"),
    "a missing patient": (X, {"labels": Y, "groups": [None, *patients()[1:]]}, "groups[0]=None"),
    "a missing patient as text": (X, {"labels": Y, "groups": ["nan", *patients()[1:]]}, "groups[0]='nan'"),
    "too few patients": (X, {"labels": Y, "groups": FEW}, "groups=2 patient(s) of class '0': must be at least 3"),
    "a patient in two splits": (
        {"train": [{"image": X[i], "label": i % 3, "patient_id": f"{i % 9}"} for i in range(30)]}
        | {"test": [{"image": X[i], "label": i % 3, "patient_id": f"{i % 9}"} for i in range(30, 60)]},
        {},
        "groups=a patient in train and test",
    ),
    "splits without train": ({"test": (X, Y)}, {}, "keys ['test']"),
    "ipc of zero": (X, {"labels": Y, "ipc": 0}, "ipc=0: must be in [1, 100000]"),
    "ipc as text": (X, {"labels": Y, "ipc": "10"}, "ipc='10': must be a whole number"),
    "ipc beyond the images": (X, {"labels": Y, "ipc": 50}, "ipc=50: must be at most"),
    "an unknown method": (X, {"labels": Y, "method": "iad"}, "did you mean 'iadd'"),
    "an unknown network": (X, {"labels": Y, "network": "resnet19"}, "did you mean 'resnet18'"),
    "a network with dropout": (X, {"labels": Y, "network": Dropping()}, "a network without dropout"),
    "a network with running statistics": (X, {"labels": Y, "network": normed}, "buffers (running statistics)"),
    "a network of two outputs": (
        X,
        {"labels": Y, "network": nn.Sequential(nn.Flatten(), nn.Linear(256, 2))},
        "returns (1, 2) for one image",
    ),
    "a network for other images": (
        X,
        {"labels": Y, "network": nn.Sequential(nn.Flatten(), nn.Linear(100, 3))},
        "fails on such an image",
    ),
    "a factory of no network": (X, {"labels": Y, "network": lambda: 3}, "returns int"),
    "resnet18 to distill with": (X, {"labels": Y, "network": "resnet18"}, "network='resnet18'"),
    "a device that is not there": (X, {"labels": Y, "device": "tpu"}, "device='tpu': must be 'cpu', 'cuda' or 'auto'"),
    "a numbered GPU": (X, {"labels": Y, "device": "cuda:1"}, "CUDA_VISIBLE_DEVICES"),
    "a seed of a half": (X, {"labels": Y, "seed": 0.5}, "seed=0.5: must be a whole number"),
    "a setting that does not exist": (X, {"labels": Y, "outer_step": 5}, "did you mean 'outer_steps'"),
    "a setting out of range": (X, {"labels": Y, "lr_images": -1.0}, "lr_images=-1.0: must be in"),
    "an image size of eight": (X, {"labels": Y, "image_size": 8}, "image_size"),
    "an unknown fit": (X, {"labels": Y, "fit": "squash"}, "fit='squash': must be 'crop' or 'pad'"),
    "resume without a folder": (X, {"labels": Y, "resume": True}, "resume=True: must be False"),
    "progress as text": (X, {"labels": Y, "progress": "yes"}, "progress='yes': must be True or False"),
    "a distilled set again": (None, {}, "is not distilled again"),
}


@pytest.mark.parametrize("call", CALLS)
def test_refuses(call, request):
    data, arguments, words = CALLS[call]
    if data is None:
        data = request.getfixturevalue("result").set
    with pytest.raises((ValueError, TypeError)) as caught:
        medidistill.distill(data, **(FAST | arguments))
    message = str(caught.value)
    assert isinstance(caught.value, MedidistillError)
    assert words in message
    assert "\n" not in message
    assert "must be" in message
    assert len(message) < 400


def test_the_table_has_at_least_forty_calls():
    assert len(CALLS) >= 40


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_refuses_a_gpu_that_is_not_there():
    with pytest.raises(ValueError, match="device='cuda': must be a device that is there"):
        medidistill.distill(X, labels=Y, **(FAST | {"device": "cuda"}))


def test_errors_hold_name_value_allowed_and_remedy():
    with pytest.raises(ArgumentError) as caught:
        medidistill.distill(X, labels=Y, **(FAST | {"device": "cuda:1"}))
    error = caught.value
    assert (error.name, error.value, error.allowed) == ("device", "'cuda:1'", "'cpu', 'cuda' or 'auto'")
    assert "CUDA_VISIBLE_DEVICES" in error.remedy
    import pickle

    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("arguments", [{"folder": "x.html"}, {"path": 3}, {"path": "page.txt"}])
def test_report_refuses_a_bad_path(result, tmp_path, arguments, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.html").write_text("")
    path = arguments.get("path", "x.html")
    with pytest.raises((ValueError, TypeError), match="path="):
        result.report(path)


@pytest.mark.parametrize(("profile", "workers"), [("slow", 1), ("quick", 0), ("quick", True)])
def test_audit_refuses_a_bad_argument(result, profile, workers):
    with pytest.raises(ValueError, match=r"(profile|workers)="):
        result.audit(profile, workers=workers)


def test_a_release_from_a_temporary_run_is_refused(result, tmp_path):
    with pytest.raises(ValueError, match="name folder="):
        result.export(tmp_path / "bundle", release=True)
    assert not (tmp_path / "bundle").exists()
