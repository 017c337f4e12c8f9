"""Runs: find one, name it, note something about it, compare two, delete."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app_pages.parts import go_to, heading, places, plain_text, short_badge
from medidistill.errors import MedidistillError
from view_models.kept_files import delete_kept, list_kept
from view_models.presets import spoken_duration
from view_models.run_labels import remove_label, write_label
from view_models.run_list import RunRow, compared_runs, list_runs, settings_table
from view_models.runs import read_run, remove_run, resume_run, stop_run


def _sure(what: str, key: str, action: Callable[[], None]) -> None:
    """Draw a button that deletes, after a second press on another one."""
    with st.popover("Delete", icon=":material/delete:", key=f"sure_{key}"):
        st.markdown(f"Delete {plain_text(what)}? It cannot be brought back.")
        if st.button("Yes, delete it", key=f"delete_{key}", type="primary"):
            try:
                action()
            except MedidistillError as error:
                st.error(plain_text(str(error)))
                return
            st.rerun()


def _delete(row: RunRow) -> None:
    remove_run(places(), row.path)
    remove_label(places(), row.key)
    if st.session_state.get("run_shown") == row.key:
        st.session_state["run_shown"] = ""
    if st.query_params.get("run") == row.key:
        del st.query_params["run"]


def _name(row: RunRow) -> None:
    with st.popover("Name and note", icon=":material/edit:", key=f"edit_{row.key}"):
        title = st.text_input("Name", row.title, max_chars=60, key=f"title_{row.key}", help="Name no patient here.")
        note = st.text_area("Note", row.note, max_chars=500, key=f"note_{row.key}")
        if st.button("Keep", key=f"keep_{row.key}", type="primary"):
            write_label(places(), row.key, title, note, row.path)
            st.rerun()


def _line(row: RunRow) -> None:
    with st.container(border=True):
        left, right = st.columns([4, 1], vertical_alignment="top")
        date = f"{row.date:%Y-%m-%d %H:%M}" if row.date else ""
        left.markdown(f"**{plain_text(row.title)}** {short_badge(row.state)}")
        if row.verdict[1]:
            left.markdown(plain_text(row.verdict[1]))
        if row.note:
            left.markdown(f"*{plain_text(row.note)}*")
        told = (date, row.data, row.settings, row.error or row.state.error)
        left.caption(plain_text("; ".join(part for part in told if part)))
        if row.state.whole_seconds_left is not None:
            left.caption(f"{spoken_duration(row.state.whole_seconds_left)} left in all")
        page = "compare" if row.state.state in ("completed", "not_released") else "distill"
        right.page_link(
            f"app_pages/{page}.py", label="Open", icon=":material/arrow_forward:", query_params={"run": row.key}
        )
        with st.container(horizontal=True):
            _name(row)
            if row.state.is_busy:
                if st.button("Stop", key=f"stop_{row.key}", icon=":material/stop:"):
                    stop_run(places(), row.path)
                    st.toast("Asked to stop; it ends after the step in work.")
                return
            if not row.began and st.button("Start again", key=f"again_{row.key}", icon=":material/play_arrow:"):
                try:
                    resume_run(places(), row.path)
                except MedidistillError as error:
                    st.error(plain_text(str(error)))
                else:
                    st.rerun()
            _sure(f"the run {row.title} with its prepared X-rays, set and bundle", row.key, lambda: _delete(row))


def _side_by_side(rows: list[RunRow]) -> None:
    names = {row.key: row for row in rows if row.began and not row.error}
    chosen = st.multiselect(
        "Compare runs side by side",
        list(names),
        format_func=lambda key: names[key].title,
        max_selections=4,
        placeholder="Choose two or more",
        key="side_by_side",
    )
    if len(chosen) < 2:
        return
    runs = {f"{names[key].title} ({key[:4]})": read_run(places(), names[key].path) for key in chosen}
    table = compared_runs(runs)
    if table.empty:
        st.info("None of them has finished its comparison.", icon=":material/info:")
    else:
        st.markdown("Each run has test patients of its own, unless data, seed and splits are the same.")
        st.dataframe(table, hide_index=True, alt="What networks reach in each run")
    differs = settings_table(runs)
    if not differs.empty:
        st.markdown("Settings in which they differ:")
        st.dataframe(differs, hide_index=True, alt="Settings in which the runs differ")


def _kept() -> None:
    kept = list_kept(places())
    st.subheader("Uploads and received bundles", anchor=False)
    if not kept:
        st.caption("None.")
    for one in kept:
        left, right = st.columns([4, 1], vertical_alignment="center")
        kind = "uploaded X-rays" if one.kind == "upload" else "received bundle"
        left.markdown(
            f"**{plain_text(one.path.name)}**: {kind}, {one.files} files, {one.size / 1e6:.1f} MB, "
            f"{one.date:%Y-%m-%d %H:%M}"
        )
        with right:
            key = f"{one.kind}_{one.path.name}"
            _sure(f"{kind} {one.path.name}", key, lambda path=one.path: delete_kept(places(), path))  # type: ignore[misc]


def main() -> None:
    """Draw the page."""
    heading("Runs", "Every run in the folder of runs. One works at a time; others wait their turn.")
    rows = list_runs(places())
    if not rows:
        st.info("No run yet.", icon=":material/info:")
        go_to("new_run", "Start a new run")
    else:
        text = st.text_input(
            "Search", key="search", placeholder="Words of name, note, data, settings or state", bind="query-params"
        )
        found = [row for row in rows if row.matches(text)]
        if not found:
            st.info("No run matches.", icon=":material/search_off:")
        if len(rows) > 1:
            _side_by_side(rows)
        for row in found:
            _line(row)
    _kept()


main()
