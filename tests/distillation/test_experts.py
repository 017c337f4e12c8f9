from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from medidistill.config import AugmentConfig, ExpertConfig, NetworkConfig
from medidistill.distillation import Experts, train_experts
from medidistill.distillation.trajectory import write_expert
from medidistill.errors import ConfigError, DivergedError, IngestError, StoppedError
from medidistill.seeding import stream

NETWORK = NetworkConfig(width=4, depth=2)
CONFIG = ExpertConfig(count=3, epochs=3, batch_size=8, lr=0.05, augment=AugmentConfig(shift=0.1))


def data() -> tuple[Tensor, Tensor]:
    labels = torch.arange(24) % 3
    images = torch.randn(24, 1, 16, 16, generator=stream(0, "d")) + labels.view(-1, 1, 1, 1)
    return images, labels


def make(folder: Path, config: ExpertConfig = CONFIG, **extra: object) -> list[Path]:
    images, labels = data()
    settings = {"network": NETWORK, "seed": 0} | extra
    return train_experts(images, labels, num_classes=3, config=config, folder=folder, **settings)


def test_snapshots_are_copies_that_move_every_epoch(tmp_path: Path) -> None:
    expert = Experts(make(tmp_path)).members[1]
    assert expert.epochs == CONFIG.epochs
    path = [expert.snapshot(epoch) for epoch in range(4)]
    for before, after in itertools.pairwise(path):
        assert float((before - after).norm()) > 1e-3


def test_experts_differ_and_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    contents = [path.read_bytes() for path in first]
    assert contents == [path.read_bytes() for path in second]
    assert len(set(contents)) == 3


def test_a_stopped_training_keeps_finished_experts_and_reaches_the_same_bytes(tmp_path: Path) -> None:
    whole = [path.read_bytes() for path in make(tmp_path / "whole")]

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise StoppedError("stop", 15)

    with pytest.raises(StoppedError):
        make(tmp_path / "cut", on_epoch=stop)
    kept = tmp_path / "cut" / "expert-0000.safetensors"
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [kept.name]
    when = kept.stat().st_mtime_ns
    assert [path.read_bytes() for path in make(tmp_path / "cut")] == whole
    assert kept.stat().st_mtime_ns == when


def test_more_experts_can_be_added_and_other_settings_train_anew(tmp_path: Path) -> None:
    first = make(tmp_path)[0]
    when = first.stat().st_mtime_ns
    assert len(make(tmp_path, dataclasses.replace(CONFIG, count=4))) == 4
    assert first.stat().st_mtime_ns == when
    make(tmp_path, dataclasses.replace(CONFIG, lr=0.02))
    assert first.stat().st_mtime_ns != when


def test_shards_train_the_same_pool(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole")
    parts = [make(tmp_path / "parts", shard=(i, 2)) for i in range(2)]
    assert [path.name for path in parts[0]] == ["expert-0000.safetensors", "expert-0002.safetensors"]
    for path in whole:
        assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(ConfigError, match="shard"):
        make(tmp_path, shard=(2, 2))


def test_trajectories_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    assert make(tmp_path)[0].stat().st_mode & 0o077 == 0


def test_a_damaged_expert_is_named_and_trained_again(tmp_path: Path) -> None:
    files = make(tmp_path)
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IngestError, match=r"expert-0001.*damaged"):
        Experts(files)
    assert make(tmp_path)[1].read_bytes() == whole


def test_a_trajectory_that_stands_still_is_refused(tmp_path: Path) -> None:
    files = make(tmp_path)
    experts = Experts(files)
    still = experts.members[0].snapshot(0).repeat(4, 1)
    write_expert(files[0], still, experts.members[0].header)
    with pytest.raises(IngestError, match=r"expert-0000.*= 0"):
        Experts(files).segment(0, 0, 2)


def test_divergence_says_which_expert_and_what_to_change(tmp_path: Path) -> None:
    images, labels = data()
    with pytest.raises(DivergedError, match=r"expert 0.*lower experts\.lr"):
        train_experts(
            images * 1e30,
            labels,
            num_classes=3,
            network=NetworkConfig(width=4, depth=2, norm="none"),
            config=CONFIG,
            seed=0,
            folder=tmp_path,
        )
    assert list(tmp_path.iterdir()) == []


def test_pool_must_be_of_one_architecture(tmp_path: Path) -> None:
    images, labels = data()
    other = train_experts(
        images,
        labels,
        num_classes=3,
        network=NetworkConfig(width=5, depth=2),
        config=CONFIG,
        seed=0,
        folder=tmp_path / "o",
    )
    with pytest.raises(ConfigError, match="architecture differs"):
        Experts([*make(tmp_path / "a"), *other])
    with pytest.raises(ConfigError, match="no expert files"):
        Experts([])


@pytest.mark.parametrize(("name", "why"), [("alexnet", "drops units"), ("resnet18", "running statistics")])
def test_networks_that_are_no_function_of_their_parameters_are_refused(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        train_experts(
            torch.zeros(3, 1, 64, 64),
            torch.arange(3),
            num_classes=3,
            network=NetworkConfig(name=name),
            config=CONFIG,
            seed=0,
            folder=tmp_path,
        )


def test_labels_must_be_indices_of_the_classes(tmp_path: Path) -> None:
    images, labels = data()
    for wrong in (labels + 1, labels - 1, labels[:-1]):
        with pytest.raises(ConfigError, match=r"in 0\.\.2"):
            train_experts(images, wrong, num_classes=3, network=NETWORK, config=CONFIG, seed=0, folder=tmp_path)


def test_batches_are_shuffled_so_that_no_image_sits_in_the_dropped_tail(tmp_path: Path) -> None:
    images, labels = data()
    config = ExpertConfig(count=1, epochs=3, batch_size=16, lr=0.05)
    changed = images.clone()
    changed[-1] += 3.0
    ends = []
    for name, pixels in (("a", images), ("b", changed)):
        files = train_experts(
            pixels, labels, num_classes=3, network=NETWORK, config=config, seed=0, folder=tmp_path / name
        )
        ends.append(Experts(files).members[0].snapshot(3))
    assert not torch.equal(*ends)


@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_a_stack_trains_the_experts_that_one_after_another_trains(tmp_path: Path, rho: float) -> None:
    config = dataclasses.replace(CONFIG, count=5, rho=rho)
    alone = Experts(make(tmp_path / "alone", config))
    told: list[tuple[int, int]] = []
    # 2 + 2 + 1: the last one alone
    stacked = Experts(make(tmp_path / "stacked", config, stack_size=2, on_epoch=lambda *at: told.append(at)))
    assert told == sorted(told)
    assert told[-1] == (15, 15)
    for one, other in zip(alone.members, stacked.members, strict=True):
        assert one.header["digest"] == other.header["digest"]
        assert other.header["final_loss"] == pytest.approx(one.header["final_loss"], rel=1e-4)
        for epoch in range(4):
            assert float((one.snapshot(epoch) - other.snapshot(epoch)).abs().max()) < 1e-5


def test_a_stack_names_the_expert_that_diverged(tmp_path: Path) -> None:
    images, labels = torch.cat([data()[0], torch.zeros(1, 1, 16, 16)]), torch.cat([data()[1], torch.zeros(1).long()])
    spared = int(torch.randperm(25, generator=stream(0, "expert", 0, "batches"))[-1])  # the tail that expert 0 drops
    images[spared] = float("nan")
    config = dataclasses.replace(CONFIG, epochs=1)
    arguments = {"num_classes": 3, "network": NETWORK, "config": config, "seed": 0, "folder": tmp_path}
    with pytest.raises(DivergedError, match="expert 1: loss nan"):
        train_experts(images, labels, **arguments, stack_size=3)
    with pytest.raises(ConfigError, match="stack_size=0"):
        train_experts(images, labels, **arguments, stack_size=0)
