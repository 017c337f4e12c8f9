"""Compare: can I train on the distilled set instead of the real one?"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app_pages.parts import chosen_run, empty, go_to, heading, named_image, places, stamp
from view_models.results import (
    VIEWS,
    Figure,
    Results,
    answer,
    figure,
    probe_lines,
    read_results,
    rows_table,
    sentences,
    subgroup_tables,
)
from view_models.runs import RunView, read_run

_MORE = {"subgroups": "Subgroups", "probe": "Is it the source?", "files": "Files and checklist"}


@st.cache_data(max_entries=16, show_spinner="Reading the comparison ...")
def _results(path: str, changed: int) -> Results | None:
    return read_results(read_run(places(), Path(path)))


@st.cache_data(max_entries=48, show_spinner="Drawing ...")
def _figure(path: str, changed: int, view: str, arms: tuple[str, ...], architecture: str) -> Figure | None:
    run = read_run(places(), Path(path))
    results = read_results(run)
    return figure(run, results.only(arms, architecture), view) if results else None


def _answer(run: RunView, results: Results) -> None:
    st.subheader("Can I train on the distilled set instead of the real one?", anchor=False)
    told = answer(results)
    for tone, sentence in told:
        {"good": st.success, "bad": st.error, "open": st.warning}[tone](sentence)
    if not told:
        st.info("This run compared no distilled set with all real images, so it does not answer the question.")
    if run.test_openings > 1:
        st.warning(f"The test split was scored {run.test_openings} times; its figures are no longer a single look.")
    if run.notice:
        st.warning(run.notice, icon=":material/warning:")
    with st.expander("In words", expanded=True):
        st.markdown("\n".join(f"- {sentence}" for sentence in sentences(results)))
    st.dataframe(rows_table(results), hide_index=True, alt="Balanced accuracy and AUROC of every arm")
    notes = [*results.comparison["notes"], *((results.clinical or {}).get("notes") or [])]
    if notes:
        with st.expander("What these figures rest on"):
            st.markdown("\n".join(f"- {note}" for note in notes))


def _drawn(run: RunView, results: Results, view: str, changed: int) -> None:
    left, right = st.columns([3, 1])
    arms = left.pills("Trained on", results.arms, selection_mode="multi", default=results.arms, key="arms")
    architecture = right.selectbox("Network", results.architectures, key="architecture")
    if not arms:
        st.info("Choose at least one arm.")
        return
    ordered = tuple(arm for arm in results.arms if arm in arms)
    drawn = _figure(str(run.folder.path), changed, view, ordered, architecture)
    if drawn is None:
        st.info("This run does not hold what this view needs; resume it to complete the comparison.")
        return
    named_image(drawn.svg, drawn.alt)
    st.markdown(drawn.caption)
    if run.notice:
        st.caption(run.notice)
    with st.expander("The figures behind it"):
        st.dataframe(drawn.table, hide_index=True)
    with st.container(horizontal=True):
        name = f"{view}-{architecture}"
        st.download_button("Picture (SVG)", drawn.svg, f"{name}.svg", "image/svg+xml", on_click="ignore")
        st.download_button(
            "Figures (CSV)", drawn.table.to_csv(index=False), f"{name}.csv", "text/csv", on_click="ignore"
        )


def _subgroups(results: Results) -> None:
    tables = subgroup_tables(results)
    if not tables:
        st.info("No column of the labels names a site, sex or age, so there are no subgroups.")
        return
    st.markdown("Small groups are hidden: figures of a few patients are noise, and can point at one.")
    for column, table in tables.items():
        st.markdown(f"**By {column}**")
        st.dataframe(table, hide_index=True)
        csv = table.to_csv(index=False)
        st.download_button(
            "Figures (CSV)", csv, f"subgroups-{column}.csv", "text/csv", key=f"csv_{column}", on_click="ignore"
        )


def _probe(results: Results) -> None:
    lines = probe_lines(results)
    if not lines:
        st.info("The probe was not made in this run.")
        return
    st.markdown("A network may recognise the hospital or the machine instead of the disease.")
    for line in lines:
        st.markdown(f"- {line}")


def _files(run: RunView) -> None:
    st.markdown("For machines and for the paper; no identifier of a patient is in them.")
    for name, kind, words in (
        ("comparison.csv", "text/csv", "The table, long form"),
        ("comparison.json", "application/json", "The comparison"),
        ("clinical.json", "application/json", "All clinical statistics"),
        ("checklist.md", "text/markdown", "Items for CLAIM, STARD-AI and TRIPOD+AI, filled in as far as the run knows"),
    ):
        file = run.folder.evaluate / name
        if file.is_file():
            st.download_button(f"{words} ({name})", file.read_bytes(), name, kind, key=name, on_click="ignore")
    if run.folder.report.is_file():
        content = run.folder.report.read_bytes()
        st.download_button("The report, one page (report.html)", content, "report.html", "text/html", on_click="ignore")


def main() -> None:
    """Draw the page."""
    heading("Compare", "Fresh networks, trained on each set and scored on the same unseen patients.")
    run = chosen_run()
    if run is None:
        empty("There is no run to compare in.")
        return
    changed = stamp(run.folder.evaluate / "comparison.json") + stamp(run.folder.evaluate / "clinical.json")
    results = _results(str(run.folder.path), changed) if "evaluate" in run.finished else None
    if results is None:
        empty("The comparison of this run has not finished.", "It comes after the distillation.")
        go_to("distil", "See how the run stands")
        return
    views = {"answer": "Answer", **VIEWS, **_MORE}
    view = st.segmented_control(
        "View", list(views), format_func=views.__getitem__, default="answer", required=True, key="view"
    )
    if view == "answer":
        _answer(run, results)
    elif view == "subgroups":
        _subgroups(results)
    elif view == "probe":
        _probe(results)
    elif view == "files":
        _files(run)
    else:
        _drawn(run, results, str(view), changed)


main()
