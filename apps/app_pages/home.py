"""Home: what this is, the six steps, the last runs."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app_pages.parts import CAUTION, go_to, places, plain_text, short_badge
from medidistill.errors import MedidistillError
from view_models.run_list import RunRow, list_runs
from view_models.runs import RunState, RunView, read_run, run_state
from view_models.steps import Step, steps
from view_models.words import GLOSSARY

_LAST = 5  # runs
_ICONS = {
    "done": ":green[:material/check_circle:]",
    "now": ":blue[:material/autorenew:]",
    "next": ":blue[:material/arrow_circle_right:]",
    "later": ":gray[:material/radio_button_unchecked:]",
}
_COLOURS = {"green": "green", "amber": "orange", "red": "red"}


def _card(number: int, step: Step) -> None:
    with st.container(border=True, height="stretch"):
        st.markdown(f"{_ICONS[step.state]} **{number}. {step.title}**")
        st.markdown(step.words)
        st.caption(step.said or "later")
        label = {"next": "Do this next", "done": "Look", "now": "Watch"}.get(step.state, "Open")
        go_to("distill" if step.state == "now" else step.page, label)


def _chosen() -> tuple[RunView | None, RunState | None]:
    path = st.session_state.get("run_path")
    if not path:
        return None, None
    try:
        return read_run(places(), Path(path)), run_state(places(), Path(path))
    except MedidistillError:
        return None, None


def _run_line(row: RunRow) -> None:
    with st.container(border=True):
        left, right = st.columns([5, 2], vertical_alignment="center")
        date = f"{row.date:%Y-%m-%d %H:%M}" if row.date else ""
        left.markdown(f"**{plain_text(row.title)}** {short_badge(row.state)}")
        colour, sentence = row.verdict
        if sentence:
            left.markdown(f":{_COLOURS.get(colour, 'gray')}[{plain_text(sentence)}]")
        left.caption(plain_text("; ".join(part for part in (date, row.data or row.error) if part)))
        page = "compare" if row.state.state in ("completed", "not_released") else "distill"
        right.page_link(
            f"app_pages/{page}.py",
            label="See the answer" if page == "compare" else "See how it stands",
            icon=":material/arrow_forward:",
            query_params={"run": row.key},
        )


def main() -> None:
    """Draw the page."""
    st.title("Share what chest X-rays teach, not the X-rays", anchor=False)
    st.markdown(f":orange-badge[:material/science: {CAUTION}]")
    st.markdown(
        "medidistill makes a few synthetic images from your labelled chest X-rays; a network trained on them alone "
        "learns part of what it would have learned from all X-rays. It then measures, on patients that were set apart, "
        "how much is lost, and what attacks find out about the patients. You get a small file for another hospital, "
        "with a card that says both."
    )
    run, state = _chosen()
    st.subheader("Six steps", anchor=False)
    if run is not None:
        st.caption("The marks are about the run that is chosen at the left.")
    found = steps(run, state, st.session_state.get("source", ""))
    for first in (0, 3):
        for column, (number, step) in zip(st.columns(3), enumerate(found[first : first + 3], first + 1), strict=True):
            with column:
                _card(number, step)
    rows = list_runs(places(), _LAST)
    if rows:
        st.subheader("Last runs", anchor=False)
        for row in rows:
            _run_line(row)
        go_to("runs", "All runs")
    with st.expander("Words used here"):
        st.markdown("\n".join(f"- **{term}**: {meaning}" for term, meaning in sorted(GLOSSARY.items(), key=_by_name)))


def _by_name(entry: tuple[str, str]) -> str:
    return entry[0].casefold()


main()
