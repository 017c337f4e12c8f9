"""Whether a set may leave: what its bundle says of its privacy, and what the gate would say now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, IngestError
from medidistill.files import read_json
from medidistill.pipeline import methods
from medidistill.pipeline.comparison.arms import delivery
from medidistill.pipeline.release.release_check import counts_of
from medidistill.pipeline.release.releasing import Verdict, preview
from medidistill.pipeline.stages.report import bundle_holds
from medidistill.privacy import set_digest
from medidistill.report.wording import measured
from medidistill.results.privacy_section import PrivacySection
from medidistill.results.serialise import from_json
from medidistill.words import method_words
from view_models.presets import estimate_stages, known_step
from view_models.runs import RunView
from view_models.training import final_set

__all__ = [
    "ReleaseOutlook",
    "Standing",
    "audit_of_other",
    "audit_seconds",
    "exported",
    "gate_table",
    "gate_verdicts",
    "read_outlook",
    "read_standing",
]

_KEPT = {True: "yes", False: "no", None: "no rule"}


@dataclass(frozen=True)
class Standing:
    """What a bundle says of its privacy.

    Args:
        statement: in words.
        released: whether the gate let the set that is delivered pass.
        current: whether an audit of that very set, where there is one, is told of in it.
        measurements: one row an attack; empty where nothing was measured.
        other: whose set the bundle holds, in words, where that is not the delivered one; empty where it is.
        delivered: whose set is delivered, in words.
    """

    statement: str
    released: bool
    current: bool
    measurements: pd.DataFrame
    other: str = ""
    delivered: str = ""


@dataclass(frozen=True)
class ReleaseOutlook:
    """What the number of images and patients says about a release.

    Args:
        hopeless: whether the gate would refuse the set whatever an audit finds.
        lines: the verdict, then one line a rule.
    """

    hopeless: bool
    lines: tuple[str, ...]

    def text(self) -> str:
        """Return the lines, one paragraph and a list."""
        return "\n".join((self.lines[0], "", *self.lines[1:]))


def read_outlook(run: RunView) -> ReleaseOutlook | None:
    """Return what the run noted after it had read its images; None before that. Raises `IngestError`."""
    if not run.folder.release_check.is_file():
        return None
    file = run.folder.release_check
    told = read_json(file)
    lines = told.get("summary") if isinstance(told, Mapping) else None
    if not isinstance(lines, list) or not lines or "unresolvable" not in told:
        raise IngestError(f"{file.name}: damaged; resume the run to write it again")
    return ReleaseOutlook(bool(told["unresolvable"]), tuple(map(str, lines)))


def read_standing(run: RunView) -> Standing | None:
    """Return what the bundle of a run says; None before there is one. Raises `IngestError`, `ConfigError`."""
    recipe, audit = run.folder.bundle / "recipe.json", run.folder.audit / "audit.json"
    if not recipe.is_file():
        return None
    stored = read_json(recipe)
    if not isinstance(stored, Mapping) or "privacy" not in stored:
        raise IngestError(f"{recipe.name} of the bundle: says nothing of privacy; resume the run to write it again")
    told = from_json(PrivacySection, stored["privacy"], "the privacy section of a bundle")
    distilled, now = exported(run), _delivered_method(run)
    made_by = str(stored.get("method", ""))
    # a run whose sets were taken away is asked for the method alone
    same = made_by == now if distilled is None else bundle_holds(run.folder, distilled)
    other = "" if same or not now else f"{'an earlier' if made_by == now else 'the'} set of {method_words(made_by)}"
    audited = distilled is not None and audit.is_file() and not audit_of_other(run)
    rows = [
        {
            "attack": one.attack,
            "measure": one.measure,
            "found": measured(one),
            "limit": "" if one.limit is None else f"{one.limit:g}",
            "kept": _KEPT[one.passed],
        }
        for one in told.measurements or ()
    ]
    # a bundle that the library wrote without the gate tells of neither
    return Standing(
        told.statement,
        bool(told.released) and not other,
        bool(told.audited and not other) or not audited,
        pd.DataFrame(rows),
        other,
        f"the set of {method_words(now)}" if now else "",
    )


def audit_of_other(run: RunView) -> str:
    """Return which method's set the audit of a run is about, in words, where that is not the delivered one.

    Empty where it is, and where there is no audit. Raises `IngestError`.
    """
    file = run.folder.audit / "audit.json"
    if run.config is None or not file.is_file():
        return ""
    stored = read_json(file)
    name = stored.get("set") if isinstance(stored, Mapping) else None
    distilled = exported(run)
    if distilled is not None and name == set_digest(distilled):
        return ""
    for method in methods(run.config):
        made = final_set(run, method)
        if made is not None and name == set_digest(made):
            return f"method {method_words(method)}"
    return "of a method that this run does not hold"


def exported(run: RunView) -> DistilledSet | None:
    """Return the set that a run exports; None before it is finished."""
    method = _delivered_method(run)
    return final_set(run, method) if method else None


def _delivered_method(run: RunView) -> str:
    """Return the method whose set a run delivers; empty before it has a configuration."""
    if not run.config or not methods(run.config):
        return ""
    return delivery(run.config, run.folder).method


def audit_seconds(run: RunView, profile: str) -> float | None:
    """Return about how long an audit takes on this machine; None while that is measured, or before ingest."""
    facts = (run.facts or {}).get("ingest")
    if run.config is None or not facts:
        return None
    speed = known_step(run.config.network, run.config.ingest.image_size)
    if speed is None:
        return None
    counts = counts_of(facts)
    stages = estimate_stages(run.config, sum(counts.images.values()), *speed, counts.classes, audit=profile)
    return stages["audit"]


def gate_verdicts(run: RunView) -> tuple[list[Verdict], str]:
    """Return what the gate would say now, and why it cannot say anything; one of the two is empty."""
    distilled = exported(run)
    if run.config is None or distilled is None:
        return [], "the distillation has not finished"
    try:
        return preview(run.folder, run.config, distilled), ""
    except (ConfigError, IngestError) as error:
        return [], str(error).replace(f"{run.folder.path}/", "")


def gate_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return one row a rule, those that failed first: what was found, what is asked for, what to do."""
    return pd.DataFrame(
        [
            {"rule": one.rule, "kept": _KEPT[one.passed], "found": one.figure, "asked for": one.limit}
            | {"what to do": "" if one.passed else one.remedy}
            for one in sorted(verdicts, key=lambda one: one.passed)
        ]
    )
