"""Distill: one stage for each method of the run, continued from its checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medidistill.config import DistillConfig, RunConfig, digest, without_later_defaults
from medidistill.distillation import Callbacks, DistillProblem, DistillStatus
from medidistill.distillation import distill as distill_images
from medidistill.distilled_set import DistilledSet
from medidistill.errors import DivergedError
from medidistill.files import load_tensors, read_json, translate_os_errors, write_json
from medidistill.networks import should_compile
from medidistill.pipeline.comparison.arms import SCORING_NETWORKS, method_config, methods, training_of, validation_score
from medidistill.pipeline.comparison.verdict import forget_comparison
from medidistill.pipeline.planning.memory import Need, distill_need, experts_need
from medidistill.pipeline.planning.survey import Survey
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.released_statistics import distil_released
from medidistill.pipeline.runfolder.progress import say
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.stage import Estimate, Stage
from medidistill.pipeline.stages.experts import at_side, expert_files, pool_stage, train_pool
from medidistill.pipeline.work import RunContext
from medidistill.results.history import HistoryEntry

__all__ = ["Distill", "distill"]

_UNWATCHED = (
    "W ascends and no outer step is chosen on validation; sets made so ended 0.02 to 0.12 below those of w = 1 "
    "(docs/benchmarks.md). Set distill.validate_every or use the method mtt; with experts.dp, where nothing may be "
    "chosen on patients, mtt"
)


@dataclass(frozen=True)
class Distill(Stage):
    """Distills with one method.

    Args:
        method: the method.
    """

    kind = "distill"
    title = "Distill"

    method: str

    @property
    def name(self) -> str:
        """Its name in the record, `distill/METHOD`."""
        return f"{self.kind}/{self.method}"

    @classmethod
    def of(cls, config: RunConfig) -> tuple[Stage, ...]:
        """Return a stage for each method of the run."""
        return tuple(cls(method) for method in methods(config))

    def inputs(self, run: RunContext) -> str:
        """Return the digest of the experts that are matched, the set that is begun with, and the settings."""
        return digest("distill", self.method, self._basis(run), self._settings(run), *self._rest(run))

    def resumable_inputs(self, run: RunContext) -> str:
        """Return the digest of what a checkpoint rests on: more checkpoints go on from it, and more outer
        steps where no schedule is laid out over them all."""
        settings = without_later_defaults(self._settings(run))
        free = ("outer_steps", "checkpoint_every") if self._settings(run).steps_may_grow else ("checkpoint_every",)
        kept = {key: value for key, value in settings.items() if key not in free}
        return digest("distill", self.method, self._basis(run), kept, *self._rest(run))

    def outputs(self, run: RunContext) -> tuple[Path, ...]:
        """Return the distilled set."""
        return (run.folder.distill(self.method) / "distilled.safetensors",)

    def run(self, run: RunContext) -> None:
        """Distill, from the checkpoint where there is one."""
        distill(run, self.method)

    def estimate(self, survey: Survey) -> Estimate:
        """Return the time of the outer steps with their scores, and the size of set and checkpoint."""
        config = survey.config.distill_by(self.method)
        scores = config.outer_steps // config.validate_every if config.validate_every else 0
        each = survey.small_training if config.learns_alpha else survey.adaptive_training
        seconds = survey.outer_steps(self.method) + survey.continuations(self.method) + SCORING_NETWORKS * scores * each
        return Estimate(seconds, 16 * survey.set_bytes + 6 * survey.probe.parameters * 4)

    def needs(self, config: RunConfig, images: int, classes: int) -> tuple[Need, ...]:
        """Return the memory of an outer step."""
        return (distill_need(config, self.method, images, classes),)

    def discard(self, folder: RunFolder) -> None:
        """Remove the set, its history and its checkpoint."""
        folder.remove_entry(folder.distill(self.method))

    def _settings(self, run: RunContext) -> DistillConfig:
        return method_config(run.config, self.method)

    def _basis(self, run: RunContext) -> str:
        pool, coarse = run.config.experts_by(self.method), self._settings(run).coarse
        basis = run.require(pool_stage(run, pool), "medidistill experts")
        if coarse > 1:
            basis = digest(basis, run.require(pool_stage(run, pool, coarse), "medidistill experts"))
        return basis

    def _rest(self, run: RunContext) -> list[object]:
        start = self._settings(run).start_from
        before = [run.require(f"distill/{start}", f"medidistill distill --method {start}")] if start else []
        return [training_of(run.config, self.method), run.config.seed, *before]


def distill(run: RunContext, method: str) -> None:
    """Distill with `method`, continuing from its checkpoint. Raises `DivergedError` when it cannot be finished."""
    config = method_config(run.config, method)
    run.config.check_private([method])  # it may be made beside those that are compared
    if not config.matches_experts:
        distil_released(run, method)
        return
    pool, coarse, stage = run.config.experts_by(method), config.coarse, Distill(method)
    if pool != run.config.experts:  # a pool that only some methods need is trained when one of them asks for it
        train_pool(run, pool)
    run.require(pool_stage(run, pool), "medidistill experts")
    if coarse > 1:
        train_pool(run, pool, coarse=coarse)
    inputs, folder, start = stage.inputs(run), run.folder.distill(method), config.start_from
    forget_comparison(run, method, inputs)
    if run.is_up_to_date(stage.name, inputs, *stage.outputs(run)):
        return
    forget_comparison(run, method, inputs, anew=run.config.experts.dp.enabled)
    data = run.data()
    run.require_memory(distill_need(run.config, method, data.num_images, data.train.num_classes))
    resume = run.ranks.broadcast_bool(lambda: _reset_if_stale(folder, stage.resumable_inputs(run)))
    first = DistilledSet.load(run.folder.distill(start) / "distilled.safetensors") if start else None
    if coarse > 1:
        first = _distilled(run, method, config.at_coarse_side(), folder / "coarse", coarse, first, resume=True)
    result = _distilled(run, method, config, folder, 1, first, resume=resume)
    curves = [folder / "history.json"]
    run.mark_finished(stage.name, inputs, curves, best_step=result.recipe["outer_step"], alpha=result.alpha)


def _distilled(
    run: RunContext,
    method: str,
    config: DistillConfig,
    folder: Path,
    coarse: int,
    start: DistilledSet | None,
    *,
    resume: bool,
) -> DistilledSet:
    """Distill at side / `coarse`, or read what was distilled there before."""
    made = folder / "distilled.safetensors"
    if coarse > 1 and run.ranks.broadcast_bool(lambda: made.is_file() and _is_completed(folder)):
        return DistilledSet.load(made)
    pool, data, seed = run.config.experts_by(method), run.data(), run.config.seed
    for file in expert_files(run, pool, coarse):
        load_tensors(file)  # all of it, once: distillation reads single snapshots, which carry no checksum
    train, stage = data.train, f"distill/{method}"
    name = digest(stage, config, coarse, seed)
    # a score on private patients would be one more touch, without a mechanism
    blind = run.config.experts.dp.enabled or not config.validate_every
    score = None if blind else _score(run, data, method, config)
    if score is not None:
        run.record_data_access("select_step", name, val=data.val)
    elif coarse == 1 and config.importance.ascends:
        say(run.progress, f"distill {method}: {_UNWATCHED}")
    real = at_side(data, coarse) if config.requires_real else None
    if real is not None:  # the most privacy-relevant use alone
        run.record_data_access(_use_of(config), name, train=train)
    label = f"distill {method}" if coarse == 1 else f"distill {method}, {train.images.shape[-1] // coarse} pixels"
    with run.bar(label, config.outer_steps, "step") as bar, run.stop.deferred():

        def on_step(entry: HistoryEntry) -> None:
            bar.at(int(entry["step"]), config.outer_steps, **_shown(entry))
            run.stop.check()

        result = distill_images(
            DistillProblem(
                expert_files(run, pool, coarse),
                class_names=train.class_names,
                normalisation=data.normalisation,
                training=training_of(run.config, method),
                seed=seed,
                real=real,
                patients=train.patient_ids,
                expert_training=pool,
                recipe={"method": method, "data": data.digest, "image_size": train.images.shape[-1] // coarse},
                start=start,
            ),
            config,
            callbacks=Callbacks(score=score, on_step=on_step),
            folder=folder,
            resume=resume,
            device=run.device,
            ranks=run.ranks,
        )
    if result.status is not DistillStatus.COMPLETED:
        raise DivergedError(
            f"distill {method}: {result.status} after step {len(result.history)}; lower distill.lr_images "
            f"or distill.alpha (the last good set is in {folder})"
        )
    return result.distilled


def _is_completed(folder: Path) -> bool:
    """Return whether what a folder holds was distilled to its end; a set that diverged is written there too."""
    history = read_json(folder / "history.json")
    return isinstance(history, dict) and history.get("status") == DistillStatus.COMPLETED


def _score(run: RunContext, data: PreparedData, method: str, config: DistillConfig) -> Callable[[DistilledSet], float]:
    """Return the score on validation that chooses the outer step, prepared for how often it is asked."""
    training, network = training_of(run.config, method), run.config.network
    times = config.outer_steps // config.validate_every
    batch = min(training.batch_size, config.images_per_class * data.train.num_classes)
    pixels = network.width * data.train.images[0, 0].numel()
    work = float(times * SCORING_NETWORKS * training.steps * batch * pixels)
    return validation_score(
        run.config,
        data,
        compile=network.name == "convnet" and should_compile(run.config.evaluate.compile, work),
        device=run.device,
        workers=run.workers_for(work, experts_need(run.config, data.num_images, data.train.num_classes)),
    )


def _use_of(config: DistillConfig) -> str:
    """Return the kind of event that reading real images is; of several uses the most privacy-relevant."""
    if config.init == "real":
        return "start_from_real"
    if config.init == "mixture":
        return "fit_groups"
    drawn = config.init == "gaussian"
    if config.objective == "snapshots":
        return "fit_gaussians" if drawn and not config.outer_steps else "match_features"
    if config.optimizes_on_real:
        return "real_batches"
    if config.matches_features_too:
        return "match_features"
    if drawn:
        return "fit_gaussians"
    return "continue_experts" if config.continues_experts else "weigh_parameters"


def _reset_if_stale(folder: Path, inputs: str) -> bool:
    """Make `folder` belong to `inputs`: keep a matching checkpoint (True), clear what another configuration left."""
    note = folder / "inputs.json"
    if note.is_file() and read_json(note).get("inputs") == inputs:
        return True
    with translate_os_errors(folder):
        shutil.rmtree(folder, ignore_errors=False) if folder.is_dir() else None
    write_json(note, {"inputs": inputs})
    return False


def _shown(entry: HistoryEntry) -> dict[str, float]:
    return {name: float(entry[name]) for name in ("loss", "alpha", "score") if entry.get(name) is not None}
