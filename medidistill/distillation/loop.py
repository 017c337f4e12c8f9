"""The outer loop: images, labels, alpha and W learned together from segments of expert trajectories.

`medidistill.distillation.outer_step` computes one update. Here: the order of steps, validation, checkpoints,
roll-backs, and what is written.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from medidistill.config import DistillConfig, as_dict, digest
from medidistill.distillation.compatibility import check_problem, digest_of
from medidistill.distillation.continuations import make_continuations
from medidistill.distillation.expert_labels import expert_labels
from medidistill.distillation.label_init import first_images
from medidistill.distillation.objective import LearningObjective
from medidistill.distillation.objectives import ObjectiveInputs, make_objective, objective_kind
from medidistill.distillation.outer_step import OuterStep
from medidistill.distillation.problem import Callbacks, DistillProblem, DistillResult, DistillStatus, write_result
from medidistill.distillation.ranks import Ranks
from medidistill.distillation.state import Checkpoint, DistillState
from medidistill.distillation.trajectory import Experts
from medidistill.distillation.unroll import InnerStep, adjoint_dtype
from medidistill.distillation.warm_start import stored_images_of
from medidistill.distillation.weights import WeightInputs, begin_weights, make_weights
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, DivergedError, IngestError, StoppedError
from medidistill.files import load_tensors, save_tensors
from medidistill.hashing import tensor_sha256
from medidistill.jsontypes import JsonObject  # the header of a checkpoint
from medidistill.networks import ParameterLayout, should_compile
from medidistill.packed_images import rounded_labels
from medidistill.results.history import HistoryEntry
from medidistill.seeding import stream
from medidistill.spectral_images import SPECTRAL

__all__ = ["STOPPED", "distill"]

STOPPED = "stopped.safetensors"  # the best set so far of a distillation that was stopped
CHECKPOINT_FORMAT = 1  # files of before it was written have none
_SMALLEST_LABEL = 1e-4  # a label probability of 0 has no logit
_NUM_SNAPSHOTS = 8  # images are kept at step 0 and at this many later steps
_OBJECTIVE = "objective/"  # in a checkpoint: what the objective learns for itself
_ROLLBACK_PREFIX = "good/"  # in a checkpoint: the state that a roll-back returns to, where it is not the present one


def distill(
    problem: DistillProblem,
    config: DistillConfig,
    *,
    callbacks: Callbacks | None = None,
    folder: Path | None = None,
    resume: bool = False,
    device: torch.device | str = "cpu",
    ranks: Ranks | None = None,
) -> DistillResult:
    """Distill expert trajectories into a few synthetic images.

    Args:
        problem: experts, classes, seed, and what the images begin with.
        config: what is learned and how.
        callbacks: validation score and progress.
        folder: receives checkpoint, distilled set, history and evolution; nothing is written where None.
        resume: go on from the checkpoint in `folder` if there is one.
        device: where to compute.
        ranks: the processes that share the segments (`join_ranks`), all called with the same arguments and reading
            the same files; rank 0 alone scores and writes. None: this process alone.

    Returns:
        A result in every case that is not an error of the caller: divergence is a status.

    Raises:
        ConfigError: settings that do not fit the experts, or a checkpoint of another configuration.
        IngestError: damaged expert files.
        StoppedError: `on_step` asked to stop; `folder` then holds the best set so far as `stopped.safetensors`.
    """
    ranks, callbacks = ranks or Ranks(), callbacks or Callbacks()
    loop = _Loop(problem, config, device, ranks)
    if problem.weights is not None:
        loop.start_weights(problem.weights)
    if problem.start is not None:
        loop.start_images(problem.start)
    checkpoint = folder / "checkpoint.safetensors" if folder is not None else None
    if resume and checkpoint is not None and checkpoint.is_file():
        loop.restore(checkpoint)
    try:
        status = loop.run(checkpoint, callbacks)
    except StoppedError:
        if folder is not None and ranks.writes:
            loop.result(DistillStatus.COMPLETED).distilled.save(folder / STOPPED)
        raise
    result = loop.result(status)
    if folder is not None and ranks.writes:
        write_result(result, folder)
        (folder / STOPPED).unlink(missing_ok=True)  # of an earlier stop; the whole set is there now
    return result


def _stop_requested(on_step: Callable[[HistoryEntry], None] | None, entry: HistoryEntry) -> StoppedError | None:
    try:
        if on_step is not None:
            on_step(entry)
    except StoppedError as stop:
        return stop
    return None


class _Loop:
    def __init__(
        self, problem: DistillProblem, config: DistillConfig, device: torch.device | str, ranks: Ranks
    ) -> None:
        experts, seed = Experts(problem.experts), problem.seed
        check_problem(problem, config, experts, ranks)
        shape = experts.architecture
        self.experts, self.config, self.seed, self.device = experts, config, seed, torch.device(device)
        self.class_names, self.normalisation = tuple(problem.class_names), problem.normalisation
        self.training, self.recipe, self.ranks = problem.training, dict(problem.recipe), ranks
        self.init: str = config.init
        self.labels = torch.arange(shape.num_classes).repeat_interleave(config.images_per_class)
        real = problem.real
        network = shape.make_network(stream(seed, "layout")).to(self.device)
        layout = ParameterLayout.of(network)
        compiled = self._compilation_pays_off()
        step = InnerStep(
            network,
            compile=compiled,
            learn_targets=config.soft_labels,
            adjoint_dtype=adjoint_dtype(config),
            activation_budget_bytes=config.activation_cache_mb * 1e6,
        )
        continuations = make_continuations(experts, problem, config, self.device, compile=compiled)
        self.objective = make_objective(
            ObjectiveInputs(experts, config, step, layout, seed, self.device, compiled, real, continuations)
        )
        if ranks.count > 1 and isinstance(self.objective, LearningObjective) and self.objective.learns:
            raise ConfigError(
                f"distill.objective={config.objective!r} with feature_weights={config.feature_weights!r} on "
                f"{ranks.count} ranks: what it learns beside the images grows with every segment in turn, and ranks "
                "see their own alone; use one process"
            )
        self.class_counts = None if real is None else torch.bincount(real[1].cpu(), minlength=shape.num_classes)
        self.outer_step = OuterStep(self.objective, config, seed, ranks)
        stored, logits = first_images(experts, config, real, seed, problem.patients)
        weights = make_weights(layout, config.importance, experts.moving(layout), seed)
        begin_weights(weights, WeightInputs(experts, network, config, real, continuations, seed, self.device))
        self.state = DistillState(
            config,
            stored.to(self.device),
            shape.image_size,
            self.labels.to(self.device),
            shape.num_classes,
            weights,
            logits,
        )
        self.good = self._capture()
        self.digest = digest_of(problem, config, experts)

    def _compilation_pays_off(self) -> bool:
        """Whether the run is long enough to repay the compilation of its steps."""
        config, shape, whole = self.config, self.experts.architecture, len(self.labels)
        if config.learns_alpha:
            batch = min(config.batch_size or whole, whole) * config.inner_steps
        else:  # nothing is unrolled
            batch = min(config.match_batch * shape.num_classes or whole, whole)
        work = config.outer_steps * config.segments * batch
        return should_compile(config.compile, work * shape.network.width * shape.image_size**2 * 4)

    def start_weights(self, values: Mapping[str, Tensor]) -> None:
        """Begin with given weights W; a checkpoint made with others is another run's."""
        self.state.weights.set_weights(values)
        self.good = self._capture()
        content = {name: digest(value.double().flatten().tolist()) for name, value in values.items()}
        self.digest = digest(self.digest, content)

    def start_images(self, start: DistilledSet) -> None:
        """Begin with the images of another set; a checkpoint made with others is another run's."""
        if not torch.equal(start.labels, self.labels):
            wanted = self.config.images_per_class
            raise ConfigError(
                f"start: {len(start)} images, {dict(enumerate(torch.bincount(start.labels).tolist()))} by class; "
                f"must be {wanted} of each class, class by class: use the same distill.ipc and factor"
            )
        maps, state = self.state.parameterization, self.state
        stored = stored_images_of(start, maps).to(self.device)
        with torch.no_grad():
            state.coordinates.copy_(maps.coordinates(stored))
            if start.soft_labels is not None and self.config.soft_labels:
                state.logits.copy_(start.soft_labels.clamp_min(_SMALLEST_LABEL).log())
        state.images = state.shown()
        state.average = state.stored()
        self.init = str(start.recipe.get("init", self.config.init))
        self.good = self._capture()
        parts = [start.images, *([] if start.soft_labels is None else [start.soft_labels])]
        content = [tensor_sha256(part) for part in parts]
        self.digest = digest(self.digest, content)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint file."""
        tensors, header = load_tensors(path)
        if header.get("format", 0) > CHECKPOINT_FORMAT:
            raise IngestError(f"{path}: written by a newer medidistill; upgrade this one")
        if header.get("digest") != self.digest:
            raise ConfigError(
                f"{path}: was made with other settings, experts or seed; resume with those, or start in a new folder"
            )
        if header["progress"]["step"] > self.config.outer_steps:
            raise ConfigError(
                f"{path}: is at step {header['progress']['step']}, distill.outer_steps={self.config.outer_steps}: "
                f"must be >= {header['progress']['step']} to go on from here, or start in a new folder"
            )
        tensors = {name: value.to(self.device) for name, value in tensors.items()}
        good = {
            name.removeprefix(_ROLLBACK_PREFIX): value
            for name, value in tensors.items()
            if name.startswith(_ROLLBACK_PREFIX)
        }
        now = {name: value for name, value in tensors.items() if not name.startswith(_ROLLBACK_PREFIX)}
        self._return_to((now, header["progress"]))
        self.good = (good, header["good"]) if good else self._capture()

    def _capture(self) -> Checkpoint:
        """Return copies of all that the steps change: the state, and what the objective learns for itself."""
        tensors, progress = self.state.save()
        if isinstance(self.objective, LearningObjective):
            tensors |= {_OBJECTIVE + name: value for name, value in self.objective.save().items()}
        return tensors, progress

    def _return_to(self, checkpoint: Checkpoint) -> None:
        """Continue exactly from what `_capture` returned."""
        tensors, progress = checkpoint
        own = {name.removeprefix(_OBJECTIVE): tensors[name] for name in tensors if name.startswith(_OBJECTIVE)}
        self.state.load(({name: tensors[name] for name in tensors if not name.startswith(_OBJECTIVE)}, progress))
        if isinstance(self.objective, LearningObjective):
            self.objective.load(own)

    def _save_rollback_point(self, path: Path | None) -> None:
        """Make the present state the one that a roll-back returns to, and write it."""
        self.good = self._capture()
        self._write_checkpoint(path, self.good, {}, None)

    def _save_on_stop(self, path: Path | None) -> None:
        """Write the present state with the one that a roll-back returns to, which the unbroken run would keep."""
        tensors, progress = self.good
        # copies: safetensors refuses tensors that share memory, and an old best set is in both states
        good = {_ROLLBACK_PREFIX + name: value.clone() for name, value in tensors.items()}
        self._write_checkpoint(path, self._capture(), good, progress)

    def _write_checkpoint(
        self, path: Path | None, now: Checkpoint, good: dict[str, Tensor], good_progress: JsonObject | None
    ) -> None:
        if path is not None and self.ranks.writes:
            header = {"kind": "checkpoint", "format": CHECKPOINT_FORMAT, "digest": self.digest}
            header |= {"progress": now[1], "good": good_progress}
            save_tensors(path, now[0] | good, header)

    def run(self, checkpoint: Path | None, callbacks: Callbacks) -> DistillStatus:
        """Take the outer steps that are left; return the status."""
        config, state, score = self.config, self.state, callbacks.score
        pictures = {round(k * config.outer_steps / _NUM_SNAPSHOTS) for k in range(_NUM_SNAPSHOTS + 1)}
        if state.progress.step == 0:
            state.evolution[0] = self._snapshot_images()
        while state.progress.step < config.outer_steps:
            started = time.perf_counter()
            entry, problem = self.outer_step(state)
            if problem is not None:
                if state.progress.rollbacks >= config.max_rollbacks:
                    return problem
                self._roll_back(problem)
                continue
            progress = state.progress
            progress.step += 1
            if progress.step in pictures:
                state.evolution[progress.step] = self._snapshot_images()
            at_last = progress.step == config.outer_steps
            if score is not None and config.validate_every and (progress.step % config.validate_every == 0 or at_last):
                self._validate(score, entry)
            entry["seconds"] = round(time.perf_counter() - started, 4)
            progress.entries.append(entry)
            stopped = _stop_requested(callbacks.on_step, entry)
            if self.ranks.any(stopped is not None):
                self._save_on_stop(checkpoint)
                raise stopped or StoppedError("stopped with another rank", signal.SIGTERM)
            if progress.step % config.checkpoint_every == 0 or at_last:
                self._save_rollback_point(checkpoint)
        return DistillStatus.COMPLETED

    def _snapshot_images(self) -> Tensor:
        """Return the images that the evolution keeps: of a packed set the first `ipc` of each class."""
        config, images = self.config, self.state.images
        by_class = images.view(-1, config.images_per_class, *images.shape[1:])
        return by_class[:, : config.ipc].reshape(-1, *images.shape[1:]).clone()

    def _validate(self, score: Callable[[DistilledSet], float], entry: HistoryEntry) -> None:
        value = self._score(score) if self.ranks.writes else None
        value = self.ranks.broadcast(value)
        if value is not None:
            entry["score"] = value
            best = self.state.progress.best_score
            if best is None or value > best:
                self.state.keep_as_best(value)

    def _score(self, score: Callable[[DistilledSet], float]) -> float | None:
        try:
            value = score(self.distilled(self.state.learned()))
        except DivergedError:  # nothing can be trained from this set; a later one may do
            return None
        return value if math.isfinite(value) else None

    def _roll_back(self, problem: DistillStatus) -> None:
        failed, before = self.state.progress.step + 1, self.state.progress
        self._return_to(self.good)
        progress = self.state.progress
        progress.rollbacks = before.rollbacks + 1
        progress.events = [*before.events, {"step": failed, "problem": problem.value, "back_to": progress.step}]

    def distilled(self, learned: Mapping[str, Tensor]) -> DistilledSet:
        """Return the set that `learned` describes (see `DistillState.learned`)."""
        config, shape = self.config, self.experts.architecture
        alpha = float(learned["log_alpha"].exp()) if config.learns_alpha else self.training.lr
        weights = make_weights(self.state.weights.layout, config.importance, self.state.weights.moving, self.seed)
        weights.load_state(learned["s"])
        soft = torch.softmax(learned["logits"], dim=1).cpu() if config.soft_labels else None
        maps = self.state.parameterization
        if config.packed:
            stored = learned["average"] if config.ema else maps.stored(learned["coordinates"])
        else:
            stored = learned["average" if config.ema else "images"]
        packed = maps.pack(stored, config.stored_bits)
        images = stored.cpu().clone() if packed is None else packed.decode()
        if config.expert_labels:
            assert self.class_counts is not None  # every objective that allows expert labels reads real images
            soft = expert_labels(self.experts, images.to(self.device), self.class_counts.tolist()).cpu()
        if soft is not None and config.decoder == SPECTRAL:
            soft = rounded_labels(soft)
        return DistilledSet(
            images=images,
            packed=packed,
            labels=self.labels.clone(),
            soft_labels=soft,
            alpha=alpha,
            class_names=self.class_names,
            normalisation=self.normalisation,
            network=shape.network,
            training=dataclasses.replace(self.training, lr=alpha),
            importance=weights.by_name() if config.importance.enabled else {},
            recipe={
                **self.recipe,
                "method": self.recipe.get("method", objective_kind(config).method(config)),
                "init": self.init,
                "seed": self.seed,
                "distill": as_dict(config),
                "experts": {"count": len(self.experts), "epochs": self.experts.epochs},
            },
        )

    def result(self, status: DistillStatus) -> DistillResult:
        """Return the outcome; the best set where one was scored, else the last good one."""
        tensors, reached = self.good if status is not DistillStatus.COMPLETED else self._capture()
        progress = self.state.progress
        if self.state.best:  # scored, hence finite, even if it came after the last good checkpoint
            distilled, best_step = self.distilled(self.state.best), progress.best_step
        else:
            now = {name.removeprefix("now/"): value for name, value in tensors.items() if name.startswith("now/")}
            distilled, best_step = self.distilled(now), int(reached["step"])
        distilled = dataclasses.replace(distilled, recipe={**distilled.recipe, "outer_step": best_step})
        pictures = sorted(self.state.evolution.items())
        return DistillResult(status, distilled, best_step, progress.entries, progress.events, pictures)
