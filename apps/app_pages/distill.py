"""Progress: watch the chosen run, stop it, go on."""

from __future__ import annotations

import streamlit as st

from app_pages.live import show_live
from app_pages.parts import chosen_run, empty, go_to, heading, places, plain_text
from view_models.run_labels import read_label
from view_models.runs import run_state


def main() -> None:
    """Draw the page."""
    heading("Progress", "How the chosen run stands, and the synthetic images as they form.")
    run = chosen_run()
    if run is None:
        empty("No run was started yet.")
        go_to("new_run", "Start a new run")
        return
    label = read_label(places(), run.key, run.folder.path)
    st.subheader(plain_text(label.title or run.title), anchor=False)
    if label.note:
        st.caption(plain_text(label.note))
    if run.notice and not run_state(places(), run.folder.path).is_busy:
        st.warning(plain_text(run.notice))
    show_live(run.folder.path)


main()
