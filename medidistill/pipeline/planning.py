"""What a run would do, how long it would take and how much it would need, before it does it.

Nothing is written into the output. The times are measured: a few real steps of each kind are taken on noise of
the right shape, on this machine, and multiplied by how often the run takes them.
"""

from __future__ import annotations

import dataclasses
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medidistill.config import DistillConfig, DPConfig, ExpertConfig, RunConfig, TrainingConfig
from medidistill.distillation import distill, train_experts
from medidistill.distilled_set import Normalisation
from medidistill.errors import IngestError
from medidistill.evaluate.protocol import CHOOSING_NETWORKS
from medidistill.networks import make_network, train
from medidistill.pipeline.arms import compared, methods
from medidistill.pipeline.memory import distill_need, experts_need
from medidistill.pipeline.release_check import ReleaseCheck, SplitCounts, check_release, count_splits
from medidistill.pipeline.releasing import load_policy
from medidistill.pipeline.status import duration
from medidistill.seeding import stream

__all__ = ["Plan", "Stage", "make_plan"]

_MIB = 2**20
_PROBES = 8  # steps, or images, that a time is measured on


@dataclass(frozen=True)
class Stage:
    """One stage of a plan: what would be done, the estimated time in seconds and size on disk in bytes."""

    name: str
    action: str
    seconds: float
    disk: int


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Args:
        images: usable images found, by label.
        set_aside: files that would be quarantined before any is decoded.
        stages: in order.
        memory: estimated peak of the process, bytes.
        release: what the counts say about a release, before any file is decoded or set aside.
    """

    images: dict[str, int]
    set_aside: int
    stages: tuple[Stage, ...]
    memory: int
    release: ReleaseCheck

    def as_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {count}" for name, count in self.images.items())
        lines = [f"input   {sum(self.images.values())} images ({listed}), {self.set_aside} set aside", ""]
        wide = max(14, *(len(one.name) for one in self.stages)) + 2
        lines.append(f"{'stage':<{wide}}{'action':<12}{'time about':<14}disk about")
        for one in self.stages:
            shown = duration(one.seconds) if one.action == "to do" else "-"
            lines.append(f"{one.name:<{wide}}{one.action:<12}{shown:<14}{one.disk / _MIB:.1f} MiB")
        left = sum(one.seconds for one in self.stages if one.action == "to do")
        disk = sum(one.disk for one in self.stages)
        lines += [
            "",
            f"in all  about {duration(left)}, {disk / _MIB:.0f} MiB on disk, {self.memory / _MIB:.0f} MiB of memory",
        ]
        if self.release.wanted or self.release.unresolvable:
            lines += ["", *self.release.lines(), ""]
        return "\n".join(
            [*lines, "nothing was written; times are measured on a few steps on this machine, as it is busy now"]
        )


def make_plan(config: RunConfig, source: Path, actions: dict[str, str]) -> Plan:
    """Estimate a run over the images in `source`.

    Args:
        config: the run.
        source: folder of X-rays; its labels are read and a few images are decoded.
        actions: what will be done with each stage, by name, in order: `to do`, `done` or `left out`.

    Raises:
        IngestError: the input is not usable.
        ConfigError: settings that the probe's experts refuse.
    """
    counts, splits, aside, reading = _probe_input(config, source)
    release = check_release(config, splits)
    total = sum(counts.values())
    side = config.ingest.image_size
    probe = _Probe(config, max(2, len(counts)))
    trained = round(total * (1 - config.ingest.val_fraction - config.ingest.test_fraction))
    batches = max(1, trained // min(config.experts.batch_size, max(1, trained)))
    parameters = probe.parameters
    rules, made = config.evaluate, config.distill.images_per_class
    small = rules.small.steps * probe.step(rules.small, made)
    adaptive = rules.adaptive.steps * probe.step(rules.adaptive, made)
    epoch = batches * probe.step(_full(config), trained)
    # the longer training counts for the networks that count; four ways by SGD and two by AdamW are tried
    cell_small = rules.networks * max(small, adaptive) + CHOOSING_NETWORKS * (4 * small + 2 * adaptive)
    cell_full = (2 * rules.networks + 4 * CHOOSING_NETWORKS) * rules.full_epochs * epoch
    arms = compared(config)
    each = config.experts.dp.steps_per_epoch if config.experts.dp.enabled else batches
    experts = config.experts.count * config.experts.epochs * each * probe.expert_step()
    times = {"full": cell_full, "dp_full": config.evaluate.networks * experts}
    evaluate = len(config.evaluate.architectures) * sum(times.get(arm, cell_small) for arm in arms)
    outer = {}
    for method in methods(config):
        settings = config.distill_by(method)
        scores = settings.outer_steps // settings.validate_every if settings.validate_every else 0
        scoring = 2 * scores * (small if settings.learns_alpha else adaptive)
        outer[method] = settings.outer_steps * probe.outer_step(settings) + scoring
    images = 4 * side**2 * max(2, len(counts)) * made
    estimates = {
        "ingest": (reading * total, total * side**2 * 4),
        "experts": (experts, config.experts.count * (config.experts.epochs + 1) * parameters * 4),
        **{f"distill/{method}": (outer[method], 16 * images + 6 * parameters * 4) for method in methods(config)},
        "evaluate": (evaluate, len(arms) * config.evaluate.networks * (total - trained) * len(counts) * 4),
        "export": (1.0, 3 * images),
        "report": (5.0, 2 * _MIB),
    }
    stages = []
    for name, action in actions.items():
        seconds, disk = estimates.get(name, (0.0, 0))
        stages.append(Stage(name, action, round(seconds, 1), int(disk)))
    classes = max(2, len(counts))
    needs = [experts_need(config, total, classes)]
    needs += [distill_need(config, method, total, classes) for method in methods(config)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    memory = peak + round(max(need.bytes for need in needs))
    return Plan(dict(sorted(counts.items())), aside, tuple(stages), memory, release)


def _full(config: RunConfig) -> TrainingConfig:
    return dataclasses.replace(
        config.evaluate.small, batch_size=config.experts.batch_size, augment=config.experts.augment
    )


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
        films = list(load_images(chosen, config.ingest.image_size, "memory", None, 1))
        decoded = sum(not isinstance(film, str) for film in films)  # the run itself will quarantine the others
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
        if rules.objective == "statistics":  # no expert, and steps that take next to nothing
            return 0.0
        settings = dataclasses.replace(
            rules,
            start_from="",
            coarse=1,
            label_init="smoothing",
            importance=dataclasses.replace(rules.importance, start="ones"),
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
                    files,
                    dataclasses.replace(settings, outer_steps=steps),
                    class_names=[str(i) for i in range(self._classes)],
                    normalisation=Normalisation(),
                    training=self._config.evaluate.small,
                    seed=0,
                    real=(images, labels),
                )

            return _pace(work, 2)


def _pace(work: Callable[[int], None], steps: int = _PROBES) -> float:
    """Return the seconds of one step: the difference of a longer and a shorter piece of work."""
    took = []
    for count in (1, 1 + steps):
        began = time.perf_counter()
        work(count)
        took.append(time.perf_counter() - began)
    return max((took[1] - took[0]) / steps, 1e-6)
