"""Ready-made configurations in plain language, and about how long they take on this machine."""

from __future__ import annotations

import concurrent.futures
import functools
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from medidistill.config import METHODS, DistillConfig, NetworkConfig, RunConfig, TrainingConfig, with_settings
from medidistill.networks import make_network
from medidistill.pipeline import preset_files
from medidistill.pipeline.planning.survey import Survey
from medidistill.pipeline.release.release_check import SplitCounts
from medidistill.pipeline.stages import stages_of
from view_models.settings import effective_config

__all__ = [
    "Preset",
    "estimate_seconds",
    "estimate_stages",
    "known_step",
    "measured_step",
    "offered_arms",
    "presets",
    "spoken_duration",
]

_TITLES = {
    "quick": "First look",
    "standard": "Everyday",
    "paper": "Publication",
    "private": "Differentially private",
    "covid-cxr": "Public chest X-rays",
    "demo": "Practice on phantoms",
}
_WORDS = {
    "quick": "Small images, few networks. Its figures are rough: repeat with a longer one before you conclude.",
    "standard": "64 x 64 pixels, ten experts, five networks for everything that is compared.",
    "paper": "For a table that is published: more experts and steps, ten networks for everything that is compared, "
    "three architectures.",
    "private": "Experts trained with differential privacy by patient (epsilon 2), then an audit. Accuracy falls, "
    "the more so the fewer patients there are.",
    "covid-cxr": "Three classes of public chest X-rays at 64 x 64 pixels, ten networks for everything that is "
    "compared.",
    "demo": "Tiny images, made for phantoms. Good for learning the app, not for X-rays.",
}
_TIMED, _LONGEST_S = 4, 0.5  # passes that are timed, and seconds after which no more are
_USUAL = ("full", "packed", "random", "kmeans", "herding", "snapshots", "mtt", "iadd")
_READING = 0.02  # seconds to find and decode an X-ray
_PASSES = 3.5  # forward and backward passes that one student step costs, its exact gradient included


@dataclass(frozen=True)
class Preset:
    """A ready-made configuration.

    Args:
        name: what `--config` takes.
        title: what users call it.
        words: what it means for the user.
        config: its settings, with those of the environment.
    """

    name: str
    title: str
    words: str
    config: RunConfig


def presets() -> list[Preset]:
    """Return the ready-made configurations, those with words of ours first."""
    offered = [name for name in preset_files() if "/" not in name]  # those of papers are for their tables
    names = sorted(offered, key=lambda name: (list(_WORDS).index(name) if name in _WORDS else 99, name))
    return [Preset(name, _TITLES.get(name, name), _words(name), effective_config(name)) for name in names]


def _words(name: str) -> str:
    return _WORDS.get(name) or _first_comment(preset_files()[name])


def offered_arms(config: RunConfig) -> list[str]:
    """Return what may be compared in a run, those of the configuration and the usual ones first.

    What rests on differential privacy is offered where the experts are private, and nowhere else.
    """
    usual = [*config.evaluate.arms, *_USUAL, *METHODS]
    allowed = [arm for arm in usual if config.experts.dp.enabled or arm not in METHODS or not METHODS[arm].needs_dp]
    return list(dict.fromkeys(allowed))


def _first_comment(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "$schema=" not in line:  # that line is for editors
            lines.append(line.lstrip("# "))
    return " ".join(lines)


@functools.lru_cache(maxsize=32)
def measured_step(network: NetworkConfig, size: int) -> tuple[float, float]:
    """Return seconds (for a step, for an image in it) of forward and backward passes, measured here in a moment."""
    model = make_network(
        network, channels=1, image_size=size, num_classes=3, generator=torch.Generator().manual_seed(0)
    )
    few, many = 4, 16
    spent: dict[int, list[float]] = {few: [], many: []}
    while len(spent[many]) < _TIMED and sum(map(sum, spent.values())) < _LONGEST_S:
        for count, times in spent.items():  # in turn: what else the machine does then weighs on both alike
            images, labels = torch.zeros(count, 1, size, size), torch.zeros(count, dtype=torch.int64)
            began = time.perf_counter()
            torch.autograd.grad(torch.nn.functional.cross_entropy(model(images), labels), list(model.parameters()))
            times.append(time.perf_counter() - began)
    fastest = {count: min(times) for count, times in spent.items()}
    whole = fastest[many] / many
    # on a busy machine the smaller batch may be the slower one: an image never counts as nothing
    image = min(whole, max(whole / 4, (fastest[many] - fastest[few]) / (many - few)))
    return max(fastest[many] - many * image, 1e-5), image


_measuring = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="measure-speed")
_asked: dict[tuple[NetworkConfig, int], concurrent.futures.Future[tuple[float, float]]] = {}


def known_step(network: NetworkConfig, size: int) -> tuple[float, float] | None:
    """Return what `measured_step` does, or None while that is measured in the background, one network after another."""
    if (network, size) not in _asked:
        _asked[(network, size)] = _measuring.submit(measured_step, network, size)
    future = _asked[(network, size)]
    return future.result() if future.done() else None


def estimate_seconds(config: RunConfig, images: int, step: float, image: float, classes: int = 3) -> float:
    """Return about how long a run takes, from one measured training step: a rough guess. See `estimate_stages`."""
    return sum(estimate_stages(config, images, step, image, classes).values())


def estimate_stages(
    config: RunConfig, images: int, step: float, image: float, classes: int = 3, *, audit: str = ""
) -> dict[str, float]:
    """Return about how many seconds each stage of a run takes, from one measured training step: a rough guess.

    Args:
        config: the run.
        images: X-rays that go in.
        step: seconds of a training step, beside its images.
        image: seconds of each image in a training step.
        classes: number of classes.
        audit: profile of the audit; empty: as the configuration says.
    """
    if audit:
        config = with_settings(config, {"privacy": {"audit": audit}})
    counts = {str(k): images // classes + (k < images % classes) for k in range(classes)}
    pace = _Pace(config, classes, step, image)
    survey = Survey(config, counts, SplitCounts(classes, {}, {}), 0, _READING, pace)
    return {stage.name: stage.estimate(survey).seconds for stage in stages_of(config)}


@dataclass(frozen=True)
class _Pace:
    """Seconds of one step of each kind, from those of a training step and of each image in it."""

    config: RunConfig
    classes: int
    a_step: float
    an_image: float
    parameters: int = 0  # sizes on disk are not asked for

    def _seconds(self, images: int) -> float:
        return self.a_step + images * self.an_image

    def step(self, training: TrainingConfig, per_class: int) -> float:
        """Return the seconds of one training step of an arm with `per_class` images a class."""
        return self._seconds(min(training.batch_size, per_class * self.classes))

    def expert_step(self) -> float:
        """Return the seconds of one step of an expert."""
        dp = self.config.experts.dp
        return self._seconds(dp.expected_patients if dp.enabled else self.config.experts.batch_size)

    def outer_step(self, rules: DistillConfig) -> float:
        """Return the seconds of one outer step by `rules`, without validation."""
        made = rules.images_per_class * self.classes
        if not rules.learns_alpha:  # nothing is unrolled
            return self._seconds(min(rules.match_batch * self.classes or made, made))
        return rules.segments * rules.inner_steps * _PASSES * self._seconds(min(rules.batch_size or made, made))


def spoken_duration(seconds: float) -> str:
    """Return a time span as people say it: `about 4 minutes`."""
    if seconds < 50:
        return "less than a minute"
    if seconds < 5400:
        minutes = max(1, round(seconds / 60))
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    if seconds < 36 * 3600:
        return f"about {seconds / 3600:.0f} hours"
    return f"about {seconds / 86400:.1f} days"
