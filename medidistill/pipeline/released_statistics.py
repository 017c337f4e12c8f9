"""The distillation stage of `dp_stats`: one noised release of features' moments, and images that reproduce it.

The release is kept, because each one costs privacy: a stopped run goes on with it, and images are made from it again
and again for nothing more.
"""

from __future__ import annotations

import dataclasses
import secrets
from pathlib import Path

from medidistill.config import DistillConfig, DPConfig, as_dict, digest
from medidistill.distillation.noised_statistics import FeatureStatistics, noised_statistics
from medidistill.distillation.public_features import features_of
from medidistill.distillation.statistics_images import distil_statistics
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, IngestError
from medidistill.files import load_tensors, save_tensors, write_json
from medidistill.networks import secret_generator
from medidistill.pipeline.comparison.arms import method_config, training_of
from medidistill.pipeline.comparison.verdict import forget_comparison
from medidistill.pipeline.work import RunContext
from medidistill.results.history import HistoryEntry

__all__ = ["distil_released", "release_noise"]


def release_noise(dp: DPConfig) -> float:
    """Return sigma of one release of sensitivity 1 that keeps to (epsilon, delta). Raises `ConfigError`."""
    from medidistill.privacy.accounting import calibrate_noise

    if not dp.enabled:
        raise ConfigError(
            "experts.dp.enabled=False: statistics are released with noise alone; set it to true, with epsilon and delta"
        )
    return dp.noise_multiplier or calibrate_noise(dp.epsilon, dp.delta, sampling_rate=1.0, steps=1)


def distil_released(run: RunContext, method: str) -> None:
    """Release the statistics of the training split unless that was done, and make the images of them."""
    data, config, stage = run.data(), method_config(run.config, method), f"distill/{method}"
    dp, training = run.config.experts.dp, training_of(run.config, method)
    release = digest("moments", data.digest, dp.epsilon, dp.delta, dp.noise_multiplier)
    inputs = digest("distill", method, release, config, run.config.network, training, run.config.seed)
    made = run.folder.distill(method) / "distilled.safetensors"
    forget_comparison(run, method, inputs)
    if run.is_up_to_date(stage, inputs, made):
        return
    forget_comparison(run, method, inputs, anew=True)
    if run.ranks.writes:  # one process draws the noise, once: what another drew would be a second release
        _distil(run, method, config, release)
    run.ranks.wait()
    run.mark_finished(stage, inputs, best_step=config.outer_steps, alpha=DistilledSet.load(made).alpha)


def _distil(run: RunContext, method: str, config: DistillConfig, release: str) -> None:
    """Release the statistics `release` unless that was done, make the images of them and write the set."""
    data, folder = run.data(), run.folder.distill(method)
    statistics = _release(run, folder / "statistics.safetensors", release)
    entries: list[HistoryEntry] = []
    with run.bar(f"distill {method}", config.outer_steps, "step") as bar:

        def on_step(step: int, loss: float) -> None:
            entries.append({"step": step, "loss": loss})
            bar.at(step, config.outer_steps, loss=loss)
            run.stop.check()

        made = distil_statistics(
            statistics,
            ipc=config.ipc,
            shape=(data.train.images.shape[1], *data.train.images.shape[2:]),
            class_names=data.train.class_names,
            normalisation=data.normalisation,
            network=run.config.network,
            training=training_of(run.config, method),
            seed=run.config.seed,
            steps=config.outer_steps,
            on_step=on_step,
        )
    facts = {"method": method, "data": data.digest, "image_size": run.config.ingest.image_size}
    made = dataclasses.replace(made, recipe={**made.recipe, **facts, "distill": as_dict(config)})
    save_tensors(
        folder / "evolution.safetensors", {f"step-{config.outer_steps:06d}": made.images}, {"kind": "evolution"}
    )
    summary = {"status": "completed", "best_step": config.outer_steps, "entries": entries, "events": []}
    write_json(folder / "history.json", summary)
    made.save(folder / "distilled.safetensors")


def _release(run: RunContext, file: Path, name: str) -> FeatureStatistics:
    try:
        tensors, header = load_tensors(file)
        if header.get("release") == name:
            return FeatureStatistics(**tensors, noise_multiplier=float(header["noise_multiplier"]))
    except IngestError:
        pass  # not there, or cut off: the event of that attempt stays in the provenance
    data, dp = run.data(), run.config.experts.dp
    sigma = release_noise(dp)
    parameters = {"noise_multiplier": sigma, "delta": dp.delta}
    run.record_data_access(
        "feature_statistics", digest(name, secrets.token_hex(8)), "gaussian", parameters, train=data.train
    )
    statistics = noised_statistics(
        features_of(data.normalisation.apply(data.train.images)),
        data.train.labels,
        data.train.patient_ids,
        num_classes=data.train.num_classes,
        noise_multiplier=sigma,
        generator=secret_generator(),
    )
    if not statistics.is_finite():
        raise IngestError("dp_stats: the released statistics are not finite; the images hold values that are not")
    save_tensors(file, statistics.tensors(), {"kind": "statistics", "release": name, "noise_multiplier": sigma})
    return statistics
