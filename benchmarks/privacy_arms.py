"""The arms of `benchmarks.privacy_table`: what is trained on the patients, and what the test split says of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.public_network import PUBLIC_NETWORK, PublicNetwork
from medidistill.config import AugmentConfig, DistillConfig, DPConfig, ExpertConfig, NetworkConfig, TrainingConfig
from medidistill.distillation import DistillProblem, distill, train_experts
from medidistill.distillation.noised_statistics import FeatureStatistics, noised_statistics
from medidistill.distillation.public_features import features_of
from medidistill.distillation.statistics_images import distil_statistics
from medidistill.distilled_set import DistilledSet
from medidistill.evaluate import random_subset
from medidistill.files import read_json, write_json
from medidistill.networks import (
    PatientGradient,
    make_network,
    predict,
    secret_generator,
    train,
    train_on_distilled,
)
from medidistill.pipeline.comparison.private_rival import COUNTS_SHARE, fit_private
from medidistill.pipeline.prepared import PreparedData
from medidistill.privacy.accounting import calibrate_noise, calibrate_noise_jointly
from medidistill.seeding import stream

DELTA = 1e-5
IPC, STUDENTS = 10, 3
NETWORK = NetworkConfig(width=16)
DP = DPConfig(enabled=True, delta=DELTA, clip=0.1, sampling_rate=0.15, expected_patients=170, steps_per_epoch=5)
STEPS, RATE = 150, 10.0  # of the ConvNet classifier
EXPERTS = ExpertConfig(count=5, epochs=6, lr=RATE)
PLAIN_EXPERTS = ExpertConfig(count=5, epochs=6, batch_size=64, lr=0.02)
DISTILL = DistillConfig(ipc=IPC, outer_steps=100, inner_steps=5, expert_epochs=2, max_start=4, alpha=0.1, compile="off")
SMALL = TrainingConfig(steps=150, batch_size=30, lr=0.05, momentum=0.0, schedule="constant")


@dataclass(frozen=True)
class Cell:
    """One figure of the table; `epsilon` is infinite where nothing protects."""

    side: int
    arm: str
    epsilon: float
    seed: int

    def file(self, work: Path) -> Path:
        """Return where it is kept."""
        return work / "cells" / f"{self.side}-{self.arm}-{self.epsilon:g}-{self.seed}.json"


@dataclass(frozen=True)
class Task:
    """Real images, normalised, with their public features."""

    images: Tensor
    labels: Tensor
    patients: tuple[str, ...]
    features: Tensor
    test_images: Tensor
    test_features: Tensor
    data: PreparedData

    @classmethod
    def of(cls, data: PreparedData) -> Task:
        """Normalise and compute the features once."""
        images, test = (data.normalisation.apply(part.images) for part in (data.train, data.test))
        return cls(
            images, data.train.labels, data.train.patient_ids, features_of(images), test, features_of(test), data
        )

    @property
    def classes(self) -> int:
        """K."""
        return self.data.train.num_classes


def _noise(work: Path, epsilon: float, sampling_rate: float, steps: int) -> float:
    """Return sigma; kept below `work`, because the accountants take seconds and are no part of what is timed."""
    file = work / "noise" / f"{epsilon:g}-{sampling_rate:g}-{steps}.json"
    if not file.exists():
        sigma = calibrate_noise(epsilon, DELTA, sampling_rate=sampling_rate, steps=steps)
        write_json(file, {"delta": DELTA, "noise_multiplier": sigma})
    return float(read_json(file)["noise_multiplier"])


def _noise_beside_counts(work: Path, epsilon: float, sampling_rate: float, steps: int) -> tuple[float, float]:
    """Return (sigma of the steps, sigma of the classes' numbers of patients), kept in the same way."""
    file = work / "noise" / f"{epsilon:g}-{sampling_rate:g}-{steps}-and-counts.json"
    if not file.exists():
        sigma, counts = calibrate_noise_jointly(
            epsilon, DELTA, sampling_rate=sampling_rate, steps=steps, share=COUNTS_SHARE
        )
        write_json(file, {"delta": DELTA, "noise_multiplier": sigma, "counts": counts})
    kept = read_json(file)
    return float(kept["noise_multiplier"]), float(kept["counts"])


def _network(task: Task, seed: int, *names: str) -> nn.Module:
    generator = stream(seed, *names)
    side = task.images.shape[-1]
    return make_network(NETWORK, channels=1, image_size=side, num_classes=task.classes, generator=generator)


def _as_images(features: Tensor) -> Tensor:
    return features[:, None, None, :]


def _linear(inputs: int, classes: int) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def waves(task: Task, cell: Cell, work: Path) -> tuple[dict[str, Tensor], float]:
    """Release statistics of public features once; return the test probabilities of their discriminant, and sigma."""
    return _linear_model(task, cell, work, task.features, task.test_features)


def public_net(task: Task, cell: Cell, work: Path) -> tuple[dict[str, Tensor], float]:
    """Do the same on features of a network that learned photographs."""
    network = PublicNetwork.read(work / PUBLIC_NETWORK)
    return _linear_model(task, cell, work, network.features(task.images), network.features(task.test_images))


def _release(task: Task, features: Tensor, sigma: float) -> FeatureStatistics:
    return noised_statistics(
        features,
        task.labels,
        task.patients,
        num_classes=task.classes,
        noise_multiplier=sigma,
        generator=secret_generator(),
    )


def _linear_model(
    task: Task, cell: Cell, work: Path, features: Tensor, test_features: Tensor
) -> tuple[dict[str, Tensor], float]:
    if math.isinf(cell.epsilon):
        network = _linear(features.shape[1], task.classes)
        _read(network, features, task.labels, cell.seed)
        return {"accuracy": predict(network, _as_images(test_features))}, 0.0
    sigma = _noise(work, cell.epsilon, 1.0, 1)
    released = _release(task, features, sigma)
    weight, bias = released.discriminant()
    return {"accuracy": torch.softmax(released.centred(test_features) @ weight.T + bias, dim=1)}, sigma


def _read(network: nn.Module, features: Tensor, labels: Tensor, seed: int) -> None:
    training = TrainingConfig(steps=600, batch_size=128, lr=0.5, weight_decay=1e-4, schedule="cosine")
    train(network, _as_images(features), labels, training, stream(seed, "waves", "batches"))


def classifier(task: Task, cell: Cell, work: Path) -> tuple[dict[str, Tensor], float]:
    """Train one ConvNet directly; return its test probabilities and sigma."""
    network = _network(task, cell.seed, "classifier")
    if math.isinf(cell.epsilon):
        plain = TrainingConfig(steps=500, batch_size=64, lr=0.02)
        train(network, task.images, task.labels, plain, stream(cell.seed, "classifier", "batches"))
        return {"accuracy": predict(network, task.test_images)}, 0.0
    sigma, of_counts = _noise_beside_counts(work, cell.epsilon, DP.sampling_rate, STEPS)
    config, generator = dataclasses.replace(DP, noise_multiplier=sigma), secret_generator()
    gradient = PatientGradient(network, task.images, task.labels, task.patients, config, AugmentConfig(), generator)
    fit_private(network, gradient, steps=STEPS, lr=RATE, of_counts=of_counts, num_classes=task.classes)
    return {"accuracy": predict(network, task.test_images)}, sigma


def distilled(task: Task, cell: Cell, work: Path) -> tuple[dict[str, Tensor], float]:
    """Distill experts from noise; return the test probabilities of who learns from the set, and sigma."""
    sigma, config = 0.0, PLAIN_EXPERTS
    if not math.isinf(cell.epsilon):
        steps = EXPERTS.count * EXPERTS.epochs * DP.steps_per_epoch
        sigma = _noise(work, cell.epsilon, DP.sampling_rate, steps)
        dp = dataclasses.replace(DP, epsilon=cell.epsilon, noise_multiplier=sigma)
        config = dataclasses.replace(EXPERTS, dp=dp)
    files = train_experts(
        task.images,
        task.labels,
        num_classes=task.classes,
        network=NETWORK,
        config=config,
        seed=cell.seed,
        folder=work / "experts" / cell.file(work).stem,
        patients=task.patients,
        compile="off",
    )
    made = distill(
        DistillProblem(
            files,
            class_names=task.data.train.class_names,
            normalisation=task.data.normalisation,
            training=SMALL,
            seed=cell.seed,
        ),
        DISTILL,
    ).distilled
    return _students(task, made, cell.seed), sigma


def dp_stats(task: Task, cell: Cell, work: Path) -> tuple[dict[str, Tensor], float]:
    """Release feature statistics once, make images from them; test probabilities and sigma as in `distilled`."""
    none = math.isinf(cell.epsilon)
    sigma = 1e-9 if none else _noise(work, cell.epsilon, 1.0, 1)
    made = distil_statistics(
        _release(task, task.features, sigma),
        ipc=IPC,
        shape=(1, *task.images.shape[2:]),
        class_names=task.data.train.class_names,
        normalisation=task.data.normalisation,
        network=NETWORK,
        training=SMALL,
        seed=cell.seed,
    )
    return _students(task, made, cell.seed), 0.0 if none else sigma


def random_images(task: Task, cell: Cell, work: Path) -> tuple[dict[str, Tensor], float]:
    """Take real images at random; test probabilities as in `distilled`."""
    generator = stream(cell.seed, "arm", "random")
    names = task.data.train.class_names
    index = random_subset(task.labels, IPC, generator, names)
    normalisation = task.data.normalisation
    made = DistilledSet(
        task.images[index], task.labels[index], SMALL.lr, names, normalisation, NETWORK, SMALL, recipe={"init": "real"}
    )
    return _students(task, made, cell.seed), 0.0


def _students(task: Task, made: DistilledSet, seed: int) -> dict[str, Tensor]:
    networks = [train_on_distilled(made, seed=seed * 100 + number) for number in range(STUDENTS)]
    reader = _linear(task.features.shape[1], task.classes)
    _read(reader, features_of(made.images), made.labels, seed)
    return {
        "accuracy": torch.stack([predict(network, task.test_images) for network in networks]),
        "accuracy_waves": predict(reader, _as_images(task.test_features)),
    }


ARMS = {
    "waves": waves,
    "public_net": public_net,
    "classifier": classifier,
    "distilled": distilled,
    "dp_stats": dp_stats,
    "random": random_images,
}
