"""Use of a set: as a Dataset, trained from with users' networks, predicted with on users' images."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from monai.data import Dataset as MonaiDataset
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

import medidistill
from medidistill.errors import ArgumentError, ConfigError
from medidistill.export.reading import Bundle
from medidistill.networks import RepeatChannel, register_network

from ..export.bundle_example import make_set, striped
from .api_example import CLASSES, FAST, stripes


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    plain = make_set()
    return Bundle(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})


@pytest.fixture(scope="module")
def trained(bundle) -> nn.Module:
    return bundle.train()


def test_a_set_is_a_dataset_of_images_and_targets(bundle):
    assert isinstance(bundle, Dataset)
    image, label = bundle[2]
    assert tuple(image.shape) == (1, 16, 16)
    assert (label.dtype, int(label)) == (torch.int64, 2)
    assert len(list(bundle)) == 9
    with pytest.raises(IndexError):
        bundle[9]
    batch, targets = next(iter(DataLoader(bundle, batch_size=4)))
    assert (tuple(batch.shape), tuple(targets.shape)) == ((4, 1, 16, 16), (4,))


def test_soft_labels_are_the_targets_where_a_set_has_them():
    soft = torch.softmax(torch.arange(27.0).view(9, 3), 1)
    chosen = make_set(soft_labels=soft)
    assert torch.equal(chosen[4][1], soft[4])
    assert torch.equal(chosen.to_monai()[4]["soft_label"], soft[4])
    assert chosen.to_numpy()[1].shape == (9, 3)


def test_the_loader_repeats_by_its_seed_and_refuses_a_bad_size(bundle):
    one, same, other = (torch.cat([y for _, y in bundle.dataloader(2, seed=seed)]) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len(bundle.dataloader()) == 1
    for size in (0, True, 2.5):
        with pytest.raises(ValueError, match="batch_size="):
            bundle.dataloader(size)


def test_to_numpy_and_to_monai_hold_the_same_images(bundle):
    images, targets = bundle.to_numpy()
    assert (images.dtype, targets.dtype) == (np.float32, np.int64)
    items = bundle.to_monai()
    found = MonaiDataset(items, transform=lambda item: {**item, "image": item["image"] * 2})
    assert torch.equal(found[3]["image"], 2 * torch.from_numpy(images[3]))
    assert items[3]["label"] == targets[3] == 0
    assert items[3]["image_meta_dict"]["synthetic"] is True
    assert items[3]["class_name"] == bundle.class_names[0]


def test_to_moves_tensors_and_keeps_the_kind(bundle):
    moved = bundle.to(torch.device("cpu"))
    assert type(moved) is Bundle
    assert torch.equal(moved.images, bundle.images)
    assert moved.facts == bundle.facts
    kept = torch.utils.data.default_collate([moved[0], moved[1]])
    assert kept[0].device.type == "cpu"


def test_nearest_finds_the_image_itself_and_refuses_other_shapes(bundle):
    distances, index = bundle.nearest(torch.flip(bundle.images, [0]) * 3 + 1)
    assert index.tolist() == list(range(8, -1, -1))
    assert distances.abs().max() < 1e-5
    with pytest.raises(ValueError, match="real="):
        bundle.nearest(torch.zeros(3, 1, 8, 8))


def test_show_draws_each_image_once(bundle, tmp_path):
    figure = bundle.show(tmp_path / "set.png", most=2)
    assert sum(len(axes.images) for axes in figure.axes) == 6
    assert Image.open(tmp_path / "set.png").size[0] > 50


def test_a_torchvision_network_gets_its_one_channel_three_times(bundle):
    network = resnet18(num_classes=3)
    before = network.fc.weight.clone()
    found = bundle.train(network, steps=2)
    assert isinstance(found, RepeatChannel)
    assert found.network is network
    assert not torch.equal(before, network.fc.weight)
    assert bundle.predict(found, striped(4, seed=1)[0]).shape == (4, 3)


class TwoOutputs(nn.Sequential):
    """A network for two classes."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(256, 2))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (resnet18(num_classes=5), r"returns \(1, 5\)"),
        (TwoOutputs(), r"returns \(1, 2\)"),
        (nn.Conv2d(2, 3, 3), "for 2 input channel"),
        (nn.Sequential(nn.Flatten(), nn.Linear(100, 3)), "fails on such an image"),
        ("resnet18", "network=str"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_and_left_alone(bundle, network, words):
    state = copy.deepcopy(network.state_dict()) if isinstance(network, nn.Module) else {}
    with pytest.raises((ValueError, TypeError), match=words):
        bundle.train(network)
    if state:
        assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
        assert network.training


def test_the_recipe_can_be_changed_and_unknown_fields_are_refused(bundle):
    short, long = bundle.train(steps=1), bundle.train(steps=5)
    assert not torch.equal(next(short.parameters()), next(long.parameters()))
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        bundle.train(step=3)
    with pytest.raises(ConfigError, match="must be in"):
        bundle.train(lr=-1.0)


@pytest.mark.parametrize("form", ["0..1", "uint8", "0..255 float", "uint16", "numpy", "one image"])
def test_predict_takes_every_range_as_the_same_images(bundle, trained, form):
    images = (striped(6, seed=2)[0] * 255).round() / 255
    given = {
        "0..1": images,
        "uint8": (images * 255).round().to(torch.uint8),
        "0..255 float": images * 255,
        "uint16": (images * 255).round().to(torch.int32).mul(16).to(torch.uint16),
        "numpy": images[:, 0].numpy(),
        "one image": images[0, 0],
    }[form]
    expected = bundle.predict(trained, images)
    found = bundle.predict(trained, given)
    assert torch.allclose(found, expected[: len(found)], atol=1e-3)


def test_predict_reads_dicom_and_png_files(bundle, trained, tmp_path):
    from medidistill.config import PhantomConfig
    from medidistill.ingest import generate_phantom

    folder = generate_phantom(tmp_path / "x", PhantomConfig(patients_per_class=5, images_per_patient=1, size=64))
    files = sorted(folder.rglob("*.dcm"))[:3]
    Image.fromarray(stripes(1)[0][0]).save(tmp_path / "one.png")
    assert bundle.predict(trained, files).shape == (3, 3)
    assert bundle.predict(trained, str(tmp_path / "one.png")).shape == (1, 3)
    with pytest.raises(ValueError, match="path of a file that exists"):
        bundle.predict(trained, tmp_path / "absent.dcm")


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.randn(2, 1, 16, 16), "must not be normalised yet"),
        (torch.full((2, 1, 16, 16), float("nan")), "NaN"),
        (torch.zeros(2, 1, 8, 8), r"must be \(N, 1, 16, 16\)"),
        (torch.zeros(2, 3, 16, 16), r"must be \(N, 1, 16, 16\)"),
        (torch.full((2, 1, 16, 16), 900.0), "give value_range"),
        ("not a file", "path of a file that exists"),
        ({"a": 1}, "images=dict"),
    ],
)
def test_predict_refuses_what_it_cannot_normalise(bundle, trained, images, words):
    with pytest.raises((ValueError, TypeError), match=words):
        bundle.predict(trained, images)


class Small(nn.Module):
    """A network of a user: no dropout, no running statistics."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.GroupNorm(2, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        )
        self.head = nn.Linear(16, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).flatten(1))


@pytest.mark.parametrize("form", ["class", "instance"])
def test_a_users_network_distils_evaluates_and_is_named_by_its_source(form, tmp_path):
    images, labels = stripes()
    settings = FAST | {"network": Small if form == "class" else Small(), "evaluate": True}
    settings |= {"evaluate.num_networks": 1, "evaluate.full_epochs": 1, "evaluate.bootstrap": 100}
    settings |= {
        "evaluate.small_set_training": {"steps": 3},
        "evaluate.adaptive": {"steps": 3},
        "evaluate.arms": ["full", "iadd"],
    }
    del settings["evaluate"]
    found = medidistill.distill(images, labels=labels, class_names=CLASSES, **settings)
    assert found.set.network.name.startswith("custom-Small-")
    assert set(found.table["network"]) == {found.set.network.name}
    bundle = medidistill.load(found.export(tmp_path / "bundle"))
    assert bundle.facts["architecture"]["name"] == found.set.network.name
    assert "distilled with custom-Small-" in (tmp_path / "bundle" / "README.md").read_text()
    assert isinstance(bundle.train(steps=1), Small)


def test_another_source_has_another_name_and_the_same_source_the_same():
    def plain():
        class Net(Small):
            """A network."""

        return Net

    def doubled():
        class Net(Small):
            """A network of the same name."""

            def forward(self, x):
                return 2 * super().forward(x)

        return Net

    assert register_network(plain()).name == register_network(plain()).name
    assert register_network(plain()).name != register_network(doubled()).name
    assert register_network(plain()()).name != register_network(doubled()()).name


def test_copies_of_a_network_start_from_other_weights_and_leave_it_alone():
    from medidistill.networks import make_network
    from medidistill.seeding import stream

    mine = Small()
    before = copy.deepcopy(mine.state_dict())
    config = register_network(mine)
    shape = {"channels": 1, "image_size": 16, "num_classes": 3}
    one, two, same = (make_network(config, **shape, generator=stream(seed, "x")) for seed in (0, 1, 0))
    assert not torch.equal(one.head.weight, two.head.weight)
    assert torch.equal(one.head.weight, same.head.weight)
    assert all(torch.equal(before[name], value) for name, value in mine.state_dict().items())


def test_a_network_without_reset_parameters_asks_for_a_factory():
    class Own(nn.Module):
        """A layer with parameters of its own."""

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x.mean((1, 2, 3), keepdim=False)[:, None] * self.scale

    with pytest.raises(ArgumentError, match="pass a factory"):
        register_network(Own())
    assert register_network(Own).name.startswith("custom-Own-")


def test_a_network_of_another_process_is_named_in_the_refusal(bundle):
    import dataclasses

    from medidistill.config import NetworkConfig

    foreign = dataclasses.replace(bundle, network=NetworkConfig(name="custom-Foreign-0123456789ab"))
    with pytest.raises(ConfigError, match="not registered in this process"):
        foreign.train()
