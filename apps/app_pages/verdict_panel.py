"""The verdict at the top of Compare, Export and Receive: the same words as in the report and on the card."""

from __future__ import annotations

import streamlit as st

from app_pages.parts import is_idle, open_page, places, plain_text
from medidistill.errors import MedidistillError
from medidistill.jsontypes import ReadOnlyJsonObject  # a recipe of any version, checked by its schema
from medidistill.results.verdict import Colour, Verdict
from medidistill.words import VERDICT_QUESTION, criteria_note
from view_models.runs import RunView
from view_models.verdict import (
    bundle_verdict,
    criteria_table,
    deliverable_methods,
    delivery_words,
    readable_verdict,
    start_delivery,
)

__all__ = ["show_bundle_verdict", "show_criteria", "show_delivery", "show_verdict"]

_BOXES = {
    Colour.GREEN: (st.success, ":material/check_circle:"),
    Colour.AMBER: (st.warning, ":material/help:"),
    Colour.RED: (st.error, ":material/cancel:"),
}


def show_verdict(run: RunView, *, elsewhere: bool = False, figures: bool = True) -> None:
    """Draw the verdict on the set that a run delivers.

    Args:
        run: the run.
        elsewhere: on its test set from elsewhere.
        figures: offer the table of the criteria, too.
    """
    verdict, problem = readable_verdict(run, elsewhere=elsewhere)
    st.subheader(VERDICT_QUESTION, anchor=False)
    if verdict is not None:
        _draw(verdict)
        if figures:
            _criteria(verdict)
    elif problem:
        st.error(plain_text(problem), icon=":material/error:")
    elif "evaluate" in run.finished:
        st.info(
            "No verdict: this run distilled no set, or was compared by an earlier version. Continuing the run makes "
            "the verdict; no network is trained again.",
            icon=":material/info:",
        )


def show_bundle_verdict(recipe: ReadOnlyJsonObject) -> None:
    """Draw the verdict that a bundle carries, made again from its criteria."""
    verdict, problem = bundle_verdict(recipe)
    st.subheader(VERDICT_QUESTION, anchor=False)
    if verdict is not None:
        st.caption("As the sender measured it, on the sender's patients.")
        _draw(verdict)
        _criteria(verdict)
    elif problem:
        st.error(f"The verdict of this bundle cannot be believed: {plain_text(problem)}.", icon=":material/error:")
    else:
        st.info("The bundle carries no verdict.", icon=":material/info:")


def _draw(verdict: Verdict) -> None:
    box, icon = _BOXES[verdict.colour]
    box(f"**{plain_text(verdict.sentence)}**", icon=icon)
    if verdict.missing:
        st.markdown(f"Missing for a yes: {plain_text('; '.join(verdict.missing))}.")
    for warning in verdict.warnings:
        st.warning(plain_text(warning), icon=":material/warning:")


def show_criteria(run: RunView, *, elsewhere: bool = False) -> None:
    """Draw the criteria of the verdict on a run's set, with their figures."""
    verdict, _ = readable_verdict(run, elsewhere=elsewhere)
    if verdict is not None:
        _criteria(verdict)


def _criteria(verdict: Verdict) -> None:
    with st.expander("The criteria and their figures"):
        st.dataframe(
            criteria_table(verdict),
            hide_index=True,
            alt="Criteria of the verdict",
            column_config={name: st.column_config.NumberColumn(format="%.3f") for name in ("this set", "that")},
        )
        st.caption(plain_text(criteria_note(verdict.architecture, verdict.confidence)))


def show_delivery(run: RunView) -> None:
    """Draw which method's set is delivered, by which rule, and the choice of another."""
    verdict, _ = readable_verdict(run)
    if verdict is not None:
        st.markdown(plain_text(verdict.chosen_by))
    methods = deliverable_methods(run)
    if not methods:
        return
    with st.expander("Deliver another method's set"):
        chosen = st.selectbox("Method", methods, format_func=delivery_words, key="deliver")
        st.caption(
            "Bundle and report are made anew, and the audit where the run asks for one; an audit that was started by "
            "hand is about the set before: audit again. The new bundle replaces the one that is there, released or "
            "not. Where the privacy gate refuses it, the old one stays, and is said to be of another set. A method "
            "that is named after the test patients were scored cannot get a green verdict."
        )
        if not is_idle(run):
            st.info("The run is at work.", icon=":material/autorenew:")
        elif st.button("Write the bundle again", disabled=chosen == methods[0], key="deliver_again"):
            try:
                started = start_delivery(places(), run.folder.path, str(chosen))
            except MedidistillError as error:
                st.error(plain_text(str(error)))
                return
            open_page("distill", started)
