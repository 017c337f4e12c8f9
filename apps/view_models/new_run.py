"""What a new run is to do: the chosen X-rays, what was changed of a preset, and what can be said before it starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medidistill.config import RunConfig
from medidistill.errors import ConfigError, IngestError, MedidistillError
from medidistill.files import read_json, write_json
from medidistill.pipeline.release.release_check import ReleaseCheck, SplitCounts, check_release
from view_models.places import Places, clean_title, readable, short_id
from view_models.presets import Preset, estimate_stages, known_step, spoken_duration
from view_models.settings import effective_config
from view_models.sources import SourceView, class_problem

__all__ = [
    "Changes",
    "Prospect",
    "plan_settings",
    "preset_prospect",
    "problems",
    "prospect",
    "remember_source",
    "remembered_source",
    "set_title",
]

_REMEMBERED = 50  # folders
_NEVER = "Can never be released as it stands"
_MAY = "Could be released, if the audit finds nothing"


@dataclass(frozen=True)
class Changes:
    """What a user changed of a preset; what is None stays as it is.

    Args:
        per_class: synthetic images of each class.
        size: pixels a side.
        steps: outer steps.
        arms: what is compared.
        networks: architectures that are trained on each.
        audit: `none`, `quick` or `full`.
        external: folder of a second test set.
        exclusions: as `ingest.exclusions` takes it.
    """

    per_class: int | None = None
    size: int | None = None
    steps: int | None = None
    arms: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    audit: str | None = None
    external: Path | None = None
    exclusions: str | None = None


@dataclass(frozen=True)
class Prospect:
    """What can be said of a run before it starts.

    Args:
        seconds: stage -> about how long it takes; empty while the machine is being measured.
        check: the release check; None where the folder's labels do not allow one.
    """

    seconds: dict[str, float]
    check: ReleaseCheck | None

    @property
    def duration(self) -> str:
        """About how long the run takes, in words; empty while the machine is being measured."""
        return spoken_duration(sum(self.seconds.values())) if self.seconds else ""

    @property
    def releasable(self) -> str:
        """Whether the set could ever be released, in words."""
        if self.check is None:
            return ""
        return _NEVER if self.check.unresolvable else _MAY


def plan_settings(preset: Preset, changes: Changes, classes: Sequence[str], title: str) -> list[str]:
    """Return what a run needs beside its preset, as `--set` takes it."""
    config = preset.config
    plain = {
        "distill.ipc": (changes.per_class, config.distill.ipc),
        "ingest.image_size": (changes.size, config.ingest.image_size),
        "distill.outer_steps": (changes.steps, config.distill.outer_steps),
        "privacy.audit": (changes.audit, config.privacy.audit),
    }
    settings = [f"{key}={new}" for key, (new, old) in plain.items() if new is not None and new != old]
    if changes.arms and tuple(changes.arms) != tuple(config.evaluate.arms):
        settings.append(f"evaluate.arms=[{', '.join(changes.arms)}]")
    if changes.networks and tuple(changes.networks) != tuple(config.evaluate.architectures):
        settings.append(f"evaluate.architectures=[{', '.join(changes.networks)}]")
    if changes.external is not None:
        settings.append(f"evaluate.external={json.dumps(str(changes.external), ensure_ascii=False)}")
    if changes.exclusions is not None and changes.exclusions != config.ingest.exclusions:
        settings.append(f"ingest.exclusions={json.dumps(changes.exclusions, ensure_ascii=False)}")
    if set(config.ingest.classes) - set(classes):
        settings += ["ingest.classes=[]", 'notice=""']  # its classes and its caution are about other data
    return [*settings, set_title(title)]


def problems(config: RunConfig, changes: Changes, own: SourceView, external: SourceView | None = None) -> list[str]:
    """Return why a run may not start as it is planned, one sentence each.

    Args:
        config: with the changes.
        changes: what was chosen; an empty choice is no choice of the preset's.
        own: the folder that it is to learn from.
        external: the folder of its second test set; None without one.
    """
    found = []
    if changes.arms == ():
        found.append("Choose at least one thing that networks are trained on, for the comparison.")
    if changes.networks == ():
        found.append("Choose at least one network.")
    if told := class_problem(own, config.ingest.classes):
        found.append(f"The X-rays do not fit this choice: {told}")
    if external is not None:
        told = external.error or class_problem(external, config.ingest.classes or own.classes)
        found += [f"The X-rays from elsewhere cannot be used: {told}"] if told else []
    return found


def set_title(title: str) -> str:
    """Return the setting that names a run; quoted, so that `2024` or `no` stays a name."""
    return f"name={json.dumps(clean_title(title) or 'run', ensure_ascii=False)}"


def prospect(config: RunConfig, images: int, classes: int, splits: SplitCounts | None) -> Prospect:
    """Return what can be said of a run with `config`. Raises `ConfigError` where the policy cannot be read."""
    speed = known_step(config.network, config.ingest.image_size)
    seconds = estimate_stages(config, images, *speed, max(2, classes)) if speed else {}
    return Prospect(seconds, check_release(config, splits) if splits is not None else None)


def preset_prospect(
    preset: Preset, images: int, classes: Sequence[str], splits: SplitCounts | None
) -> Prospect | ConfigError:
    """Return what can be said of a preset as it is, or why it cannot be used here."""
    try:
        config = effective_config(preset.name, plan_settings(preset, Changes(), classes, preset.title))
        return prospect(config, images, len(classes), splits)
    except ConfigError as error:
        return error


def remember_source(places: Places, path: Path) -> str:
    """Keep where X-rays were chosen, and return what stands for the folder in addresses. Raises `ResourceError`."""
    key = short_id(str(path))
    known = _remembered(places)
    if known.get(key) != str(path) or list(known)[-1] != key:
        known.pop(key, None)
        known[key] = str(path)
        places.jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(_sources(places), dict(list(known.items())[-_REMEMBERED:]), mode=0o600)
    return key


def remembered_source(places: Places, key: str) -> Path | None:
    """Return the folder that `key` stands for; None where it is not known, gone, or not to be read any more."""
    path = _remembered(places).get(key)
    if path is None:
        return None
    try:
        found = readable(places, Path(path))
    except (MedidistillError, OSError):
        return None
    return found if found.is_dir() else None


def _sources(places: Places) -> Path:
    return places.jobs / "sources.json"


def _remembered(places: Places) -> dict[str, str]:
    file = _sources(places)
    try:
        told = read_json(file) if file.is_file() else {}
    except IngestError:
        told = {}
    return {str(key): str(value) for key, value in told.items()} if isinstance(told, dict) else {}
