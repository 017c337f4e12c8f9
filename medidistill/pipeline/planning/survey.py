"""Figures that the estimates of a plan rest on: the images that are there, and steps measured on this machine.

The times are measured: a few real steps of each kind are taken on noise of the right shape, and multiplied by how
often the run takes them.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from medidistill.config import DistillConfig, DPConfig, ExpertConfig, ImportanceConfig, RunConfig, TrainingConfig
from medidistill.distillation import DistillProblem, distill, train_experts
from medidistill.distilled_set import Normalisation
from medidistill.errors import IngestError
from medidistill.networks import make_network, train
from medidistill.pipeline.release.release_check import SplitCounts, count_splits
from medidistill.pipeline.release.releasing import load_policy
from medidistill.seeding import stream

__all__ = ["Probe", "Survey", "survey_of"]

_PROBES = 8  # steps, or images, that a time is measured on


class Probe(Protocol):
    """Seconds of one step of each kind, with a run's shapes."""

    @property
    def parameters(self) -> int:
        """Parameters of the network."""

    def step(self, training: TrainingConfig, per_class: int) -> float:
        """Return the seconds of one training step of an arm with `per_class` images a class."""

    def expert_step(self) -> float:
        """Return the seconds of one step of an expert."""

    def outer_step(self, rules: DistillConfig) -> float:
        """Return the seconds of one outer step by `rules`, without validation."""


@dataclass(frozen=True)
class Survey:
    """What is known of a run before it: its input, and the pace of this machine.

    Args:
        config: the run.
        counts: usable images found, by label.
        splits: the same by split.
        set_aside: files that would be quarantined before any is decoded.
        reading: seconds to find and decode one image.
        probe: measures single steps.
    """

    config: RunConfig
    counts: Mapping[str, int]
    splits: SplitCounts
    set_aside: int
    reading: float
    probe: Probe
    _paces: dict[str, float] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Usable images."""
        return sum(self.counts.values())

    @property
    def classes(self) -> int:
        """Classes, at least two."""
        return max(2, len(self.counts))

    @property
    def training_images(self) -> int:
        """Images of the training split, about."""
        ingest = self.config.ingest
        return round(self.images * (1 - ingest.val_fraction - ingest.test_fraction))

    @property
    def set_bytes(self) -> int:
        """Bytes of one distilled set in float32."""
        return 4 * self.config.ingest.image_size**2 * self.classes * self.config.distill.images_per_class

    @functools.cached_property
    def small_training(self) -> float:
        """Seconds of one training on a small set by SGD."""
        return self._training(self.config.evaluate.small_set_training)

    @functools.cached_property
    def adaptive_training(self) -> float:
        """Seconds of one training on a small set by AdamW."""
        return self._training(self.config.evaluate.adaptive)

    def _training(self, rules: TrainingConfig) -> float:
        return rules.steps * self.probe.step(rules, self.config.distill.images_per_class)

    @property
    def _batches(self) -> int:
        images = self.training_images
        return max(1, images // min(self.config.experts.batch_size, max(1, images)))

    @functools.cached_property
    def epoch(self) -> float:
        """Seconds of one epoch on all training images."""
        config = self.config
        rules = dataclasses.replace(
            config.evaluate.small_set_training, batch_size=config.experts.batch_size, augment=config.experts.augment
        )
        return self._batches * self.probe.step(rules, self.training_images)

    @functools.cached_property
    def experts(self) -> float:
        """Seconds of the training of all experts."""
        rules = self.config.experts
        each = rules.dp.steps_per_epoch if rules.dp.enabled else self._batches
        return rules.count * rules.epochs * each * self.probe.expert_step()

    def continuations(self, method: str) -> float:
        """Return the seconds of training on from the experts' snapshots: once from each that segments begin at."""
        config, experts = self.config.distill_by(method), self.config.experts
        if not config.continues_experts:
            return 0.0
        starts = experts.count * (config.max_start - config.min_start)
        epochs = starts * config.continuations * config.expert_epochs
        return epochs * self.experts / (experts.count * experts.epochs)

    def outer_steps(self, method: str) -> float:
        """Return the seconds of all outer steps of a method, without scores on validation."""
        if method not in self._paces:
            self._paces[method] = self.probe.outer_step(self.config.distill_by(method))
        return self.config.distill_by(method).outer_steps * self._paces[method]


def survey_of(config: RunConfig, source: Path) -> Survey:
    """Look at the images in `source` and prepare the measurements.

    Raises:
        IngestError: the input is not usable.
        ConfigError: settings that the probe's experts refuse.
    """
    counts, splits, aside, reading = _probe_input(config, source)
    return Survey(config, counts, splits, aside, reading, _Probe(config, max(2, len(counts))))


def _probe_input(config: RunConfig, source: Path) -> tuple[Counter[str], SplitCounts, int, float]:
    """Return usable images by label and by split, files set aside, and seconds to find and decode one image."""
    from medidistill.ingest.loading import load_images
    from medidistill.ingest.sources import find_records, workspace
    from medidistill.ingest.synthetic import all_marked_synthetic

    began = time.perf_counter()
    with workspace(None) as place:
        found = find_records(source, config.ingest, place)
        records = found.records
        if not records:
            raise IngestError(f"{source}: no usable images; {len(found.quarantine)} set aside")
        finding = (time.perf_counter() - began) / len(records)
        chosen = records[:: max(1, len(records) // _PROBES)][:_PROBES]
        began = time.perf_counter()
        images = list(load_images(chosen, config.ingest.image_size, "memory", None, 1))
        decoded = sum(not isinstance(image, str) for image in images)  # the run itself will quarantine the others
        reading = finding + (time.perf_counter() - began) / max(1, decoded)
        ours = not load_policy(config.privacy.policy).patients  # the one policy that asks, of every file
        phantom = ours and all_marked_synthetic(source, [record.key for record in records])
    splits = count_splits(records, config, phantom=phantom)
    return Counter(record.label for record in records), splits, len(found.quarantine), reading


class _Probe:
    """Seconds of one step of each kind, on noise, with this run's shapes."""

    def __init__(self, config: RunConfig, classes: int) -> None:
        self._config, self._classes = config, classes
        self.parameters = sum(p.numel() for p in self._network().parameters())

    def _network(self) -> torch.nn.Module:
        size = self._config.ingest.image_size
        generator = stream(0, "plan")
        return make_network(
            self._config.network, channels=1, image_size=size, num_classes=self._classes, generator=generator
        )

    def _noise(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        size = self._config.ingest.image_size
        images = torch.randn(count, 1, size, size, generator=stream(0, "plan", "noise"))
        return images, torch.arange(count) % self._classes

    def step(self, training: TrainingConfig, per_class: int) -> float:
        """Return the seconds of one training step of an arm with `per_class` images a class."""
        count = max(1, min(training.batch_size, per_class * self._classes))
        network, (images, labels) = self._network(), self._noise(count)

        def work(steps: int) -> None:
            train(network, images, labels, dataclasses.replace(training, steps=steps), stream(0, "plan", "step"))

        return _pace(work)

    def expert_step(self) -> float:
        """Return the seconds of one step of an expert, of DP-SGD where experts are private."""
        settings, dp = dataclasses.replace(self._config.experts, count=1), self._config.experts.dp
        images, labels = self._noise(dp.expected_patients if dp.enabled else settings.batch_size)
        if dp.enabled:  # a patient each, all in every step
            everybody = dataclasses.replace(dp, sampling_rate=1.0, steps_per_epoch=1, noise_multiplier=1.0)
            settings = dataclasses.replace(settings, dp=everybody)

        def work(steps: int) -> None:
            with tempfile.TemporaryDirectory() as folder:
                self._experts(images, labels, dataclasses.replace(settings, epochs=steps), Path(folder))

        return _pace(work)

    def _experts(self, images: torch.Tensor, labels: torch.Tensor, settings: ExpertConfig, folder: Path) -> list[Path]:
        return train_experts(
            images,
            labels,
            num_classes=self._classes,
            network=self._config.network,
            config=settings,
            seed=0,
            folder=folder,
            compile="off",
            patients=[str(i) for i in range(len(images))],
        )

    def outer_step(self, rules: DistillConfig) -> float:
        """Return the seconds of one outer step by `rules`, without validation."""
        if not rules.matches_experts:  # steps that take next to nothing
            return 0.0
        settings = dataclasses.replace(
            rules,
            start_from="",
            coarse=1,
            label_init="smoothing",
            importance=_without_continuations(rules.importance),
            target="expert",
            line_epochs=0,
            min_start=0,
            max_start=1,
            expert_epochs=1,
            validate_every=0,
            compile="off",
            init="noise",
        )
        images, labels = self._noise(max(8, self._classes))
        with tempfile.TemporaryDirectory() as folder:
            expert = dataclasses.replace(self._config.experts, count=1, epochs=1, dp=DPConfig())
            files = self._experts(images, labels, expert, Path(folder))

            def work(steps: int) -> None:
                distill(
                    DistillProblem(
                        files,
                        class_names=[str(i) for i in range(self._classes)],
                        normalisation=Normalisation(),
                        training=self._config.evaluate.small_set_training,
                        seed=0,
                        real=(images, labels),
                    ),
                    dataclasses.replace(settings, outer_steps=steps),
                )

            return _pace(work, 2)


def _without_continuations(importance: ImportanceConfig) -> ImportanceConfig:
    """Return W whose steps take as long and that reads nothing."""
    kind = "random" if importance.continues_experts else importance.kind
    return dataclasses.replace(importance, start="ones", kind=kind)


def _pace(work: Callable[[int], None], steps: int = _PROBES) -> float:
    """Return the seconds of one step: the difference of a longer and a shorter piece of work."""
    took = []
    for count in (1, 1 + steps):
        began = time.perf_counter()
        work(count)
        took.append(time.perf_counter() - began)
    return max((took[1] - took[0]) / steps, 1e-6)
