"""The verdict as the app shows it: of a run, of its test set from elsewhere, of a bundle."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from medidistill.config import METHODS
from medidistill.errors import ConfigError, IngestError
from medidistill.files import read_json
from medidistill.jsontypes import ReadOnlyJsonObject  # a recipe of any version, checked by its schema
from medidistill.results.verdict import Verdict
from medidistill.words import method_words
from view_models.places import Places
from view_models.runs import RunView, continue_run

__all__ = [
    "AUTOMATIC",
    "bundle_verdict",
    "criteria_table",
    "deliverable_methods",
    "delivery_words",
    "read_verdict",
    "readable_verdict",
    "start_delivery",
]

AUTOMATIC = "auto"
_MET = {"met": "yes", "not met": "no", "undetermined": "not settled"}


def read_verdict(run: RunView, *, elsewhere: bool = False) -> Verdict | None:
    """Return the verdict on the set that a run delivers; None where the run holds none.

    Args:
        run: the run.
        elsewhere: on the test set from elsewhere.

    Raises:
        IngestError: a file is damaged.
        ConfigError: it is not a verdict, or contradicts itself.
    """
    file = run.folder.verdict
    if "evaluate" not in run.finished or not file.is_file():
        return None
    verdict = Verdict.from_dict(read_json(file))
    if not elsewhere:
        return verdict
    outside = run.folder.evaluate / "external" / "verdicts.json"
    if not outside.is_file():
        return None
    told = read_json(outside)
    verdicts = told.get("verdicts") if isinstance(told, dict) else None
    if not isinstance(verdicts, dict):
        raise IngestError(f"{outside.name}: damaged; resume the run to write it again")
    found = verdicts.get(verdict.method)
    if found is None:
        return None
    return Verdict.from_dict({**found, "chosen_by": verdict.chosen_by} if isinstance(found, dict) else found)


def bundle_verdict(recipe: ReadOnlyJsonObject) -> tuple[Verdict | None, str]:
    """Return the verdict that a bundle carries and what is wrong with it; none in bundles of earlier versions."""
    stored = recipe.get("verdict")
    if stored is None:
        return None, ""
    try:
        return Verdict.from_dict(stored), ""
    except ConfigError as error:
        return None, str(error)


def criteria_table(verdict: Verdict) -> pd.DataFrame:
    """Return one row a criterion."""
    return pd.DataFrame(
        [
            {
                "met": _MET[row.criterion.outcome.value],
                "compared with": row.against_words,
                "in": row.measure_words,
                "this set": row.criterion.estimate,
                "that": row.criterion.reference,
                "difference": row.difference_words,
                "must": row.asked_words,
                "test patients": row.criterion.patients,
            }
            for row in verdict.described
        ]
    )


def deliverable_methods(run: RunView) -> list[str]:
    """Return `auto` and the methods that a run compared; the one that its configuration names comes first."""
    if run.config is None:
        return []
    named = [AUTOMATIC, *(method for method in METHODS if method in run.config.evaluate.arms)]
    now = run.config.deliver
    return sorted(named, key=lambda one: one != now) if len(named) > 2 else []


def delivery_words(method: str) -> str:
    """Return a choice of `deliver` in words."""
    return "The best on the validation patients (automatic)" if method == AUTOMATIC else method_words(method)


def start_delivery(places: Places, path: Path, method: str) -> Path:
    """Deliver another method's set: bundle and report are made anew, the audit where the run asks for one.

    Raises `ConfigError` while at work.
    """
    return continue_run(places, path, ["run", "--output", str(path), "--resume", "--set", f"deliver={method}"])


def readable_verdict(run: RunView, *, elsewhere: bool = False) -> tuple[Verdict | None, str]:
    """Return what `read_verdict` returns, and why it cannot be read."""
    try:
        return read_verdict(run, elsewhere=elsewhere), ""
    except (ConfigError, IngestError) as error:
        return None, str(error).replace(f"{run.folder.path}/", "")
