from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from medidistill.config import AugmentConfig, NetworkConfig, TrainingConfig
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.errors import ConfigError
from medidistill.networks import (
    Compilations,
    CompiledByShape,
    ConvNet,
    ParameterLayout,
    augment,
    cross_entropy,
    draw,
    loss_function,
    make_network,
    predict,
    should_compile,
    train,
    train_on_distilled,
    watch_compilations,
)
from medidistill.networks.convnet import default_depth
from medidistill.networks.functional import instance_norm
from medidistill.seeding import stream


def build(name: str = "convnet", channels: int = 1, size: int = 16, **options: object) -> torch.nn.Module:
    config = NetworkConfig(name=name, **({"width": 4} | options))
    return make_network(config, channels=channels, image_size=size, num_classes=3, generator=stream(0, name))


def test_instance_norm_equals_the_fused_one_and_has_forward_mode() -> None:
    x, w, b = torch.randn(2, 3, 5, 5, dtype=torch.float64), torch.rand(3).double(), torch.rand(3).double()
    torch.testing.assert_close(instance_norm(x, w, b), F.instance_norm(x, weight=w, bias=b))
    _, tangent = torch.func.jvp(lambda v: instance_norm(v, w, b), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.zeros_like(x), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("size", "depth"), [(28, 3), (32, 3), (64, 4), (112, 5), (128, 5)])
def test_depth_follows_resolution(size: int, depth: int) -> None:
    assert default_depth(size) == depth


@pytest.mark.parametrize("norm", ["instance", "group", "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_convnet_shapes_and_an_instance_norm_makes_the_bias_pointless(norm: str, channels: int) -> None:
    network = build(channels=channels, norm=norm)
    assert network(torch.randn(2, channels, 16, 16)).shape == (2, 3)
    names = [name for name, _ in network.named_parameters()]
    assert ("features.0.bias" in names) == (norm != "instance")


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "alexnet", "densenet121", "vit"])
@pytest.mark.parametrize("channels", [1, 3])
def test_library_networks_take_one_and_three_channels(name: str, channels: int) -> None:
    for size in (32, 64):
        network = build(name, channels, size).eval()
        assert network(torch.randn(2, channels, size, size)).shape == (2, 3)
    with pytest.raises(ConfigError, match="at least"):
        build(name, channels, 15)


@pytest.mark.parametrize("name", ["convnet", "resnet18", "vit"])
def test_initial_weights_come_from_the_generator_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    one, two = build(name, size=32), build(name, size=32)
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_too_deep_a_network_names_the_limit() -> None:
    with pytest.raises(ConfigError, match=r"halved at most 4 times"):
        build(depth=5)


def test_flat_vector_round_trip_is_a_copy() -> None:
    network = build()
    layout = ParameterLayout.of(network)
    theta = layout.flatten(network)
    with torch.no_grad():
        next(network.parameters()).add_(1.0)
    assert not torch.equal(theta, layout.flatten(network))
    layout.load(network, theta)
    assert torch.equal(theta, layout.flatten(network))
    assert sum(place.stop - place.start for _, place in layout.slices()) == len(layout) == len(theta)


def test_loss_is_a_function_of_theta_and_refuses_running_statistics() -> None:
    network = build()
    x, q = torch.randn(5, 1, 16, 16), torch.tensor([0, 1, 2, 0, 1])
    theta = ParameterLayout.of(network).flatten(network)
    torch.testing.assert_close(loss_function(network)(theta, x, q), F.cross_entropy(network(x), q))
    with pytest.raises(ConfigError, match="running statistics"):
        loss_function(build("resnet18", size=32))


def test_cross_entropy_of_one_hot_equals_that_of_classes() -> None:
    logits, classes = torch.randn(4, 3), torch.tensor([2, 0, 1, 1])
    torch.testing.assert_close(cross_entropy(logits, F.one_hot(classes, 3).float()), cross_entropy(logits, classes))


def test_no_strength_leaves_images_as_they_are_and_flips_are_off_by_default() -> None:
    x = torch.randn(4, 1, 8, 8)
    assert augment(x, AugmentConfig(), draw(4, stream(0))) is x
    assert not AugmentConfig().flip


def test_flip_mirrors_about_half_of_the_images() -> None:
    x = torch.randn(40, 1, 8, 8)
    out = augment(x, AugmentConfig(flip=True), draw(40, stream(0)))
    same = (out - x).abs().amax(dim=(1, 2, 3)) < 1e-5
    mirrored = (out - x.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert bool((same ^ mirrored).all())
    assert 8 < int(mirrored.sum()) < 32


def test_shift_moves_by_the_drawn_share_of_the_side() -> None:
    x = torch.zeros(1, 1, 16, 16)
    x[0, 0, 8, 8] = 1.0
    parameters = torch.zeros(1, 9)
    parameters[0, 1] = 1.0
    out = augment(x, AugmentConfig(shift=0.25), parameters)
    assert (int(out[0, 0].argmax()) // 16, int(out[0, 0].argmax()) % 16) == (8, 4)


def test_cutout_erases_about_the_square_it_says() -> None:
    x = torch.ones(1, 1, 32, 32)
    erased = int((augment(x, AugmentConfig(cutout=0.5), torch.zeros(1, 9)) == 0).sum())
    assert erased == 256


@pytest.mark.parametrize("part", ["shift", "scale", "rotate", "brightness", "contrast", "cutout"])
def test_every_part_changes_images_and_has_a_gradient(part: str) -> None:
    x = torch.randn(3, 1, 16, 16, requires_grad=True)
    strength = 20.0 if part == "rotate" else 0.3
    out = augment(x, AugmentConfig(**{part: strength}), draw(3, stream(5)))
    assert not torch.allclose(out, x)
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    assert float(gradient.abs().sum()) > 0


def separable(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(count) % 3
    images = torch.randn(count, 1, 16, 16, generator=stream(0, "x"))
    for label in range(3):
        images[labels == label, :, label * 5 : label * 5 + 5] += 2.0
    return images, labels


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_training_learns_and_is_reproducible(schedule: str) -> None:
    images, labels = separable()
    config = TrainingConfig(steps=60, batch_size=20, lr=0.02, schedule=schedule, augment=AugmentConfig(shift=0.05))
    probabilities = []
    for _ in range(2):
        network = build()
        train(network, images, labels, config, stream(0, "b"))
        probabilities.append(predict(network, images))
    assert torch.equal(*probabilities)
    assert float((probabilities[0].argmax(1) == labels).float().mean()) > 0.9
    torch.testing.assert_close(probabilities[0].sum(1), torch.ones(60))


def test_networks_with_running_statistics_train_too() -> None:
    images, labels = separable()
    network = build("resnet18", size=32)
    big = F.interpolate(images, size=32)
    train(network, big, labels, TrainingConfig(steps=15, batch_size=30, lr=0.02), stream(0, "b"))
    assert float((predict(network, big).argmax(1) == labels).float().mean()) > 0.6


def test_networks_with_dropout_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", refuse)
    images, labels = separable(3)
    config = TrainingConfig(steps=1, batch_size=3)
    train(build("alexnet", size=64), F.interpolate(images, size=64), labels, config, stream(0, "b"), compile=True)
    with pytest.raises(AssertionError, match="compiled"):
        train(build(width=5), images, labels, config, stream(0, "b"), compile=True)


def test_flat_training_equals_the_library_optimiser() -> None:
    images, labels = separable(12)
    config = TrainingConfig(steps=5, batch_size=12, lr=0.05, momentum=0.9, weight_decay=0.01, schedule="constant")
    ours, theirs = build(), build()
    train(ours, images, labels, config, stream(0, "b"))
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(theirs(images), labels).backward()
        optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_bad_training_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="as many labels as images"):
        train(build(), torch.zeros(2, 1, 16, 16), torch.zeros(3, dtype=torch.int64), TrainingConfig(), stream(0))


def test_a_distilled_set_trains_a_network_by_its_own_recipe() -> None:
    images, labels = separable(9)
    training = TrainingConfig(steps=60, lr=0.02)
    network = NetworkConfig(width=4)
    made = DistilledSet(images, labels, 0.02, ("a", "b", "c"), Normalisation(), network, training)
    trained = train_on_distilled(made)
    assert isinstance(trained, ConvNet)
    fresh, answers = separable(30)
    assert float((predict(trained, fresh).argmax(1) == answers).float().mean()) > 0.8


def test_short_runs_are_not_compiled() -> None:
    assert should_compile("on", 0)
    assert not should_compile("off", 1e20)
    assert not should_compile("auto", 1e6)


@pytest.mark.slow
def test_compiled_steps_equal_eager_ones() -> None:
    from medidistill.distillation import InnerStep

    network = build()
    theta = ParameterLayout.of(network).flatten(network)
    x, q, v = torch.randn(6, 1, 16, 16), torch.softmax(torch.randn(6, 3), 1), torch.randn(len(theta))
    eager, compiled = (InnerStep(network, learn_targets=True, compile=on) for on in (False, True))
    torch.testing.assert_close(eager.gradient(theta, x, q)[1], compiled.gradient(theta, x, q)[1], rtol=1e-4, atol=1e-5)
    value, parts = eager.mixed(theta, x, q, v)
    other, others = compiled.mixed(theta, x, q, v)
    for a, b in zip((value, *parts), (other, *others), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("size", "patches"), [(16, 16), (28, 49), (32, 64), (50, 100), (64, 64)])
def test_the_vision_transformer_is_small_and_cuts_any_side_into_whole_patches(size: int, patches: int) -> None:
    network = build("vit", size=size)
    tokens = dict(network.named_parameters())["network.encoder.pos_embedding"].shape[1] - 1
    assert tokens == patches
    assert sum(parameter.numel() for parameter in network.parameters()) < 1_000_000


def test_a_watcher_hears_of_each_first_call_and_of_no_other(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    told: list[bool] = []
    watcher = Compilations(told.append)
    double = CompiledByShape(lambda x: 2 * x)
    with watch_compilations(watcher):
        for size in (2, 3, 2):
            assert double(torch.ones(size)).shape == (size,)
    double(torch.ones(4))
    assert told == [True, False, True, False]
    assert watcher.functions == 2
    assert watcher.seconds > 0


# flat parameters, and a network with running statistics
@pytest.mark.parametrize("network", ["convnet", pytest.param("vgg11", marks=pytest.mark.slow)])
def test_adamw_with_a_one_cycle_rate_equals_torchs_optimiser(network: str) -> None:
    config = TrainingConfig(optimizer="adamw", schedule="one_cycle", steps=10, batch_size=4, lr=0.01, weight_decay=0.1)
    images, labels = torch.randn(4, 1, 32, 32, generator=stream(0, "x")), torch.arange(4) % 2

    def fresh() -> nn.Module:
        made = make_network(
            NetworkConfig(name=network, width=4, depth=2),
            channels=1,
            image_size=32,
            num_classes=2,
            generator=stream(0, "n"),
        )
        for module in made.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return made

    ours, plain = fresh(), fresh()
    train(ours, images, labels, config, stream(0, "batches"))
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.1)
    rising = [0.01 * (step + 1) / 3 for step in range(3)]
    falling = [0.005 * (1 + math.cos(math.pi * step / 7)) for step in range(7)]
    generator = stream(0, "batches")
    for rate in [*rising, *falling]:
        chosen = torch.randperm(4, generator=generator)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(plain.train()(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-4)
