"""What differential privacy by patient costs on real X-rays: covid-cxr, epsilon 1, 2, 4, 8 and none.

    python -m benchmarks.privacy_table run --data $MEDIDISTILL_DATA/covid-cxr --work work/privacy [--shard i/n]
    python -m benchmarks.privacy_table collect --work work/privacy

Every cell (side, arm, epsilon, seed) is one file below the work folder; a stopped command goes on with the cells it
lacks, and n processes with `--shard` share them. `collect` writes benchmarks/results/privacy.json and prints the table
over whatever cells are there.

| arm | what is trained on the patients |
|---|---|
| `waves` | one linear layer on public features (`medidistill.distill.public_features`) by DP-SGD |
| `classifier` | a ConvNet by DP-SGD |
| `distilled` | experts by DP-SGD; IADD distils them into ten images a class, from noise |
| `dp_stats` | nothing: one noised release of mean features, ten images a class that reproduce it |
| `random` | ten real images a class as they are, no protection: what so few real images are worth |

`waves` and `classifier` also release the classes' shares among patients, with a twentieth of the budget, and take them
out of what they predict: one class has 8 % of the patients and 21 % of the images, and DP-SGD here counts patients.

A set of images is scored twice: by fresh ConvNets trained on it, and by a linear layer on its public features
(`accuracy_waves`). The settings are constants below. They were chosen on three classes of grey CIFAR-10 images of the
same number and size, not on these patients; but the classes' shares are taken out since one cell was seen without that
(`waves`, epsilon 1, seed 0: .540, balanced .459). The test split is predicted once for each cell. Accuracy is by image.
The interval is Student's over seeds and says nothing about other patients.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

from medidistill.config import (
    AugmentConfig,
    DistillConfig,
    DPConfig,
    ExpertConfig,
    IngestConfig,
    NetworkConfig,
    TrainingConfig,
)
from medidistill.distill import distill, train_experts
from medidistill.distill.noised_statistics import distil_statistics, noised_statistics
from medidistill.distill.public_features import public_features
from medidistill.distilled_set import DistilledSet
from medidistill.evaluate import random_subset
from medidistill.files import read_json, write_json
from medidistill.networks import (
    ParameterLayout,
    PatientGradient,
    make_network,
    predict,
    secret_generator,
    train,
    train_on_distilled,
)
from medidistill.pipeline.prepared import Prepared
from medidistill.privacy.accounting import Sampled, epsilon_spent, noise_for
from medidistill.record import hardware, versions
from medidistill.seeding import stream

RESULT = Path(__file__).parent / "results" / "privacy.json"
DELTA = 1e-5
EPSILONS = (1.0, 2.0, 4.0, 8.0, math.inf)
ARMS = ("waves", "dp_stats", "distilled", "classifier")
SIDES, SEEDS = (32, 64), range(5)
IPC, STUDENTS = 10, 3
NETWORK = NetworkConfig(width=16)
DP = DPConfig(enabled=True, delta=DELTA, clip=0.1, sampling_rate=0.15, expected_patients=170, steps_per_epoch=5)
STEPS, RATE = 150, 10.0  # of the ConvNet classifier
EXPERTS = ExpertConfig(count=5, epochs=6, lr=RATE)
PLAIN_EXPERTS = ExpertConfig(count=5, epochs=6, batch_size=64, lr=0.02)
DISTILL = DistillConfig(ipc=IPC, outer_steps=100, inner_steps=5, expert_epochs=2, max_start=4, alpha=0.1, compile="off")
SMALL = TrainingConfig(steps=150, batch_size=30, lr=0.05, momentum=0.0, schedule="constant")
PRIOR_SHARE = 0.05  # of the budget, for the classes' shares among patients
WAVES = DPConfig(enabled=True, delta=DELTA, clip=1.0, sampling_rate=1.0, expected_patients=1200)
WAVES_STEPS, WAVES_RATE = 120, {1.0: 2.0, 2.0: 4.0, 4.0: 8.0, 8.0: 8.0}


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


def cells() -> Iterator[Cell]:
    """Yield all cells, those that the table needs most first."""
    for side in SIDES:
        for seed in SEEDS:
            yield Cell(side, "random", math.inf, seed)
            for epsilon in EPSILONS:
                for arm in ARMS:
                    yield Cell(side, arm, epsilon, seed)


@dataclass(frozen=True)
class Task:
    """Real images, normalised, with their public features."""

    images: Tensor
    labels: Tensor
    patients: tuple[str, ...]
    features: Tensor
    test_images: Tensor
    test_features: Tensor
    data: Prepared

    @classmethod
    def of(cls, data: Prepared) -> Task:
        """Normalise and compute the features once."""
        images, test = (data.normalisation.apply(part.images) for part in (data.train, data.test))
        features, tested = (torch.cat([public_features(x) for x in torch.split(part, 256)]) for part in (images, test))
        return cls(images, data.train.labels, data.train.patient_ids, features, test, tested, data)

    @property
    def classes(self) -> int:
        """K."""
        return self.data.train.num_classes


def _data(folder: Path | None, kept: Path, side: int) -> Prepared:
    """Return the images, prepared once for all shards."""
    if not (kept / "test.safetensors").exists():
        if folder is None:
            raise SystemExit(f"{kept}: not prepared yet; name the folder of covid-cxr with --data")
        from medidistill.ingest import ingest  # MONAI takes seconds, and prepared images have no use for it

        Prepared.write(ingest(folder, IngestConfig(image_size=side)), kept)
    return Prepared.read(kept)


def _noise(work: Path, epsilon: float, sampling_rate: float, steps: int) -> float:
    """Return sigma; kept below `work`, because the accountants take seconds and are no part of what is timed."""
    file = work / "noise" / f"{epsilon:g}-{sampling_rate:g}-{steps}.json"
    if not file.exists():
        sigma = noise_for(epsilon, DELTA, sampling_rate=sampling_rate, steps=steps)
        write_json(file, {"delta": DELTA, "noise_multiplier": sigma})
    return float(read_json(file)["noise_multiplier"])


def _noise_beside_prior(work: Path, epsilon: float, sampling_rate: float, steps: int) -> tuple[float, float]:
    """Return (sigma of the steps, sigma of the classes' shares): the shares get a twentieth of the budget."""
    shares = _noise(work, epsilon, 1.0, 1) / PRIOR_SHARE**0.5
    file = work / "noise" / f"{epsilon:g}-{sampling_rate:g}-{steps}-and-prior.json"
    if not file.exists():
        sigma = noise_for(epsilon, DELTA, sampling_rate=sampling_rate, steps=steps)
        while epsilon_spent([Sampled(sigma, sampling_rate, steps), Sampled(shares, 1.0, 1)], DELTA) > epsilon:
            sigma *= 1.01
        write_json(file, {"delta": DELTA, "noise_multiplier": sigma, "shares": shares})
    return float(read_json(file)["noise_multiplier"]), shares


def _log_prior(task: Task, sigma: float) -> Tensor:
    """Return log of the classes' shares of patients, (K,), released with noise; what a patient adds has length <= 1."""
    counts = torch.zeros(task.classes)
    number = {name: i for i, name in enumerate(dict.fromkeys(task.patients))}
    owner = torch.tensor([number[name] for name in task.patients])
    counts.index_add_(0, task.labels, 1 / torch.bincount(owner)[owner])
    counts += sigma * torch.randn(task.classes, generator=secret_generator())
    counts.clamp_min_(0.02 * WAVES.expected_patients)
    return (counts / counts.sum()).log()


def _balanced(probabilities: Tensor, log_prior: Tensor) -> Tensor:
    """Take the classes' shares among patients out of probabilities: most patients of one class are few of another's."""
    return torch.softmax(probabilities.clamp_min(1e-12).log() - log_prior, dim=-1)


def _network(task: Task, seed: int, *names: str) -> nn.Module:
    generator = stream(seed, *names)
    side = task.images.shape[-1]
    return make_network(NETWORK, channels=1, image_size=side, num_classes=task.classes, generator=generator)


def _descend(network: nn.Module, gradient: PatientGradient, steps: int, rate: float) -> None:
    """Take noisy steps; leave the mean of the second half of the path in `network`, which costs nothing more."""
    layout = ParameterLayout.of(network)
    theta = layout.flatten(network)
    late = torch.zeros_like(theta)
    for step in range(steps):
        theta.sub_(gradient(theta), alpha=rate)
        late += theta * (step >= steps // 2)
    layout.load(network, late / (steps - steps // 2))


def _as_images(features: Tensor) -> Tensor:
    return features[:, None, None, :]


def _linear(inputs: int, classes: int) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def waves(task: Task, cell: Cell, work: Path) -> tuple[dict[str, Tensor], float]:
    """Train one linear layer on public features; return its test probabilities and sigma."""
    network, sigma, shares = _linear(task.features.shape[1], task.classes), 0.0, 0.0
    if math.isinf(cell.epsilon):
        _read(network, task.features, task.labels, cell.seed)
    else:
        sigma, shares = _noise_beside_prior(work, cell.epsilon, 1.0, WAVES_STEPS)
        config = dataclasses.replace(WAVES, noise_multiplier=sigma)
        images = _as_images(task.features)
        gradient = PatientGradient(
            network, images, task.labels, task.patients, config, AugmentConfig(), secret_generator()
        )
        _descend(network, gradient, WAVES_STEPS, WAVES_RATE[cell.epsilon])
    found = predict(network, _as_images(task.test_features))
    return {"accuracy": _balanced(found, _log_prior(task, shares)) if sigma else found}, sigma


def _read(network: nn.Module, features: Tensor, labels: Tensor, seed: int) -> None:
    training = TrainingConfig(steps=600, batch_size=128, lr=0.5, weight_decay=1e-4, schedule="cosine")
    train(network, _as_images(features), labels, training, stream(seed, "waves", "batches"))


def classifier(task: Task, cell: Cell, work: Path) -> tuple[dict[str, Tensor], float]:
    """Train one ConvNet directly; return its test probabilities and sigma."""
    network, sigma, shares = _network(task, cell.seed, "classifier"), 0.0, 0.0
    if math.isinf(cell.epsilon):
        plain = TrainingConfig(steps=500, batch_size=64, lr=0.02)
        train(network, task.images, task.labels, plain, stream(cell.seed, "classifier", "batches"))
    else:
        sigma, shares = _noise_beside_prior(work, cell.epsilon, DP.sampling_rate, STEPS)
        config = dataclasses.replace(DP, noise_multiplier=sigma)
        gradient = PatientGradient(
            network, task.images, task.labels, task.patients, config, AugmentConfig(), secret_generator()
        )
        _descend(network, gradient, STEPS, RATE)
    found = predict(network, task.test_images)
    return {"accuracy": _balanced(found, _log_prior(task, shares)) if sigma else found}, sigma


def distilled(task: Task, cell: Cell, work: Path) -> tuple[dict[str, Tensor], float]:
    """Distil experts from noise; return the test probabilities of who learns from the set, and sigma."""
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
        files,
        DISTILL,
        class_names=task.data.train.class_names,
        normalisation=task.data.normalisation,
        training=SMALL,
        seed=cell.seed,
    ).distilled
    return _students(task, made, cell.seed), sigma


def dp_stats(task: Task, cell: Cell, work: Path) -> tuple[dict[str, Tensor], float]:
    """Release feature statistics once, make images from them; test probabilities and sigma as in `distilled`."""
    none = math.isinf(cell.epsilon)
    sigma = 1e-9 if none else _noise(work, cell.epsilon, 1.0, 1)
    released = noised_statistics(
        task.images,
        task.labels,
        task.patients,
        num_classes=task.classes,
        noise_multiplier=sigma,
        generator=secret_generator(),
    )
    made = distil_statistics(
        released,
        noise_multiplier=sigma,
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
    _read(reader, public_features(made.images), made.labels, seed)
    return {
        "accuracy": torch.stack([predict(network, task.test_images) for network in networks]),
        "accuracy_waves": predict(reader, _as_images(task.test_features)),
    }


_DO = {
    "waves": waves,
    "classifier": classifier,
    "distilled": distilled,
    "dp_stats": dp_stats,
    "random": random_images,
}


def score(task: Task, cell: Cell, work: Path) -> dict[str, Any]:
    """Do one cell; return its figures."""
    wall, cpu = time.perf_counter(), time.process_time()
    found, sigma = _DO[cell.arm](task, cell, work)
    labels = task.data.test.labels
    figures = {name: float((p.argmax(-1) == labels).double().mean()) for name, p in found.items()}
    recall = [float((found["accuracy"].argmax(-1)[..., labels == k] == k).double().mean()) for k in range(task.classes)]
    return {
        "side": cell.side,
        "arm": cell.arm,
        "epsilon": None if math.isinf(cell.epsilon) else cell.epsilon,
        "seed": cell.seed,
        "noise_multiplier": sigma,
        **figures,
        "balanced": sum(recall) / len(recall),
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def run(folder: Path | None, work: Path, shard: tuple[int, int], wanted: Callable[[Cell], bool]) -> None:
    """Do the wanted cells that `work` lacks, those whose number is i modulo n."""
    chosen = [cell for cell in cells() if wanted(cell)][shard[0] :: shard[1]]
    tasks: dict[int, Task] = {}
    for cell in chosen:
        if cell.file(work).exists():
            continue
        if cell.side not in tasks:
            tasks[cell.side] = Task.of(_data(folder, work / f"images-{cell.side}", cell.side))
        figures = score(tasks[cell.side], cell, work)
        write_json(cell.file(work), figures)
        print(figures, flush=True)


def collect(work: Path) -> dict[str, Any]:
    """Return the table over the cells that are there, with what made it."""
    kept = [read_json(cell.file(work)) for cell in cells() if cell.file(work).exists()]
    groups: dict[tuple[int, str, float | None], list[Mapping[str, Any]]] = defaultdict(list)
    for cell in kept:
        groups[cell["side"], cell["arm"], cell["epsilon"]].append(cell)
    rows = []
    for (side, arm, epsilon), members in groups.items():
        row: dict[str, Any] = {"side": side, "arm": arm, "epsilon": epsilon, "seeds": len(members)}
        for name in ("accuracy", "accuracy_waves", "balanced"):
            values = [cell[name] for cell in members if name in cell]
            if values:
                row[name] = _interval(values)
        rows.append(row)
    rows.sort(key=lambda row: (row["side"], row["arm"], row["epsilon"] or math.inf))
    return {
        "complete": len(kept) == sum(1 for _ in cells()),
        "missing": sum(1 for _ in cells()) - len(kept),
        "rows": rows,
        "cells": kept,
        "unit": "patient",
        "delta": DELTA,
        "hardware": hardware(),
        "versions": versions(),
    }


def _interval(values: list[float]) -> dict[str, float | None]:
    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(stats.t.ppf(0.975, n - 1)) * float(torch.tensor(values, dtype=torch.float64).std()) / n**0.5
    return {"mean": mean, "low": mean - half, "high": mean + half}


def table(result: Mapping[str, Any]) -> str:
    """Return the rows as Markdown; says so where cells are missing."""
    lines = [
        "| side | arm | epsilon | seeds | accuracy | by a linear layer on its waves |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        shown = "none" if row["epsilon"] is None else f"{row['epsilon']:g}"
        figures = " | ".join(_shown(row.get(name)) for name in ("accuracy", "accuracy_waves"))
        lines.append(f"| {row['side']} | {row['arm']} | {shown} | {row['seeds']} | {figures} |")
    return "\n".join(lines) + ("" if result["complete"] else f"\n\nPartial: {result['missing']} cells are missing.")


def _shown(figure: Mapping[str, float | None] | None) -> str:
    if figure is None:
        return ""
    limits = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure['mean']:.3f}{limits}"


def main() -> None:
    """Parse and do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "collect"))
    parser.add_argument("--data", type=Path, help="folder of covid-cxr; needed until its images are prepared")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shard", default="0/1", metavar="I/N")
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--arms", nargs="+", choices=tuple(_DO), default=list(_DO))
    parser.add_argument("--epsilons", type=float, nargs="+", default=list(EPSILONS), help="inf: without protection")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as it finds")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.what == "collect":
        result = collect(arguments.work)
        write_json(RESULT, result)
        print(table(result))
        return
    shard = re.fullmatch(r"(\d+)/(\d+)", arguments.shard)
    if not shard or int(shard[1]) >= int(shard[2]):
        parser.error(f"--shard {arguments.shard}: must be I/N with I < N")
    run(
        arguments.data,
        arguments.work,
        (int(shard[1]), int(shard[2])),
        lambda cell: (
            cell.side in arguments.sides
            and cell.seed in arguments.seeds
            and cell.arm in arguments.arms
            and cell.epsilon in arguments.epsilons
        ),
    )


if __name__ == "__main__":
    main()
