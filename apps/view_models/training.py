"""How a distillation goes, from the files that it leaves while it works: curves, W by layer, the images forming."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import SafetensorError, safe_open
from torch import Tensor

from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.errors import IngestError, MedidistillError
from medidistill.files import read_json
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # the header of a checkpoint
from medidistill.pipeline import methods
from medidistill.pipeline.comparison.arms import first_init
from medidistill.results.history import HistoryEntry, RollBack, Series
from medidistill.words import method_words, start_words
from view_models.ingested import class_names
from view_models.runs import RunView

__all__ = ["Distillation", "Tile", "curves", "distillation", "final_set", "running_methods", "tiles", "weights"]

_POINTS = 1000  # of a curve; more than a screen has


@dataclass(frozen=True)
class Tile:
    """One image for the eye: (H, W) float64 in [0, 1]."""

    pixels: npt.NDArray[np.float64]
    caption: str


@dataclass(frozen=True)
class Distillation:
    """What is known of one distillation by now.

    Args:
        method: `iadd` or `mtt`.
        steps: outer steps in all.
        began_as: what its images began as, in words; None where that may have been patients' X-rays.
        entries: of its history, one an outer step.
        events: roll-backs.
        images: outer step -> images in network input, where they may be shown.
        class_names: of the images.
        normalisation: for the eye.
        objective: what its steps lower, as `distill.objective` names it.
    """

    method: str
    steps: int
    began_as: str | None = None
    entries: Sequence[HistoryEntry] = ()
    events: Sequence[RollBack] = ()
    images: Mapping[int, Tensor] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    normalisation: Normalisation = field(default_factory=Normalisation)
    objective: str = "trajectory"

    @property
    def title(self) -> str:
        """Its name in words."""
        return method_words(self.method)


def running_methods(run: RunView) -> tuple[str, ...]:
    """Return the methods that this run distills with, the exported one last."""
    return methods(run.config) if run.config else ()


def distillation(run: RunView, method: str) -> Distillation:
    """Read what a distillation left so far; empty where it has not begun."""
    assert run.config is not None
    config, folder = run.config.distill_by(method), run.folder.distill(method)
    names, normalisation = class_names(run), _normalisation(run)
    began = start_words(first_init(run.config, method))
    header, images = _checkpoint(folder / "checkpoint.safetensors", shown=began is not None)
    progress: ReadOnlyJsonObject = header.get("progress", {})
    if (folder / "history.json").is_file():
        progress = read_json(folder / "history.json")
    entries = progress.get("entries", ()) if isinstance(progress, Mapping) else None
    if not isinstance(entries, Sequence) or not all(isinstance(one, Mapping) and "step" in one for one in entries):
        raise IngestError(f"distill/{method}/history.json: damaged; resume the run to write it again")
    return Distillation(
        method,
        config.outer_steps,
        began,
        entries,
        progress.get("events", ()),
        images,
        names,
        normalisation,
        config.objective,
    )


def _normalisation(run: RunView) -> Normalisation:
    assert run.config is not None
    ingest = run.config.ingest
    return Normalisation(ingest.normalisation, ingest.norm_mean, ingest.norm_std)


def _checkpoint(path: Path, *, shown: bool) -> tuple[JsonObject, dict[int, Tensor]]:
    """Return header and images of a checkpoint; nothing of it where there is none yet."""
    try:
        with safe_open(str(path), framework="pt") as file:
            header: JsonObject = json.loads((file.metadata() or {})["medidistill"])
            names = [name for name in file.keys() if name.startswith("evolution/")] if shown else []  # noqa: SIM118
            images = {int(name.rpartition("/")[2]): file.get_tensor(name) for name in sorted(names)}
            if shown:
                images[int(header["progress"]["step"])] = file.get_tensor("now/images")
    except (OSError, KeyError, ValueError, SafetensorError):
        return {}, {}
    return header, images


def final_set(run: RunView, method: str) -> DistilledSet | None:
    """Return the finished set of a method, or None."""
    if f"distill/{method}" not in run.finished:
        return None
    try:
        return DistilledSet.load(run.folder.distill(method) / "distilled.safetensors")
    except MedidistillError:
        return None


def curves(found: Sequence[Distillation], key: Series) -> pd.DataFrame:
    """Return one row an outer step and one column a method, of the history entry `key`."""
    columns = {}
    for one in found:
        known = [(entry["step"], value) for entry in one.entries if (value := entry.get(key)) is not None]
        columns[one.title] = pd.Series(dict(known[:: max(1, len(known) // _POINTS)]), dtype=float)
    table = pd.DataFrame({name: column for name, column in columns.items() if len(column)})
    table.index.name = "outer step"
    return table


def weights(one: Distillation) -> pd.DataFrame:
    """Return the importance weights by layer at the last step that logged them: min, quartiles, max."""
    logged = [entry["w"] for entry in one.entries if entry.get("w")]
    if not logged:
        return pd.DataFrame()
    table = pd.DataFrame(logged[-1]).T
    table.index.name = "layer"
    return table[["min", "q25", "median", "q75", "max"]]


def tiles(
    images: Tensor, class_names: Sequence[str], normalisation: Normalisation, labels: Sequence[int] = ()
) -> list[Tile]:
    """Return images in network input as tiles for the eye; without labels, classes have equal numbers in order."""
    each = max(1, len(images) // max(1, len(class_names)))
    named = list(labels) or [place // each for place in range(len(images))]
    shown = normalisation.to_display(images).mean(1).double().numpy()
    captions = [class_names[label] if label < len(class_names) else "" for label in named]
    return [Tile(pixels, caption) for pixels, caption in zip(shown, captions, strict=True)]
