"""`medidistill.distill`: a whole run in one call, from images in memory or in a folder to a set with its verdict.

The run is the pipeline's own, stage by stage, in a run folder that is named or temporary: what the command line writes
and checks (checkpoints, provenance, comparison, verdict) is there after a call too, and there is one implementation.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medidistill.api.inputs import CheckedImages, check_images, split_images
from medidistill.api.items import raw_images
from medidistill.api.result import Result, best_so_far
from medidistill.api.settings import check_network, run_config
from medidistill.config import NetworkConfig, RunConfig
from medidistill.errors import ArgumentError, ArgumentTypeError, StoppedError
from medidistill.ingest import IngestResult
from medidistill.jsontypes import (  # settings as the caller gave them, before they are checked
    JsonObject,
    ReadOnlyJsonObject,
)
from medidistill.networks import NetworkFactory
from medidistill.pipeline.config_io.config_file import load_config
from medidistill.pipeline.planning.named_files import check_named_files
from medidistill.pipeline.runfolder.run_folder import RunFolder, refused_changes
from medidistill.pipeline.runner import working
from medidistill.pipeline.stages import stages_of
from medidistill.pipeline.stages.ingest import ingest_images, source_of
from medidistill.pipeline.stopping import GracefulShutdown

__all__ = ["distill"]

_LATER = ("audit", "export", "report")  # what `Result` does when it is asked to


def distill(
    data: Any,
    *,
    ipc: int = 10,
    method: str | Sequence[str] = "auto",
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
    network: str | NetworkConfig | nn.Module | NetworkFactory | None = None,
    device: str | torch.device = "auto",
    seed: int = 0,
    progress: bool = True,
    image_size: int | None = None,
    fit: str = "crop",
    value_range: tuple[float, float] | None = None,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    evaluate: bool | ReadOnlyJsonObject = True,
    **settings: Any,
) -> Result:
    """Distill labelled X-rays into a few synthetic images, and compare networks trained from them with real images.

    Args:
        data: a folder or file that `medidistill ingest` reads; an array or tensor of images (N, H, W), (N, C, H, W) or
            (N, H, W, C) with `labels`; a pair (images, labels); a torch `Dataset` of (image, label); a MONAI or Hugging
            Face dataset of mappings with `image` and `label`; a MedMNIST object; or a mapping of `train`, `val` and
            `test` to any of these. 1 or 3 channels; uint8, uint16 or float, not normalised.
        ipc: stored images per class.
        method: `auto` compares the methods of the configuration and keeps the one that is best on validation; or a
            name, or several.
        labels: (N,) class numbers or names; for a folder the name of its table. None where `data` holds them.
        class_names: K names in label order, 2 to 100; None: as `data` states them, else the labels themselves.
        groups: (N,) patient of each image. Without, images are split one by one and the result says that patients are
            unknown.
        network: of experts and students: a name, a `NetworkConfig`, a `torch.nn.Module` or a factory (see
            `medidistill.networks.register_network`). None: that of the configuration.
        device: `cpu`, `cuda`, or `auto`: a GPU where there is one.
        seed: of every random decision. The same seed, threads and device give the same bytes on a CPU.
        progress: draw bars.
        image_size: rows and columns, 16 to 512. None: the side of the images, 64 where that is above 128; for a folder
            the configuration's.
        fit: `crop` cuts images that are not square to their central square, `pad` pads them with black.
        value_range: (low, high), the values of black and white; None: see `medidistill.intensities`.
        folder: run folder to keep, as `medidistill run` makes it; it holds patient data. None: a temporary one that
            goes with the result.
        resume: continue the run that `folder` holds.
        evaluate: train networks on the set and on real images, and open the test split; a mapping changes settings of
            that section. False: there is neither table nor verdict.
        settings: `config` (a preset such as `quick` or `standard`, a YAML file or a `RunConfig`; default `quick`),
            fields of `DistillConfig` by name (`outer_steps=50`), sections as mappings (`experts={"count": 4}`), or
            dotted keys.

    Returns:
        The result. After an interrupt (Ctrl-C) while images are distilled, the best set so far, with `status`
        "stopped".

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; both are `ValueError`s, the second a
            `TypeError` too.
        MedidistillError: what a run may end with, see `medidistill.errors`.

    Example:
        >>> result = medidistill.distill("xrays", ipc=10)  # doctest: +SKIP
        >>> result.verdict.colour  # doctest: +SKIP
    """
    for name, flag in (("progress", progress), ("resume", resume)):
        if not isinstance(flag, bool):
            raise ArgumentTypeError(name, repr(flag), "True or False")
    if isinstance(evaluate, Mapping):
        settings, evaluate = {**settings, "evaluate": evaluate}, True
    elif not isinstance(evaluate, bool):
        raise ArgumentTypeError("evaluate", repr(evaluate), "True, False or a mapping of its settings")
    wanted: JsonObject = {
        "ipc": ipc,
        "method": method,
        "network": network,
        "device": device,
        "seed": seed,
        "settings": settings,
    }
    source = _source(data, labels, groups, fit, value_range)
    if source is not None:
        table = {} if labels is None else {"ingest.labels": os.fspath(labels)}
        wanted["settings"] = {**settings, **table}
        config = run_config(image_size=image_size, class_names=class_names or (), **wanted)
        if class_names:
            check_network(config, channels=1, image_size=config.ingest.image_size, num_classes=len(class_names))
        return _run(config, source, None, folder, resume, evaluate, progress)
    run_config(image_size=image_size, class_names=(), **wanted)  # settings are wrong before images are read
    given = check_images(
        raw_images(data, labels, progress=progress),
        class_names=class_names,
        groups=groups,
        image_size=image_size,
        fit=fit,
        value_range=value_range,
    )
    channels, side = given.images.shape[1], given.images.shape[-1]
    config = run_config(image_size=side, class_names=given.class_names, **wanted)
    check_network(config, channels=channels, image_size=side, num_classes=len(given.class_names))
    prepared = split_images(given, config.ingest)
    _check_ipc(config, given, prepared)
    return _run(config, None, prepared, folder, resume, evaluate, progress)


def _source(data: Any, labels: Any, groups: Any, fit: str, value_range: Any) -> Path | None:
    """Return the folder or file that `data` names, None where it is a container."""
    if not isinstance(data, (str, os.PathLike)):
        return None
    path = Path(data)
    if not path.exists():
        raise ArgumentError("data", repr(os.fspath(data)), "a folder or file that exists")
    if labels is not None and not isinstance(labels, (str, os.PathLike)):
        raise ArgumentTypeError("labels", type(labels).__name__, "the name of the table inside the folder")
    if groups is not None:
        raise ArgumentError("groups", "given", "None for a folder", "name patients in its table, column patient_id")
    if fit != "crop":
        raise ArgumentError("fit", repr(fit), "'crop' for a folder", "its images are cut to their central square")
    if value_range is not None:
        raise ArgumentError("value_range", repr(value_range), "None for a folder", "its files state their range")
    return path


def _check_ipc(config: RunConfig, given: CheckedImages, prepared: IngestResult) -> None:
    counts = prepared.train.counts()
    smallest = min(counts, key=lambda name: counts[name])
    if config.distill.ipc > counts[smallest]:
        raise ArgumentError(
            "ipc",
            config.distill.ipc,
            f"at most {counts[smallest]}, the training images of class {smallest!r} (of {len(given.labels)} images)",
        )


def _run(
    config: RunConfig,
    source: Path | None,
    prepared: IngestResult | None,
    folder: str | os.PathLike[str] | None,
    resume: bool,
    evaluate: bool,
    progress: bool,
) -> Result:
    if folder is None and resume:
        raise ArgumentError("resume", True, "False without a folder", "name the folder of the run")
    if folder is not None:
        return _in_folder(Path(folder), config, source, prepared, resume, evaluate, progress)
    place = Path(tempfile.mkdtemp(prefix="medidistill-"))
    try:
        return _in_folder(place, config, source, prepared, False, evaluate, progress, temporary=True)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _in_folder(
    place: Path,
    config: RunConfig,
    source: Path | None,
    prepared: IngestResult | None,
    resume: bool,
    evaluate: bool,
    progress: bool,
    *,
    temporary: bool = False,
) -> Result:
    there = _check_folder(place, config, resume)
    check_named_files(config, RunFolder(place) if there else None)
    run_folder = RunFolder.create(place, config, resume=resume and there, source=source)
    wanted = [
        stage for stage in stages_of(config) if stage.kind not in _LATER and (evaluate or stage.kind != "evaluate")
    ]
    stop = GracefulShutdown("name the same folder with resume=True to go on")
    try:
        with (
            torch_unchanged(),
            stop.install_handlers(),
            working(
                run_folder,
                stop=stop,
                progress=progress,
                command="medidistill.distill",
                source=source_of(run_folder, source) if prepared is None else None,
                spawns=False,
            ) as run,
        ):
            if prepared is not None:
                ingest_images(run, prepared)
            for stage in wanted:
                if prepared is None or stage.kind != "ingest":
                    stage.run(run)
    except StoppedError as stopped:
        if stopped.signal_number != signal.SIGINT:
            raise  # whoever ends the process wants no result
        found = best_so_far(run_folder, config)
        if found is None:
            raise KeyboardInterrupt(str(stopped)) from stopped
        return Result(found, run_folder, config, status="stopped", temporary=temporary)
    return Result.read(run_folder, config, temporary=temporary)


def _check_folder(place: Path, config: RunConfig, resume: bool) -> bool:
    """Return whether the folder holds a run that may be continued.

    Raises:
        ArgumentError: it holds a run and `resume` is not set, a run with other settings, or something else.
    """
    shown = repr(str(place))
    if not RunFolder(place).holds_run():
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            raise ArgumentError("folder", shown, "new, empty or the folder of a run", "nothing is overwritten")
        return False
    if not resume:
        raise ArgumentError("folder", f"{shown}, which already holds a run", "new", "resume=True continues that run")
    changed = refused_changes(load_config(RunFolder(place).config_file), config)
    if changed:
        raise ArgumentError(
            "folder", f"{shown}, a run with other settings ({'; '.join(changed)})", "one with the same settings"
        )
    return True


@contextlib.contextmanager
def torch_unchanged() -> Iterator[None]:
    """Give torch's threads and its choice of algorithms back as they were: a library must not keep what a run sets."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn, benchmark = torch.is_deterministic_algorithms_warn_only_enabled(), torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn)
        torch.backends.cudnn.benchmark = benchmark
