"""Grad-CAM of a run: what was kept of it, and one map over its film at the resolution of the file. Shows patients."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from safetensors import SafetensorError, safe_open

from medidistill.errors import IngestError
from medidistill.files import read_json
from view_models.runs import RunView

__all__ = ["Explained", "explained_case", "overlay", "read_explained"]

_MOST = 1400  # pixels a side that are sent to a browser at once


@dataclass(frozen=True)
class Explained:
    """Grad-CAM on test images. The picture shows patients.

    Args:
        picture: PNG of all cases side by side.
        alt: what it shows.
        caption: how to read it.
        cases: what each network calls them.
        arms: whose networks are explained; empty in runs that kept the picture alone.
    """

    picture: bytes
    alt: str
    caption: str
    cases: pd.DataFrame
    arms: tuple[str, ...] = ()


def read_explained(run: RunView) -> Explained | None:
    """Read the Grad-CAM of a run; None where it has none. Raises `IngestError` when a file is damaged."""
    folder = run.folder.explained
    if not (folder / "cases.json").is_file():
        return None
    told = read_json(folder / "cases.json")
    try:
        arms = tuple(told.get("arms", ())) if (folder / "cases.safetensors").is_file() else ()
        picture, cases = (folder / "picture.png").read_bytes(), pd.DataFrame(told["cases"])
        cases = cases.astype({"outcome": str, "true class": str})
        return Explained(picture, str(told["alt"]), str(told["caption"]), cases, arms)
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise IngestError(f"{folder.name}: the Grad-CAM is damaged or not whole; make it again") from error


def explained_case(
    run: RunView, number: int, arms: tuple[str, ...]
) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.float32]]]:
    """Return the film of a case, (S, S) in [0, 1] at the resolution of its file, and arm -> (s, s) map in [0, 1].

    Raises:
        IngestError: the file is damaged.
    """
    file = run.folder.explained / "cases.safetensors"
    try:
        with safe_open(str(file), framework="np") as held:
            film = held.get_tensor(f"{number}/film").astype(np.float32) / 255
            return film, {arm: held.get_tensor(f"{number}/map/{arm}") for arm in arms}
    except (SafetensorError, OSError) as error:
        raise IngestError(f"{file.name}: cannot be read; make the Grad-CAM again") from error


def overlay(
    film: npt.NDArray[np.float32],
    heat: npt.NDArray[np.float32] | None = None,
    *,
    strength: float = 0.45,
    zoom: float = 1.0,
    across: float = 0.5,
    down: float = 0.5,
) -> npt.NDArray[np.uint8]:
    """Return a part of a film with a map over it.

    Args:
        film: (S, S) in [0, 1].
        heat: (s, s) in [0, 1], spread over the film by bicubic interpolation; None: the film alone.
        strength: opacity of the map, in [0, 1].
        zoom: 1 shows all, 2 half of the rows and columns.
        across: where the part lies from left (0) to right (1).
        down: where it lies from top to bottom.

    Returns:
        (rows, columns, 3), every pixel of the part where it has at most 1400 a side, else reduced to that.
    """
    side = film.shape[0]
    part = max(1, round(side / zoom))
    top, left = round((side - part) * down), round((side - part) * across)
    shown = film[top : top + part, left : left + part]
    pixels = np.repeat(np.clip(shown, 0, 1)[..., None], 3, axis=2)
    if heat is not None:
        scale = heat.shape[0] / side
        box = (left * scale, top * scale, (left + part) * scale, (top + part) * scale)
        spread = Image.fromarray(heat.astype(np.float32)).resize((part, part), Image.Resampling.BICUBIC, box=box)
        colours = mpl.colormaps["viridis"](np.clip(np.asarray(spread), 0, 1))[..., :3]
        pixels = (1 - strength) * pixels + strength * colours
    picture = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    picture.thumbnail((_MOST, _MOST))
    return np.asarray(picture)
