"""Compare: can I train on the distilled set instead of the real one?"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app_pages.parts import (
    chosen_run,
    empty,
    go_to,
    heading,
    is_idle,
    named_image,
    open_page,
    places,
    plain_text,
    stamp,
)
from app_pages.purpose import show_purpose
from app_pages.verdict_panel import show_criteria, show_verdict
from medidistill.words import arm_words
from view_models.misclassified import misclassified
from view_models.results import (
    VIEWS,
    Figure,
    Results,
    all_hidden,
    darkened,
    figure,
    legend_html,
    probe_lines,
    read_results,
    report_is_current,
    rows_table,
    sentences,
    subgroup_tables,
    tested_words,
)
from view_models.runs import RunView, read_run, start_explaining
from view_models.saliency import Explained, explained_case, overlay, read_explained
from view_models.words import explain

_MORE = {
    "subgroups": "Subgroups",
    "probe": "Source confounding",
    "cases": "Misclassified cases",
    "looks": "Saliency (Grad-CAM)",
    "files": "Files and checklist",
}
_OWN, _ELSEWHERE = "The run's own test patients", "The test set from elsewhere"
_CASES = 2  # of each outcome
_CASE_PAGE = 12


@st.cache_data(max_entries=16, show_spinner="Reading the comparison ...")
def _results(path: str, changed: int, elsewhere: bool) -> Results | None:
    return read_results(read_run(places(), Path(path)), elsewhere=elsewhere)


@st.cache_data(max_entries=48, show_spinner="Drawing ...")
def _figure(
    path: str, changed: int, elsewhere: bool, view: str, arms: tuple[str, ...], architecture: str
) -> Figure | None:
    results = _results(path, changed, elsewhere)
    return figure(results.only(arms, architecture), view) if results else None


def _answer(run: RunView, results: Results, elsewhere: bool) -> None:
    if elsewhere:
        st.markdown(
            "On patients from elsewhere, whom no part of this run was trained or tuned on. A fall against the run's "
            "own test patients is the rule."
        )
    if run.notice:
        st.warning(plain_text(run.notice), icon=":material/warning:")
    with st.expander("In words", expanded=True):
        st.markdown("\n".join(f"- {plain_text(sentence)}" for sentence in sentences(results)))
    st.dataframe(rows_table(results), hide_index=True, alt="Balanced accuracy and AUROC of every arm")
    show_criteria(run, elsewhere=elsewhere)
    st.caption(plain_text(tested_words(results)))
    notes = [*results.comparison.notes, *(results.clinical.notes if results.clinical is not None else ())]
    if notes:
        with st.expander("What these figures rest on"):
            st.markdown("\n".join(f"- {plain_text(note)}" for note in notes))


def _drawn(run: RunView, results: Results, view: str, changed: int, elsewhere: bool) -> None:
    per_class = run.config.distill.ipc if run.config else 0
    arms = st.pills(
        "Trained on",
        results.arms,
        selection_mode="multi",
        default=results.arms,
        format_func=lambda arm: plain_text(arm_words(arm, per_class)),
        key="arms",
        bind="query-params",
        help=explain("arm"),
        wrap=True,
    )
    architecture = results.architectures[0]
    if len(results.architectures) > 1:
        architecture = st.selectbox("Network", results.architectures, key="architecture", bind="query-params")
    if not arms:
        st.info("Choose at least one arm.")
        return
    ordered = tuple(arm for arm in results.arms if arm in arms)
    drawn = _figure(str(run.folder.path), changed, elsewhere, view, ordered, architecture)
    if drawn is None:
        st.info("This run does not hold what this view needs; resume it to complete the comparison.")
        return
    dark = st.context.theme.type == "dark"
    st.html(legend_html(ordered, per_class, dark=dark))
    named_image(darkened(drawn.svg) if dark else drawn.svg, drawn.alt)
    st.caption(plain_text(tested_words(results)))
    st.markdown(plain_text(drawn.caption))
    if run.notice:
        st.caption(plain_text(run.notice))
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
    st.markdown(
        "Small groups are hidden (suppressed): figures of a few patients are noise, and can point at one. AUROC of one "
        "class against the rest, by what was trained on."
    )
    for column, table in tables.items():
        st.markdown(f"**By {plain_text(column)}**")
        if all_hidden(table):
            st.info(
                f"All {table['group'].nunique()} groups by {plain_text(column)} are too small to show; none is listed."
            )
            continue
        st.dataframe(table, hide_index=True)
        csv = table.to_csv(index=False)
        st.download_button(
            "Figures (CSV)", csv, f"subgroups-{column}.csv", "text/csv", key=f"csv_{column}", on_click="ignore"
        )


def _probe(results: Results, own: Results) -> None:
    lines = probe_lines(results)
    if not lines:
        elsewhere = results is not own and probe_lines(own)
        where = "on the test set from elsewhere; it was on the run's own test patients" if elsewhere else "in this run"
        st.info(f"The probe was not made {where}.")
        return
    st.markdown("A network may recognise the hospital or the machine instead of the disease.")
    for line in lines:
        st.markdown(f"- {plain_text(line)}")


def _misclassified(run: RunView, results: Results) -> None:
    """Draw the errors on the run's own test patients, whose `results` these are."""
    per_class = run.config.distill.ipc if run.config else 0
    left, right = st.columns([3, 1])
    arm = left.selectbox(
        "Networks trained on",
        results.arms[::-1],
        format_func=lambda one: arm_words(one, per_class),
        key="case_arm",
        bind="query-params",
    )
    architecture = right.selectbox("Network", results.architectures, key="architecture", bind="query-params")
    found = misclassified(run, str(arm), str(architecture))
    if found is None:
        st.info("The private part of this run was removed, so its test images cannot be shown.")
        return
    test_images = results.comparison.test_images
    st.markdown(
        f"**{len(found)} of {test_images} test images** are called by another class by the mean of these networks; all "
        "are of the run's own test patients. "
        "The most certain errors come first."
    )
    if not found or not st.toggle("Show patients' images", key="show_cases"):
        return
    pages = -(-len(found) // _CASE_PAGE)
    page = int(st.number_input(f"Page of {pages}", 1, pages, 1, key="case_page")) if pages > 1 else 1
    shown = found[(page - 1) * _CASE_PAGE : page * _CASE_PAGE]
    for first in range(0, len(shown), 4):
        for column, case in zip(st.columns(4), shown[first : first + 4], strict=False):
            with column:
                named_image(case.pixels, f"Test image, class {case.true}")
                true, called, other = (
                    plain_text(name.replace("_", " ")) for name in (case.true, case.called, case.reference)
                )
                said = f"**{true}**, called **{called}** ({case.probability:.2f})"
                if other:
                    said += f"; all real X-rays: {'right' if case.reference_is_right else other}"
                st.caption(said)


def _looks(run: RunView) -> None:
    st.markdown(
        "Grad-CAM of networks trained on real and on distilled images, side by side on the same images of the run's "
        "own test patients. "
        "It shows **patients' images**: they are kept with the prepared X-rays (`ingest/explained/`), in no bundle and "
        "no report, and `medidistill clean` removes them. Switch it on only where you may look at them."
    )
    found = read_explained(run)
    if found is None:
        st.info("No such picture was made in this run.", icon=":material/info:")
        if not (run.folder.ingest / "test.safetensors").is_file():
            st.markdown("The private part of this run was removed, so none can be made now.")
        elif not is_idle(run):
            st.markdown("The run is at work. Come back when it has finished.")
        elif st.button("Make it", help="Trains one network an arm again: seconds to minutes.", key="explain"):
            start_explaining(places(), run.folder.path, _CASES)
            open_page("distill", run.folder.path)
        return
    if st.toggle("Show patients' images", key="show_looks"):
        if found.arms:
            _case_at_full_resolution(run, found)
        else:
            named_image(found.picture, found.alt)
        st.markdown(plain_text(found.caption))
    st.dataframe(found.cases, hide_index=True, alt="What each network calls each case")


def _case_at_full_resolution(run: RunView, found: Explained) -> None:
    """Draw one case: the film and each map over it, at the resolution of the file."""
    per_class = run.config.distill.ipc if run.config else 0

    def title(place: int) -> str:
        row = found.cases.iloc[place]
        return f"{place + 1}: {row['true class']}, {row['outcome']}".replace("_", " ")

    number = int(st.selectbox("Case", range(len(found.cases)), format_func=title, key="looks_case"))
    film, maps = explained_case(run, number, found.arms)
    left, right = st.columns(2)
    strength = left.slider("Strength of the map", 0.0, 1.0, 0.45, 0.05, key="looks_strength")
    zoom = right.slider("Zoom", 1.0, 8.0, 1.0, 0.5, key="looks_zoom", help="Of the film and of every map alike.")
    across = down = 0.5
    if zoom > 1:
        across = left.slider("Left to right", 0.0, 1.0, 0.5, 0.05, key="looks_across")
        down = right.slider("Top to bottom", 0.0, 1.0, 0.5, 0.05, key="looks_down")
    where = {"zoom": zoom, "across": across, "down": down}
    pictures = [("the X-ray", overlay(film, **where))]
    pictures += [
        (f"network trained on {arm_words(arm, per_class)}", overlay(film, maps[arm], strength=strength, **where))
        for arm in found.arms
    ]
    for first in range(0, len(pictures), 3):
        for column, (words, pixels) in zip(st.columns(3), pictures[first : first + 3], strict=False):
            with column:
                named_image(pixels, f"Case {number + 1}: {words}", words)
    st.caption(
        f"The film has {film.shape[1]} x {film.shape[0]} pixels here"
        + (
            ", as the networks saw it: its file is gone or changed."
            if run.config is not None and film.shape[0] <= run.config.ingest.image_size
            else ", its central square as the file holds it."
        )
    )


def _files(run: RunView) -> None:
    st.markdown("For machines and for the paper; no identifier of a patient is in them.")
    for name, kind, words in (
        ("comparison.csv", "text/csv", "The table, long form"),
        ("comparison.json", "application/json", "The comparison"),
        ("clinical.json", "application/json", "All clinical statistics"),
        ("checklist.md", "text/markdown", "Items for CLAIM, STARD-AI and TRIPOD+AI, filled in as far as the run knows"),
    ):
        for where, folder in (("", run.folder.evaluate), ("elsewhere-", run.folder.evaluate / "external")):
            if (folder / name).is_file():
                title = f"{words}{', on the test set from elsewhere' if where else ''} ({where}{name})"
                content = (folder / name).read_bytes()
                st.download_button(title, content, where + name, kind, key=where + name, on_click="ignore")
    earlier = not report_is_current(run)
    pages = [
        (run.folder.summary, "application/pdf", "The summary, one page (PDF)"),
        (run.folder.report, "text/html", "The report, one page (report.html)"),
    ]
    if earlier and any(file.is_file() for file, _, _ in pages):
        st.warning(
            "Report and summary were written before the verdict above, and may be about another set. Continue the run "
            "to write them again.",
            icon=":material/history:",
        )
    for file, kind, words in pages:
        if file.is_file():
            title, name = (f"{words}, from before", f"earlier-{file.name}") if earlier else (words, file.name)
            st.download_button(title, file.read_bytes(), name, kind, on_click="ignore")


def _choose_view(views: dict[str, str]) -> str:
    """Draw the views; the address decides, so that a link, a reload and Back show the view that they name."""
    asked = str(st.query_params.get("view", ""))
    if asked in views:
        st.session_state["view"] = asked
    elif st.session_state.get("view_asked"):  # Back, to an address that names none
        st.session_state["view"] = "answer"
    st.session_state["view_asked"] = asked
    st.session_state.setdefault("view", "answer")

    def chosen() -> None:
        st.query_params["view"] = st.session_state["view"]

    return str(
        st.segmented_control(
            "View", list(views), format_func=views.__getitem__, required=True, key="view", on_change=chosen
        )
    )


def main() -> None:
    """Draw the page."""
    heading("Compare", "Fresh networks, trained on each set and scored on the same unseen patients.")
    run = chosen_run()
    if run is None:
        empty("There is no run to compare in.")
        return
    there = (run.folder.evaluate / "external" / "comparison.json").is_file()
    changed = stamp(run.folder.evaluate / "comparison.json") + stamp(run.folder.evaluate / "clinical.json")
    path, elsewhere = str(run.folder.path), False
    own = _results(path, changed, elsewhere) if "evaluate" in run.finished else None
    if own is None:
        empty("The comparison of this run has not finished.", "It comes after the distillation.")
        go_to("distill", "See how the run stands")
        return
    results = own
    if there:
        scored = st.segmented_control(
            "Scored on", [_OWN, _ELSEWHERE], default=_OWN, required=True, key="scored", bind="query-params"
        )
        elsewhere = scored == _ELSEWHERE
        results = (_results(path, changed, True) if elsewhere else None) or own
    show_verdict(run, elsewhere=elsewhere, figures=False)
    views = {"answer": "Answer", "purpose": "For my purpose", **VIEWS, **_MORE}
    view = _choose_view(views)
    if view == "answer":
        _answer(run, results, elsewhere)
    elif view == "purpose":
        show_purpose(run, elsewhere=elsewhere)
    elif view == "subgroups":
        _subgroups(results)
    elif view == "probe":
        _probe(results, own)
    elif view == "cases":
        _misclassified(run, own)
    elif view == "looks":
        _looks(run)
    elif view == "files":
        _files(run)
    else:
        _drawn(run, results, str(view), changed, elsewhere)


main()
