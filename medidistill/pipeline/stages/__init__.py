"""The stages of a run in order. This is the one list of them: everything else asks it.

A new stage is a file here with a class of `medidistill.pipeline.stage.Stage`, and a line in `STAGES`. Its name, its
place for `--from` and `--until`, the plan, the memory check, the removal of its files, the progress, the app and the
help follow from that.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from medidistill.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from medidistill.config import RunConfig
    from medidistill.pipeline.stage import Stage

__all__ = ["STAGES", "kinds_before", "position", "stage_class", "stage_names", "stage_title", "stages_of"]

# kind, which is the name of the module -> class; imported on first use, as what only needs names must not load torch
STAGES: Mapping[str, str] = {
    "ingest": "Ingest",
    "experts": "Experts",
    "distill": "Distill",
    "evaluate": "Evaluate",
    "audit": "Audit",
    "export": "Export",
    "report": "Report",
}


def stage_class(kind: str) -> type[Stage]:
    """Return the class of the stages of `kind`. Raises `KeyError` for an unknown one."""
    found: type[Stage] = getattr(importlib.import_module(f"{__name__}.{kind}"), STAGES[kind])
    return found


def stages_of(config: RunConfig) -> tuple[Stage, ...]:
    """Return the stages of a whole run in order. Raises `ConfigError` for methods that do not go together."""
    return tuple(stage for kind in STAGES for stage in stage_class(kind).of(config))


def stage_names(config: RunConfig) -> tuple[str, ...]:
    """Return the names of the stages of a whole run in order, as the record has them."""
    return tuple(stage.name for stage in stages_of(config))


def stage_title(name: str) -> str:
    """Return what a stage does, for people; the name itself where it is unknown."""
    kind = name.partition("/")[0]
    return stage_class(kind).title if kind in STAGES else name


def kinds_before(kind: str) -> tuple[str, ...]:
    """Return the kinds of stages that come before `kind`."""
    kinds = tuple(STAGES)
    return kinds[: kinds.index(kind)]


def position(names: tuple[str, ...], wanted: str, option: str, *, last: bool = False) -> int:
    """Return the index of a stage in `names`; a kind such as `distill` stands for all its stages.

    Args:
        names: the stages of a run in order.
        wanted: a name or a kind.
        option: where it was given, for the message.
        last: return the last stage of a kind, not the first.

    Raises:
        ConfigError: no stage of that name.
    """
    found = [index for index, name in enumerate(names) if wanted in (name, name.partition("/")[0])]
    if not found:
        raise ConfigError(f"{option} {wanted}: must be one of {', '.join(names)}{did_you_mean(wanted, names)}")
    return found[-1 if last else 0]
