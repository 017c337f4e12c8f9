"""Grad-CAM: it points at what decides, for every architecture, and cases are drawn without looking at the maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medidistill.config import NetworkConfig
from medidistill.errors import ConfigError
from medidistill.evaluate.saliency import draw_cases, grad_cam, outcomes
from medidistill.networks import make_network
from medidistill.seeding import stream


class Corner(nn.Module):
    """Class 1 is brightness in the upper left quarter, class 0 in the lower right one: nothing else counts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.conv.weight.data = torch.ones(2, 1, 1, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.conv(x))
        mask = torch.zeros_like(maps[:, :1])
        mask[:, :, :4, :4] = 1
        return torch.stack([-(maps[:, 0] * mask[:, 0]).sum((1, 2)), (maps[:, 1] * mask[:, 0]).sum((1, 2))], dim=1)


def test_the_map_is_bright_where_the_evidence_is():
    image = torch.zeros(1, 1, 8, 8)
    image[..., :4, :4] = 1.0
    (for_it,) = grad_cam(Corner(), image, [1])
    assert for_it[:3, :3].min() == 1.0
    assert for_it[5:, 5:].max() == 0.0
    # nothing speaks for class 0: its slope is negative everywhere, and no map is better than a turned one
    (against,) = grad_cam(Corner(), image, [0])
    assert against.max() == 0.0


def test_each_image_has_its_own_class_and_scale():
    images = torch.zeros(2, 1, 8, 8)
    images[0, :, :4, :4], images[1, :, :4, :4] = 1.0, 5.0
    both = grad_cam(Corner(), images, [1, 1])
    assert both.shape == (2, 8, 8)
    assert both[0] == pytest.approx(both[1])
    mixed = grad_cam(Corner(), images, [0, 1])
    assert mixed[0].max() == 0.0
    assert mixed[1].max() == 1.0
    with pytest.raises(ConfigError, match="1 classes for 2 images"):
        grad_cam(Corner(), images, [1])


@pytest.mark.parametrize("name", ["convnet", "resnet18", "vgg11", "alexnet", "densenet121"])
def test_every_architecture_can_be_explained(name):
    config = NetworkConfig(name=name, width=4)
    network = make_network(config, channels=1, image_size=64, num_classes=3, generator=stream(0, "saliency"))
    images = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    called = int(network.eval()(images).argmax())
    before = network(images).detach()
    (found,) = grad_cam(network, images, [called])
    assert found.shape == (64, 64)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert 0 <= found.min() <= found.max() <= 1
    assert torch.equal(network(images).detach(), before)


def test_a_network_without_convolutions_is_refused():
    with pytest.raises(ConfigError, match="no convolution"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 1, 2, 2), [0])


def test_outcomes_part_the_images():
    found = outcomes("full", [1, 1, 0, 0, 1], "iadd", [1, 0, 1, 0, 1])
    assert {name: places.tolist() for name, places in found.items()} == {
        "both are right": [0, 4],
        "only full is right": [1],
        "only iadd is right": [2],
        "both are wrong": [3],
    }


def test_cases_are_drawn_by_lot_and_no_patient_comes_twice():
    found = {"a": np.arange(0, 40), "b": np.arange(40, 60), "c": np.array([], dtype=np.int64)}
    patients = [f"p{i // 4}" for i in range(40)] + [f"p{i % 10}" for i in range(20)]
    drawn = draw_cases(found, patients, 3, seed=1)
    assert drawn == draw_cases(found, patients, 3, seed=1)
    assert drawn != draw_cases(found, patients, 3, seed=2)
    assert [len(one) for one in drawn.values()] == [3, 3, 0]
    assert set(drawn["a"]) <= set(range(40))
    assert drawn["a"] != [0, 4, 8]
    everyone = [patients[i] for one in drawn.values() for i in one]
    assert len(set(everyone)) == len(everyone)
    # all ten patients are used up by the first outcome
    assert [len(one) for one in draw_cases(found, patients, 20, seed=1).values()] == [10, 0, 0]
