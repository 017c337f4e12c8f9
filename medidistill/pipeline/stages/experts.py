"""Experts: trajectories of networks trained on the real images, by pool and by side."""

from __future__ import annotations

import dataclasses
import secrets
from pathlib import Path

from torch import Tensor

from medidistill.config import ExpertConfig, RunConfig, digest
from medidistill.distillation import at_coarse_side, expert_file, finished_experts, train_experts
from medidistill.errors import ConfigError
from medidistill.pipeline.comparison.arms import method_config, methods
from medidistill.pipeline.comparison.feasibility import check_ipc, check_patients, check_sets
from medidistill.pipeline.planning.memory import Need, experts_need
from medidistill.pipeline.planning.survey import Survey
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.stage import Estimate, Stage
from medidistill.pipeline.work import RunContext

__all__ = ["Experts", "at_side", "expert_files", "experts", "pool_folder", "pool_stage", "train_pool", "with_noise"]


class Experts(Stage):
    """Trains the experts that the compared methods match."""

    kind = "experts"
    title = "Train experts on the real X-rays"

    def inputs(self, run: RunContext) -> str:
        """Return the digest of the run's main pool, or of none where no method matches experts."""
        return (
            pool_inputs(run, run.data().digest, run.config.experts)
            if pools_of(run.config)
            else digest("experts", "none")
        )

    def outputs(self, run: RunContext) -> tuple[Path, ...]:
        """Return the files of the run's main pool."""
        return tuple(expert_files(run, run.config.experts)) if pools_of(run.config) else ()

    def run(self, run: RunContext) -> None:
        """Train what is not there yet."""
        experts(run)

    def estimate(self, survey: Survey) -> Estimate:
        """Return the time of all trainings, and the size of all snapshots."""
        rules = survey.config.experts
        return Estimate(survey.experts, rules.count * (rules.epochs + 1) * survey.probe.parameters * 4)

    def needs(self, config: RunConfig, images: int, classes: int) -> tuple[Need, ...]:
        """Return the memory of one training."""
        return (experts_need(config, images, classes),)

    def discard(self, folder: RunFolder) -> None:
        """Remove all pools."""
        folder.remove_entry(folder.experts)


def experts(run: RunContext, shard: tuple[int, int] | None = None) -> None:
    """Train the experts that the compared methods match, on the training split; finished ones are kept.

    Args:
        run: the run; its ranks train a share each.
        shard: (i, n): train only the experts whose number is i modulo n, beside other processes; the stage is not
            noted as finished, a call without `shard` does that.
    """
    train = run.data().train
    check_ipc(run.config, train.counts())
    check_patients(run.config, train)
    check_sets(run.config, train.images.shape[-1])
    pools = pools_of(run.config)
    for pool in pools:
        train_pool(run, pool, shard)
    if not pools and shard is None:
        run.mark_finished("experts", Experts().inputs(run), files=0)


def pools_of(config: RunConfig) -> tuple[ExpertConfig, ...]:
    """Return how each pool of experts is trained that the methods of a run match; none for methods without experts."""
    needed = [method for method in methods(config) if method_config(config, method).matches_experts]
    return tuple(dict.fromkeys(config.experts_by(method) for method in needed))


def pool_inputs(run: RunContext, data: str, pool: ExpertConfig, coarse: int = 1) -> str:
    """Return the digest of all that a pool of experts at side / `coarse` rests on; `data`: the digest of the images."""
    small = [coarse] if coarse > 1 else []
    return digest("experts", data, run.config.network, pool, run.config.seed, *small)


def pool_stage(run: RunContext, pool: ExpertConfig, coarse: int = 1) -> str:
    """Return the name in the record of a pool of experts at side / `coarse`: `experts`, `experts/flat`, ..."""
    flat = () if pool == run.config.experts else ("flat",)
    small = () if coarse == 1 else (f"coarse-{coarse}",)
    return "/".join(("experts", *flat, *small))


def pool_folder(run: RunContext, pool: ExpertConfig, coarse: int = 1) -> Path:
    """Return the folder of a pool of experts."""
    return run.folder.experts.joinpath(*pool_stage(run, pool, coarse).split("/")[1:])


def at_side(data: PreparedData, coarse: int) -> tuple[Tensor, Tensor]:
    """Return normalised training images averaged down to side / coarse, and their labels."""
    images, labels = data.training_tensors()
    return at_coarse_side(images, coarse, data.normalisation, data.folder), labels


def train_pool(run: RunContext, pool: ExpertConfig, shard: tuple[int, int] | None = None, coarse: int = 1) -> None:
    """Train a pool of experts, on images at side / `coarse`, unless that was done; see `experts` for `shard`."""
    data, config, stage = run.data(), run.config, pool_stage(run, pool, coarse)
    inputs = pool_inputs(run, data.digest, pool, coarse)
    if shard is None and run.is_up_to_date(stage, inputs, *expert_files(run, pool, coarse)):
        return
    need = experts_need(config, data.num_images, data.train.num_classes)
    run.require_memory(need)
    images, labels = (part.to(run.device) for part in at_side(data, coarse))
    if shard is None:
        settings = _calibrate_and_record_dp(run, data, images, inputs, pool, coarse)
    elif pool.dp.enabled:
        raise ConfigError("experts.dp: not with --shard; what each training costs is noted by one process")
    else:
        settings = pool
    ranks = run.ranks
    work = pool.count * pool.epochs * images.numel() * config.network.width  # one channel
    workers = run.workers_for(work, need) if shard is None else None
    share = shard or ((0, 1) if pool.dp.enabled else (ranks.index, ranks.count))
    if ranks.writes or not pool.dp.enabled:  # one process draws all the noise, and notes what it cost
        with run.bar(stage, pool.count * pool.epochs, "epoch") as bar:
            train_experts(
                images,
                labels,
                num_classes=data.train.num_classes,
                network=config.network,
                config=settings,
                seed=config.seed,
                folder=pool_folder(run, pool, coarse),
                on_epoch=bar.at,
                patients=data.train.patient_ids,
                shard=share,
                facts={"class_names": data.train.class_names, "normalisation": data.normalisation.kind},
                workers=workers,
            )
    if shard is None:
        ranks.wait()
        run.mark_finished(stage, inputs, files=pool.count)


def _calibrate_and_record_dp(
    run: RunContext, data: PreparedData, images: Tensor, inputs: str, pool: ExpertConfig, coarse: int
) -> ExpertConfig:
    """Return the experts' settings with their noise, and note what the missing experts will cost.

    DP experts draw fresh noise whenever they are trained, so each training is an event of its own.
    """
    if not pool.dp.enabled:
        run.record_data_access("train_experts", inputs, train=data.train)
        return pool
    private = with_noise(pool)
    done = finished_experts(
        images,
        data.train.labels,
        num_classes=data.train.num_classes,
        network=run.config.network,
        config=private,
        seed=run.config.seed,
        folder=pool_folder(run, pool, coarse),
        patients=data.train.patient_ids,
    )
    missing = pool.count - done
    if missing:
        parameters = {
            "noise_multiplier": private.dp.noise_multiplier,
            "sampling_rate": private.dp.sampling_rate,
            "steps": missing * pool.epochs * private.dp.steps_per_epoch,
            "delta": private.dp.delta,
        }
        run.record_data_access(
            "train_experts", digest(inputs, secrets.token_hex(8)), "dp_sgd", parameters, train=data.train
        )
    return private


def with_noise(experts: ExpertConfig) -> ExpertConfig:
    """Return the settings with the noise multiplier that keeps all experts together within their epsilon."""
    from medidistill.privacy.accounting import calibrate_noise

    dp, steps = experts.dp, experts.count * experts.epochs * experts.dp.steps_per_epoch
    if not dp.enabled or dp.noise_multiplier > 0:
        return experts
    sigma = calibrate_noise(dp.epsilon, dp.delta, sampling_rate=dp.sampling_rate, steps=steps)
    return dataclasses.replace(experts, dp=dataclasses.replace(dp, noise_multiplier=sigma))


def expert_files(run: RunContext, pool: ExpertConfig, coarse: int = 1) -> list[Path]:
    """Return the files of a pool of experts."""
    return [expert_file(pool_folder(run, pool, coarse), number) for number in range(pool.count)]
