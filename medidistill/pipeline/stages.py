"""The stages that learn: ingest, experts, distill.

Each knows the digest of what goes in, is skipped where that has been done, and notes itself in the record.
"""

from __future__ import annotations

import dataclasses
import secrets
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from medidistill.config import DistillConfig, ExpertConfig, ImportanceConfig, as_dict, digest
from medidistill.distillation import at_coarse_side, expert_file, finished_experts, train_experts
from medidistill.distillation import distill as distill_images
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, DivergedError
from medidistill.files import load_tensors, read_json, translate_os_errors, write_json
from medidistill.patient_units import FACT
from medidistill.pipeline.arms import check_ipc, method_config, methods, training_of, validation_score
from medidistill.pipeline.memory import distill_need, experts_need
from medidistill.pipeline.prepared import Prepared
from medidistill.pipeline.progress import say
from medidistill.pipeline.release_check import check_after_ingest
from medidistill.pipeline.released_statistics import distil_released
from medidistill.pipeline.run_folder import RunFolder
from medidistill.pipeline.work import Run

__all__ = ["distill", "experts", "ingest", "source_of", "with_noise"]


def source_of(folder: RunFolder, source: Path | None) -> Path:
    """Return the folder of images of a run: the one it was started with. Raises `ConfigError` for another."""
    before = folder.noted_source()
    if source is None and before is None:
        raise ConfigError(f"{folder.path}: nothing was read yet; name the images with --input")
    if source is not None and before is not None and source.resolve() != before:
        raise ConfigError(f"--input {source}: this run was started with {before}; use that, or another --output")
    return source.resolve() if source is not None else Path(before or "")


def ingest(run: Run, source: Path | None) -> None:
    """Read, split and prepare the images of `source`; `None` continues with the source of the first call."""
    inputs = digest("ingest", run.config.ingest)
    source = source_of(run.folder, source)
    if not run.finished("ingest", inputs, run.folder.ingest / "train.safetensors"):
        _read(run, source, inputs)
    check = check_after_ingest(run)
    if check.wanted or check.unresolvable:
        for line in check.lines():
            say(run.progress, line)


def _read(run: Run, source: Path, inputs: str) -> None:
    folder = run.folder.ingest
    say(run.progress, f"ingest: reading {source}")
    # MONAI takes seconds to load, and a run that resumes later stages has no use for it
    from medidistill.ingest import ingest as read_images

    run.folder.note_source(source)
    result = read_images(source, run.config.ingest, folder=folder, workers=run.config.threads, progress=run.progress)
    data = Prepared.write(result, folder)
    counts = {split: getattr(data, split).counts() for split in ("train", "val", "test")}
    patients = {split: len(set(getattr(data, split).patient_ids)) for split in ("train", "val", "test")}
    aside = {"quarantined": len(result.quarantine), "warned": len(result.warned)}
    facts = {"images": counts, "patients": patients, **aside, FACT: result.patients.as_facts(), "notes": result.notes}
    for note in result.notes:
        say(run.progress, f"ingest: {note}")
    origin = "phantom" if result.synthetic else "patients"
    tables = [path for path in folder.iterdir() if path.suffix in (".csv", ".html")]
    run.note("ingest", inputs, tables, data=data.digest, origin=origin, **facts)
    run.touch("read", inputs, train=data.train, val=data.val, test=data.test)
    if run.config.ingest.normalisation == "zca":
        run.touch("fit_normalisation", inputs, train=data.train)


def experts(run: Run, shard: tuple[int, int] | None = None) -> None:
    """Train the experts that the compared methods match, on the training split; finished ones are kept.

    Args:
        run: the run; its ranks train a share each.
        shard: (i, n): train only the experts whose number is i modulo n, beside other processes; the stage is not
            noted as finished, a call without `shard` does that.
    """
    check_ipc(run.config, run.data().train.counts())
    needed = [method for method in methods(run.config) if method_config(run.config, method).objective != "statistics"]
    for pool in dict.fromkeys(run.config.experts_by(method) for method in needed):
        _train_pool(run, pool, shard)
    if not needed and shard is None:
        run.note("experts", digest("experts", "none"), files=0)


def _images(data: Prepared) -> int:
    return len(data.train) + len(data.val) + len(data.test)


def _stage_of(run: Run, pool: ExpertConfig, coarse: int = 1) -> str:
    flat = () if pool == run.config.experts else ("flat",)
    small = () if coarse == 1 else (f"coarse-{coarse}",)
    return "/".join(("experts", *flat, *small))


def _folder_of(run: Run, pool: ExpertConfig, coarse: int = 1) -> Path:
    return run.folder.experts.joinpath(*_stage_of(run, pool, coarse).split("/")[1:])


def _at_side(data: Prepared, coarse: int) -> tuple[Tensor, Tensor]:
    """Return normalised training images averaged down to side / coarse, and their labels."""
    images, labels = data.to_learn_from()
    return at_coarse_side(images, coarse, data.normalisation), labels


def _train_pool(run: Run, pool: ExpertConfig, shard: tuple[int, int] | None = None, coarse: int = 1) -> None:
    data, config, stage = run.data(), run.config, _stage_of(run, pool, coarse)
    small = [coarse] if coarse > 1 else []
    inputs = digest("experts", data.digest, config.network, pool, config.seed, *small)
    if shard is None and run.finished(stage, inputs, *_expert_files(run, pool, coarse)):
        return
    run.fits(experts_need(config, _images(data), data.train.num_classes))
    images, labels = (part.to(run.device) for part in _at_side(data, coarse))
    if shard is None:
        settings = _protected(run, data, images, inputs, pool, coarse)
    elif pool.dp.enabled:
        raise ConfigError("experts.dp: not with --shard; what each training costs is noted by one process")
    else:
        settings = pool
    ranks = run.ranks
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
                folder=_folder_of(run, pool, coarse),
                on_epoch=bar.at,
                patients=data.train.patient_ids,
                shard=share,
                facts={"class_names": data.train.class_names, "normalisation": data.normalisation.kind},
            )
    if shard is None:
        ranks.wait()
        run.note(stage, inputs, files=pool.count)


def _protected(run: Run, data: Prepared, images: Tensor, inputs: str, pool: ExpertConfig, coarse: int) -> ExpertConfig:
    """Return the experts' settings with their noise, and note what the missing experts will cost.

    DP experts draw fresh noise whenever they are trained, so each training is an event of its own.
    """
    if not pool.dp.enabled:
        run.touch("train_experts", inputs, train=data.train)
        return pool
    private = with_noise(pool)
    done = finished_experts(
        images,
        data.train.labels,
        num_classes=data.train.num_classes,
        network=run.config.network,
        config=private,
        seed=run.config.seed,
        folder=_folder_of(run, pool, coarse),
    )
    missing = pool.count - done
    if missing:
        parameters = {
            "noise_multiplier": private.dp.noise_multiplier,
            "sampling_rate": private.dp.sampling_rate,
            "steps": missing * pool.epochs * private.dp.steps_per_epoch,
            "delta": private.dp.delta,
        }
        run.touch("train_experts", digest(inputs, secrets.token_hex(8)), "dp_sgd", parameters, train=data.train)
    return private


def with_noise(experts: ExpertConfig) -> ExpertConfig:
    """Return the settings with the noise multiplier that keeps all experts together within their epsilon."""
    from medidistill.privacy.accounting import calibrate_noise

    dp, steps = experts.dp, experts.count * experts.epochs * experts.dp.steps_per_epoch
    if not dp.enabled or dp.noise_multiplier > 0:
        return experts
    sigma = calibrate_noise(dp.epsilon, dp.delta, sampling_rate=dp.sampling_rate, steps=steps)
    return dataclasses.replace(experts, dp=dataclasses.replace(dp, noise_multiplier=sigma))


def _expert_files(run: Run, pool: ExpertConfig, coarse: int = 1) -> list[Path]:
    return [expert_file(_folder_of(run, pool, coarse), number) for number in range(pool.count)]


_UNWATCHED = (
    "W ascends and no outer step is chosen on validation; sets made so ended 0.02 to 0.12 below those of w = 1 "
    "(docs/benchmarks.md). Set distill.validate_every or use the method mtt; with experts.dp, where nothing may be "
    "chosen on patients, mtt"
)


def _leans_far(importance: ImportanceConfig) -> bool:
    """Whether a learned W moves to what is hard to match, which goes too far where nothing stops it."""
    learned = importance.enabled and importance.kind == "learned" and importance.lr > 0
    return learned and importance.direction == "ascend"


def distill(run: Run, method: str) -> None:
    """Distil with `method`, continuing from its checkpoint. Raises `DivergedError` when it cannot be finished."""
    config = method_config(run.config, method)
    if config.objective == "statistics":
        distil_released(run, method)
        return
    pool, coarse = run.config.experts_by(method), config.coarse
    if pool != run.config.experts:  # a pool that only some methods need is trained when one of them asks for it
        _train_pool(run, pool)
    basis = run.require(_stage_of(run, pool), "medidistill experts")
    if coarse > 1:
        _train_pool(run, pool, coarse=coarse)
        basis = digest(basis, run.require(_stage_of(run, pool, coarse), "medidistill experts"))
    data, seed, stage = run.data(), run.config.seed, f"distill/{method}"
    training = training_of(run.config, method)
    start, before = config.start_from, ""
    if start:
        before = run.require(f"distill/{start}", f"medidistill distill --method {start}")
    also = [before] if start else []
    inputs = digest("distill", method, basis, config, training, seed, *also)
    folder = run.folder.distill(method)
    if run.finished(stage, inputs, folder / "distilled.safetensors"):
        return
    run.fits(distill_need(run.config, method, _images(data), data.train.num_classes))
    # more steps, or more checkpoints, continue what is there; anything else that changed begins anew
    plain = {key: value for key, value in as_dict(config).items() if key not in ("outer_steps", "checkpoint_every")}
    resume = run.ranks.broadcast_bool(
        lambda: _claim(folder, digest("distill", method, basis, plain, training, seed, *also))
    )
    first = DistilledSet.load(run.folder.distill(start) / "distilled.safetensors") if start else None
    if coarse > 1:
        first = _distilled(run, method, config.at_coarse_side(), folder / "coarse", coarse, first, resume=True)
    result = _distilled(run, method, config, folder, 1, first, resume=resume)
    curves = [folder / "history.json"]
    run.note(stage, inputs, curves, best_step=result.recipe["outer_step"], alpha=result.alpha)


def _distilled(
    run: Run,
    method: str,
    config: DistillConfig,
    folder: Path,
    coarse: int,
    start: DistilledSet | None,
    *,
    resume: bool,
) -> DistilledSet:
    """Distil at side / `coarse`, or read what was distilled there before."""
    made = folder / "distilled.safetensors"
    if coarse > 1 and run.ranks.broadcast_bool(made.is_file):
        return DistilledSet.load(made)
    pool, data, seed = run.config.experts_by(method), run.data(), run.config.seed
    for file in _expert_files(run, pool, coarse):
        load_tensors(file)  # all of it, once: distillation reads single snapshots, which carry no checksum
    train, stage = data.train, f"distill/{method}"
    name = digest(stage, config, coarse, seed)
    # a score on private patients would be one more touch, without a mechanism
    blind = run.config.experts.dp.enabled or not config.validate_every
    score = None if blind else validation_score(run.config, data, device=run.device)
    if score is not None:
        run.touch("select_step", name, val=data.val)
    elif coarse == 1 and _leans_far(config.importance):
        say(run.progress, f"distill {method}: {_UNWATCHED}")
    real = _at_side(data, coarse) if config.reads_real else None
    if real is not None:  # of several uses the gravest
        run.touch(_use_of(config), name, train=train)
    label = f"distill {method}" if coarse == 1 else f"distill {method}, {train.images.shape[-1] // coarse} pixels"
    with run.bar(label, config.outer_steps, "step") as bar, run.stop.deferred():

        def on_step(entry: dict[str, Any]) -> None:
            bar.at(int(entry["step"]), config.outer_steps, **_shown(entry))
            run.stop.check()

        result = distill_images(
            _expert_files(run, pool, coarse),
            config,
            class_names=train.class_names,
            normalisation=data.normalisation,
            training=training_of(run.config, method),
            seed=seed,
            folder=folder,
            resume=resume,
            score=score,
            on_step=on_step,
            real=real,
            recipe={"method": method, "data": data.digest, "image_size": train.images.shape[-1] // coarse},
            device=run.device,
            ranks=run.ranks,
            start=start,
        )
    if result.status != "completed":
        raise DivergedError(
            f"distill {method}: {result.status} after step {len(result.history)}; lower distill.lr_images "
            f"or distill.alpha (the last good set is in {folder})"
        )
    return result.distilled


def _use_of(config: DistillConfig) -> str:
    """Return the kind of event that reading real images is; of several uses the gravest."""
    if config.init == "real":
        return "start_from_real"
    if config.objective == "snapshots":
        return "match_features"
    return "real_batches" if config.fits_real else "weigh_parameters"


def _claim(folder: Path, inputs: str) -> bool:
    """Make `folder` belong to `inputs`: keep a matching checkpoint (True), clear what another configuration left."""
    note = folder / "inputs.json"
    if note.is_file() and read_json(note).get("inputs") == inputs:
        return True
    with translate_os_errors(folder):
        shutil.rmtree(folder, ignore_errors=False) if folder.is_dir() else None
    write_json(note, {"inputs": inputs})
    return False


def _shown(entry: dict[str, Any]) -> dict[str, float]:
    return {name: float(entry[name]) for name in ("loss", "alpha", "score") if entry.get(name) is not None}
