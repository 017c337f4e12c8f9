"""The six steps from X-rays to an answer at another hospital, and how far the chosen run has come."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from medidistill.errors import MedidistillError
from view_models.releases import audit_of_other, read_standing
from view_models.runs import RunState, RunView

__all__ = ["Step", "steps"]


@dataclass(frozen=True)
class Step:
    """One step.

    Args:
        page: file of the page on which it is done.
        title: what is done.
        words: what it is for.
        state: `done`, `now`, `next` or `later`.
        said: how it stands, in a few words.
    """

    page: str
    title: str
    words: str
    state: str
    said: str


def steps(run: RunView | None, state: RunState | None, source: str = "") -> list[Step]:
    """Return the steps with their state for a run.

    Args:
        run: the chosen run; None where there is none.
        state: how it stands.
        source: X-rays that were chosen for the next run; empty where none were.
    """
    finished = set(run.finished) if run is not None else set()
    busy = state is not None and state.is_busy
    read = "ingest" in finished
    compared = "evaluate" in finished
    written = "export" in finished or (run is not None and (run.folder.bundle / "recipe.json").is_file())
    audited = released = False
    if run is not None:
        with contextlib.suppress(MedidistillError):  # the page Privacy says what is damaged
            audited = (run.folder.audit / "audit.json").is_file() and not audit_of_other(run)
        with contextlib.suppress(MedidistillError):
            standing = read_standing(run) if written else None
            released = standing is not None and standing.released
    made = [
        ("data", "X-rays", "Choose the images, and see what is wrong with them.", read or bool(source), "chosen"),
        ("new_run", "New run", "Choose how thorough, see the time, start.", run is not None, "started"),
        (
            "compare",
            "Compare",
            "May one train on the synthetic images instead of the X-rays?",
            compared,
            "compared",
        ),
        ("privacy", "Privacy", "What attacks on the set find out about patients.", audited, "audited"),
        (
            "export",
            "Export",
            "What may leave, and the file to carry.",
            written,
            "released" if released else "written, not released",
        ),
        ("receive", "Receive", "At the other hospital: check, train, test on own patients.", False, ""),
    ]
    result, open_step = [], True
    for page, title, words, done, said in made:
        if done:
            result.append(Step(page, title, words, "done", said))
            continue
        if page == "compare" and busy:
            result.append(Step(page, title, words, "now", "at work"))
        else:
            shown = "next" if open_step and page != "receive" else "later"
            result.append(Step(page, title, words, shown, "next" if shown == "next" else ""))
        open_step = False
    return result
