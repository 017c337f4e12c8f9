"""The outer loop: images, labels, alpha and W learned together from segments of expert trajectories.

Every random number of outer step k comes from the stream (seed, "outer", k, roll-backs so far), so that a
run resumed from any checkpoint draws what the unbroken run drew, and two methods with one seed share their
segments, batches and augmentation.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medidistill.config import DistillConfig, TrainingConfig, as_dict, digest
from medidistill.distill.importance import ImportanceWeights
from medidistill.distill.state import DistillState, initial_images
from medidistill.distill.trajectory import Experts
from medidistill.distill.unroll import InnerStep, MetaGradient, adjoint_gradient, draw_plan, stored_gradient
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.errors import ConfigError, StoppedError
from medidistill.files import load_tensors, save_tensors, write_json
from medidistill.networks import ParameterLayout, make_network, should_compile
from medidistill.seeding import stream

__all__ = ["DistillResult", "distill"]

_LARGEST_LOSS = 1e3  # the matching loss of a student that stays where it started is 1
_SMALLEST_ALPHA, _LARGEST_ALPHA = 1e-8, 10.0
_PICTURES = 8  # images are kept at step 0 and at this many later steps


@dataclass(frozen=True)
class DistillResult:
    """How a distillation ended and what it made.

    Args:
        status: "completed"; "nonfinite" or "diverged" when the roll-backs were used up.
        distilled: the set at `best_step`.
        best_step: the step with the best validation score; the last one where no score was asked for.
        history: one entry an outer step.
        events: roll-backs, with step and reason.
        evolution: (step, images) pairs.
    """

    status: str
    distilled: DistilledSet
    best_step: int
    history: list[dict[str, Any]]
    events: list[dict[str, Any]]
    evolution: list[tuple[int, Tensor]]


def distill(
    expert_files: Sequence[Path],
    config: DistillConfig,
    *,
    class_names: Sequence[str],
    normalisation: Normalisation,
    training: TrainingConfig,
    seed: int,
    folder: Path | None = None,
    resume: bool = False,
    score: Callable[[DistilledSet], float] | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    real: tuple[Tensor, Tensor] | None = None,
    recipe: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
) -> DistillResult:
    """Distil expert trajectories into a few synthetic images.

    Args:
        expert_files: files of `train_experts`.
        config: what is learned and how.
        class_names: K names in label order.
        normalisation: what the experts' images went through; shipped with the set.
        training: how to train from the set; its rate is replaced by the learned alpha.
        seed: of the start, the segments, batches and augmentation.
        folder: receives checkpoint, distilled set, history and evolution; nothing is written where None.
        resume: go on from the checkpoint in `folder` if there is one.
        score: validation score of a candidate set, higher is better; called every `validate_every` steps.
        on_step: called with each history entry; a `StoppedError` raised from it ends the loop after a checkpoint.
        real: normalised training images and labels, for `init="real"` alone.
        recipe: more facts to ship with the set.
        device: where to compute.

    Returns:
        A result in every case that is not an error of the caller: divergence is a status.

    Raises:
        ConfigError: settings that do not fit the experts, or a checkpoint of another configuration.
        IngestError: damaged expert files.
        StoppedError: `on_step` asked to stop.
    """
    loop = _Loop(Experts(expert_files), config, tuple(class_names), normalisation, training, seed, recipe, real, device)
    checkpoint = folder / "checkpoint.safetensors" if folder is not None else None
    if resume and checkpoint is not None and checkpoint.is_file():
        loop.restore(checkpoint)
    status = loop.run(checkpoint, score, on_step)
    result = loop.result(status)
    if folder is not None:
        _write(result, folder)
    return result


def _write(result: DistillResult, folder: Path) -> None:
    result.distilled.save(folder / "distilled.safetensors")
    pictures = {f"step-{step:06d}": images for step, images in result.evolution}
    save_tensors(folder / "evolution.safetensors", pictures, {"kind": "evolution"})
    summary = {
        "status": result.status,
        "best_step": result.best_step,
        "entries": result.history,
        "events": result.events,
    }
    write_json(folder / "history.json", summary)


class _Loop:
    def __init__(
        self,
        experts: Experts,
        config: DistillConfig,
        class_names: tuple[str, ...],
        normalisation: Normalisation,
        training: TrainingConfig,
        seed: int,
        recipe: Mapping[str, Any] | None,
        real: tuple[Tensor, Tensor] | None,
        device: torch.device | str,
    ) -> None:
        shape = experts.architecture
        last = config.max_start - 1 + config.expert_epochs
        if last > experts.epochs:
            raise ConfigError(
                f"max_start={config.max_start} with expert_epochs={config.expert_epochs} needs snapshot {last}; "
                f"the experts end at epoch {experts.epochs}"
            )
        if len(class_names) != shape.num_classes:
            raise ConfigError(f"{len(class_names)} class names for experts of {shape.num_classes} classes")
        self.experts, self.config, self.seed, self.device = experts, config, seed, torch.device(device)
        self.class_names, self.normalisation, self.training = class_names, normalisation, training
        self.recipe = dict(recipe or {})
        network = make_network(
            shape.network,
            channels=shape.channels,
            image_size=shape.image_size,
            num_classes=shape.num_classes,
            generator=stream(seed, "layout"),
        ).to(self.device)
        layout = ParameterLayout.of(network)
        self.labels = torch.arange(shape.num_classes).repeat_interleave(config.ipc)
        batch = min(config.batch_size or len(self.labels), len(self.labels))
        work = config.outer_steps * config.segments * config.inner_steps * batch
        compiled = should_compile(config.compile, work * shape.network.width * shape.image_size**2 * 4)
        self.step = InnerStep(network, compile=compiled, learn_targets=config.soft_labels)
        images = initial_images(
            config, (shape.channels, shape.image_size, shape.image_size), shape.num_classes, real, seed
        )
        weights = ImportanceWeights(layout, config.importance, experts.moving(layout))
        self.state = DistillState(
            config, images.to(self.device), self.labels.to(self.device), shape.num_classes, weights
        )
        self.good = self.state.save()
        # steps that may be added later, and how often to write, do not change what a step computes
        plain = {k: v for k, v in as_dict(config).items() if k not in ("outer_steps", "checkpoint_every")}
        origins = [member.header["digest"] + str(member.header["expert"]) for member in experts.members]
        self.digest = digest(plain, origins, seed, list(class_names))

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint file."""
        tensors, header = load_tensors(path)
        if header.get("digest") != self.digest:
            raise ConfigError(
                f"{path}: was made with other settings, experts or seed; resume with those, or start in a new folder"
            )
        self.state.load(({name: value.to(self.device) for name, value in tensors.items()}, header["progress"]))
        self.good = self.state.save()

    def _keep(self, path: Path | None) -> None:
        self.good = self.state.save()
        if path is not None:
            tensors, progress = self.good
            save_tensors(path, tensors, {"kind": "checkpoint", "digest": self.digest, "progress": progress})

    def run(
        self,
        checkpoint: Path | None,
        score: Callable[[DistilledSet], float] | None,
        on_step: Callable[[dict[str, Any]], None] | None,
    ) -> str:
        """Take the outer steps that are left; return the status."""
        config, state = self.config, self.state
        pictures = {round(k * config.outer_steps / _PICTURES) for k in range(_PICTURES + 1)}
        if state.progress.step == 0:
            state.evolution[0] = state.images.clone()
        while state.progress.step < config.outer_steps:
            started = time.perf_counter()
            entry, problem = self._outer_step()
            if problem is not None:
                if state.progress.rollbacks >= config.max_rollbacks:
                    return problem
                self._roll_back(problem)
                continue
            progress = state.progress
            progress.step += 1
            if progress.step in pictures:
                state.evolution[progress.step] = state.images.clone()
            at_last = progress.step == config.outer_steps
            if score is not None and config.validate_every and (progress.step % config.validate_every == 0 or at_last):
                entry["score"] = score(self.distilled(state.save()[0], "now"))
                if progress.best_score is None or entry["score"] > progress.best_score:
                    state.keep_as_best(entry["score"])
            entry["seconds"] = round(time.perf_counter() - started, 4)
            progress.entries.append(entry)
            try:
                if on_step is not None:
                    on_step(entry)
            except StoppedError:
                self._keep(checkpoint)
                raise
            if progress.step % config.checkpoint_every == 0 or at_last:
                self._keep(checkpoint)
        return "completed"

    def _outer_step(self) -> tuple[dict[str, Any], str | None]:
        """Compute one update; return its history entry, and what went wrong if anything did."""
        config, state = self.config, self.state
        generator = stream(self.seed, "outer", state.progress.step, state.progress.rollbacks)
        found, parts = [], []
        for _ in range(config.segments):
            gradient, matched = self._segment(generator)
            found.append(gradient)
            parts.append(matched)
        loss = sum(gradient.loss for gradient in found) / len(found)
        entry: dict[str, Any] = {"step": state.progress.step + 1, "loss": loss}
        slopes = {
            "images": torch.stack([gradient.images for gradient in found]).mean(0),
            "log_alpha": torch.stack([gradient.alpha for gradient in found]).mean(0) * state.alpha,
        }
        if config.soft_labels:
            by_target = torch.stack([gradient.targets for gradient in found]).mean(0)
            (slopes["logits"],) = _through_softmax(state.logits, by_target)
        if not all(bool(torch.isfinite(value).all()) for value in (torch.tensor(loss), *slopes.values())):
            return entry, "nonfinite"
        if loss > _LARGEST_LOSS:
            return entry, "diverged"
        state.apply(slopes)
        state.weights.update(torch.stack(parts).mean(0), state.progress.rate_scale)
        if not state.is_finite():
            return entry, "nonfinite"
        if not _SMALLEST_ALPHA <= float(state.alpha) <= _LARGEST_ALPHA:
            return entry, "diverged"
        entry["alpha"] = float(state.alpha)
        if config.importance.enabled:
            entry["effective_sample_size"] = state.weights.effective_share()
            every = config.validate_every or 20
            if (state.progress.step + 1) % every == 0 or state.progress.step + 1 == config.outer_steps:
                entry["w"] = state.weights.summary()
        return entry, None

    def _segment(self, generator: torch.Generator) -> tuple[MetaGradient, Tensor]:
        """Match one drawn segment; return the gradients and the terms w^2 d^2 / Z of the loss."""
        config, state = self.config, self.state
        number = int(torch.randint(len(self.experts), (), generator=generator))
        start = int(torch.randint(config.min_start, config.max_start, (), generator=generator))
        begin, target = (theta.to(self.device) for theta in self.experts.segment(number, start, config.expert_epochs))
        plan = draw_plan(
            len(state.images), config.inner_steps, config.batch_size, config.augment, generator, self.device
        )
        kept: list[Tensor] = []

        def end_loss(end: Tensor) -> tuple[Tensor, Tensor]:
            loss, slope, parts = state.weights.matching_loss(end, target, begin)
            kept.append(parts)
            return loss, slope

        unroll = adjoint_gradient if config.gradient == "adjoint" else stored_gradient
        gradient = unroll(self.step, begin, state.images, state.targets(), state.alpha, plan, end_loss)
        return gradient, kept[0]

    def _roll_back(self, problem: str) -> None:
        failed, before = self.state.progress.step + 1, self.state.progress
        self.state.load(self.good)
        progress = self.state.progress
        progress.rollbacks = before.rollbacks + 1
        progress.events = [*before.events, {"step": failed, "problem": problem, "back_to": progress.step}]

    def distilled(self, tensors: Mapping[str, Tensor], which: str) -> DistilledSet:
        """Return the set held by a checkpoint's tensors under `which` ("now" or "best")."""
        config, shape = self.config, self.experts.architecture
        alpha = float(tensors[f"{which}/log_alpha"].exp())
        weights = ImportanceWeights(self.state.weights.layout, config.importance, self.state.weights.moving)
        weights.load_state(tensors[f"{which}/s"])
        soft = torch.softmax(tensors[f"{which}/logits"], dim=1).cpu() if config.soft_labels else None
        return DistilledSet(
            images=tensors[f"{which}/images"].cpu().clone(),
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
                "method": "iadd" if config.importance.enabled else "mtt",
                "init": config.init,
                "seed": self.seed,
                "distill": as_dict(config),
                "experts": {"count": len(self.experts), "epochs": self.experts.epochs},
            },
        )

    def result(self, status: str) -> DistillResult:
        """Return the outcome; the best set where one was scored, else the last good one."""
        tensors, _ = self.good if status != "completed" else self.state.save()
        progress = self.state.progress
        which = "best" if "best/images" in tensors else "now"
        distilled = self.distilled(tensors, which)
        best_step = progress.best_step if which == "best" else progress.step
        distilled = dataclasses.replace(distilled, recipe={**distilled.recipe, "outer_step": best_step})
        pictures = sorted(self.state.evolution.items())
        return DistillResult(status, distilled, best_step, progress.entries, progress.events, pictures)


def _through_softmax(logits: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(torch.softmax(leaf, dim=1), leaf, slope)
