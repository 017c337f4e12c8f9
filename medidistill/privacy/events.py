"""Data-access log: every use of patients' images as an event, and the privacy claim that the log allows.

An event records what was done, with whose images and by which mechanism; its cost is computed elsewhere
(`medidistill.privacy.accounting`). A kind or mechanism that is not in the tables below is refused: an unknown
one never counts as harmless. The log is append-only: an event stays even when its stage is run again with
other settings.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medidistill.errors import ConfigError, IngestError, did_you_mean
from medidistill.files import read_checked_json, write_checked_json
from medidistill.jsontypes import JsonObject  # a log of any version

__all__ = ["KINDS", "MECHANISMS", "ORIGINS", "Claim", "Event", "ProvenanceLog", "cohort"]

FORMAT = 1

KINDS: Mapping[str, tuple[bool, str]] = {
    "read": (False, "images were read, split and prepared"),
    "fit_normalisation": (True, "the whitening that ships with the set was fitted to the images"),
    "train_experts": (True, "networks were trained on the images"),
    "continue_experts": (True, "networks were trained on from the experts' snapshots on the images, for targets or W"),
    "feature_statistics": (True, "means and second moments of the images' features were released with noise"),
    "start_from_real": (True, "the distilled images began as copies of these images"),
    "real_batches": (True, "the distilled images were fitted to batches of these images"),
    "weigh_parameters": (True, "importance weights were initialised from these images' Fisher information"),
    "select_step": (True, "the outer step was selected by scores on these images"),
    "choose_method": (True, "the method whose set is released was selected by scores on these images"),
    "match_features": (True, "the distilled images were fitted to means of features of these images"),
    "fit_gaussians": (True, "class means and a covariance of these images were taken, to draw images with"),
    "fit_groups": (True, "means and covariances of groups of alike patients were taken, to draw images with"),
    "choose_training": (True, "the training recipe that ships with the set was selected by scores on these images"),
    "train_rivals": (False, "baseline networks, which are not released, were trained on the images"),
    "score": (False, "reported metrics were computed on these images"),
    "audit": (False, "attacks were run with these images"),
}
"""Kind of event -> (whether it influences the distilled set or its recipe, description)."""

MECHANISMS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "dp_sgd": ("noise_multiplier", "sampling_rate", "steps", "delta"),
    "gaussian": ("noise_multiplier", "delta"),
}
"""Mechanism -> the parameters without which its cost cannot be computed."""

_SOURCES = ("train_experts", "feature_statistics", "real_batches", "match_features", "fit_gaussians", "fit_groups")
ORIGINS = ("patients", "phantom", "public")


def cohort(patient_ids: Iterable[str]) -> tuple[int, str]:
    """Return the number of distinct patients and the digest of the cohort: 16 hexadecimal digits of a SHA-256."""
    names = sorted(set(patient_ids))
    return len(names), hashlib.sha256("\x1f".join(names).encode()).hexdigest()[:16]


def _known(name: str, value: str, table: Iterable[str]) -> None:
    known = list(table)
    if value not in known:
        raise ConfigError(
            f"event {name} {value!r}: must be one of {', '.join(known)}{did_you_mean(value, known)}; "
            "an unknown event is refused because its privacy cost is unknown"
        )


@dataclass(frozen=True)
class Event:
    """One use of patients' images.

    Args:
        kind: a key of `KINDS`.
        split: whose images: train, val or test.
        patients: how many.
        cohort: digest of the cohort, see `cohort`.
        mechanism: a key of `MECHANISMS`.
        parameters: of the mechanism, JSON types; those that `MECHANISMS` names are required.
        origin: `patients`, `phantom` (drawn by a program) or `public`.
        inputs: digest of the computation; repeating it gives the same bytes and is no new event.
        when: ISO time.

    Raises:
        ConfigError: an unknown kind, mechanism or origin, or a parameter that is missing or not a positive number.
    """

    kind: str
    split: str
    patients: int
    cohort: str
    mechanism: str = "none"
    parameters: Mapping[str, float] = field(default_factory=dict)
    origin: str = "patients"
    inputs: str = ""
    when: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))

    def __post_init__(self) -> None:
        _known("kind", self.kind, KINDS)
        _known("mechanism", self.mechanism, MECHANISMS)
        _known("origin", self.origin, ORIGINS)
        for name in MECHANISMS[self.mechanism]:
            value = self.parameters.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ConfigError(f"event {self.kind}, mechanism {self.mechanism}: {name}={value!r}, must be > 0")

    @property
    def reaches_set(self) -> bool:
        """Whether it influences what is released."""
        return KINDS[self.kind][0]

    @property
    def same_work(self) -> tuple[str, str, str]:
        """Identity of the computation: kind, split and digest of the inputs."""
        return self.kind, self.split, self.inputs


@dataclass(frozen=True)
class Claim:
    """What a bundle may claim about the patients whose images it was made from.

    Args:
        kind: `dp` (every access that influences the set has a mechanism), `none` (at least one has none), or
            `no_patients` (phantom or public images alone).
        events: the mechanisms that a `dp` claim rests on.
        reasons: one sentence for each access that rules out a guarantee.
    """

    kind: str
    events: tuple[Event, ...] = ()
    reasons: tuple[str, ...] = ()


class ProvenanceLog:
    """The events of one run, kept as `provenance.json`.

    Args:
        events: in the order in which they happened.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = list(events)

    def add(self, event: Event) -> bool:
        """Append an event unless the same computation is logged already; return whether it was appended."""
        if event.inputs and any(event.same_work == old.same_work for old in self.events):
            return False
        self.events.append(event)
        return True

    def claim(self) -> Claim:
        """Return what may be claimed.

        Raises:
            ConfigError: no event records how the set was made: without provenance nothing may be claimed.
        """
        reaching = [event for event in self.events if event.reaches_set]
        if not any(event.kind in _SOURCES for event in reaching):
            raise ConfigError("provenance: no event records what the set was learned from; nothing can be claimed")
        private = [event for event in reaching if event.origin == "patients"]
        if not private:
            return Claim("no_patients")
        bare = [event for event in private if event.mechanism == "none"]
        if bare:
            return Claim("none", reasons=tuple(dict.fromkeys(_reason(event) for event in bare)))
        return Claim("dp", events=tuple(private))

    def save(self, path: Path) -> None:
        """Write the log atomically, readable by its owner alone."""
        write_checked_json(path, {"format": FORMAT, "events": [asdict(event) for event in self.events]}, mode=0o600)

    @classmethod
    def load(cls, path: Path) -> ProvenanceLog:
        """Read a log; an absent file is an empty log.

        Raises:
            IngestError: damaged, or of a newer version.
            ConfigError: it holds an event that this version does not know.
        """
        if not Path(path).exists():
            return cls()
        plain: JsonObject = read_checked_json(path)
        try:
            if plain["format"] > FORMAT:
                raise IngestError(f"{path}: format {plain['format']} is newer than {FORMAT}; upgrade medidistill")
            return cls(Event(**event) for event in plain["events"])
        except (KeyError, TypeError) as error:
            raise IngestError(f"{path}: not a provenance log ({error})") from error


def _reason(event: Event) -> str:
    return f"{KINDS[event.kind][1]} ({event.split}, {event.patients} patients), without a privacy mechanism"
