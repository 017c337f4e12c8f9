"""A run at work: its stages, what it says, how to stop it and go on, and the distillation as it forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st

from app_pages.parts import error_text, go_to, places, plain_text, show_tiles
from medidistill.config import RunConfig
from medidistill.errors import MedidistillError
from medidistill.pipeline.stages import STAGES, stage_names, stage_title
from medidistill.results.history import Series
from medidistill.words import method_words
from view_models.presets import spoken_duration
from view_models.runs import RunState, RunView, read_run, remove_run, resume_run, run_state, stop_run
from view_models.training import Distillation, curves, distillation, running_methods, tiles, weights

__all__ = ["show_live"]

_EVERY = 2.0  # seconds
_CURVES: dict[Series, tuple[str, str]] = {
    "loss": ("Loss", ""),  # what it says depends on the objective
    "alpha": ("Learned rate alpha", "The learning rate that the distilled set asks for."),
    "score": ("Score on validation", "Balanced accuracy of small networks trained on the set; the best step is kept."),
}


def show_live(path: Path) -> None:
    """Draw the run at `path`, anew every few seconds while it works."""
    busy = run_state(places(), path).is_busy
    st.fragment(_live, run_every=_EVERY if busy else None)(str(path), busy)


def _live(path: str, was_busy: bool) -> None:
    try:
        _draw(path, was_busy)
    except MedidistillError as error:  # a fragment that draws itself anew lies outside of what the frame catches
        st.error(error_text(error), icon=":material/error:")


def _draw(path: str, was_busy: bool) -> None:
    run, state = read_run(places(), Path(path)), run_state(places(), Path(path))
    if was_busy != state.is_busy:
        st.rerun()  # the frame shows it too, and the polling ends or begins
    _buttons(run, state)
    _stages(run, state)
    if run.config is not None:
        found = _readable(run)
        if any(one.entries for one in found):
            _forming(found, state)
    if state.lines and state.state in ("running", "failed"):
        with st.expander("What the command says", expanded=state.state == "failed"):
            st.code("\n".join(state.lines), language=None, wrap_lines=True)


def _readable(run: RunView) -> list[Distillation]:
    """Return the distillations of a run; of one that cannot be read, say so."""
    found = []
    for method in running_methods(run):
        try:
            found.append(distillation(run, method))
        except MedidistillError as error:
            st.error(error_text(error), icon=":material/error:")
    return found


def _buttons(run: RunView, state: RunState) -> None:
    if state.state == "queued":
        st.info(
            f"Waiting: {state.ahead} job{'s' if state.ahead > 1 else ''} before it. It begins by itself, whether a "
            "browser is open or not.",
            icon=":material/hourglass_empty:",
        )
        if st.button("Take it out of the queue", icon=":material/close:", key="stop_run"):
            stop_run(places(), run.folder.path)
        return
    if state.state == "running":
        st.info(
            "The work goes on when you leave this page, reload it or close the browser.", icon=":material/autorenew:"
        )
        if st.button(
            "Stop the run", icon=":material/stop:", key="stop_run", help="Finished work is kept; you can go on later."
        ):
            stop_run(places(), run.folder.path)
            st.toast("Asked to stop; it ends after the step in work.")
        return
    if state.state == "completed":
        st.success("Finished.", icon=":material/check:")
        with st.container(horizontal=True):
            go_to("compare", "Compare")
            go_to("export", "Export")
        return
    if state.state == "not_released":
        st.warning(f"**Finished, not released.** {plain_text(state.error)}", icon=":material/block:")
        with st.container(horizontal=True):
            go_to("compare", "Compare")
            go_to("privacy", "Privacy")
        return
    if state.state == "failed":
        st.error(f"**The run ended with an error.** {plain_text(state.error)}", icon=":material/error:")
    elif state.state == "stopped":
        st.warning("The run was stopped. Finished work is kept.", icon=":material/pause:")
    else:
        st.info("The run has not finished, and nothing works on it now.", icon=":material/pause:")
    again = "Start again" if run.config is None else "Go on"
    with st.container(horizontal=True):
        pressed = st.button(again, type="primary", icon=":material/play_arrow:", key="resume_run")
        if run.config is None and st.button("Remove it", icon=":material/delete:", key="remove_run"):
            remove_run(places(), run.folder.path)
            st.session_state.pop("run_shown", None)
            st.switch_page("app_pages/runs.py")
    if pressed:
        try:
            resume_run(places(), run.folder.path)
        except MedidistillError as error:
            st.error(plain_text(str(error)))
            return
        st.rerun()


def _stage_in_words(stage: str) -> str:
    kind, _, method = stage.partition("/")
    if kind == "distill":
        return f"Distill ({plain_text(method_words(method))})"
    return stage_title(stage) if kind in STAGES else "Starting"


def _stages(run: RunView, state: RunState) -> None:
    stages = state.stages or stage_names(run.config or RunConfig())
    if state.state == "running" and state.stage in STAGES and state.stage not in stages:
        stages = (*stages, state.stage)  # an audit on top of a finished run
    finished = state.finished or run.finished
    lines = []
    for stage in stages:
        mark = ":green[:material/check_circle:]" if stage in finished else ":gray[:material/radio_button_unchecked:]"
        if stage == state.stage and state.state == "running":
            mark = ":blue[:material/autorenew:]"
        lines.append(f"{mark} {_stage_in_words(stage)}")
    left, right = st.columns([2, 3])
    left.markdown("  \n".join(lines))
    with right:
        if state.state == "running":
            st.progress(min(1.0, state.done or 0.0), text=_stage_in_words(state.stage))
            words = [plain_text(state.text)] if state.text else []
            if state.seconds_left is not None:
                words.append(f"{spoken_duration(state.seconds_left)} left in this stage")
            if state.whole_seconds_left is not None:
                words.append(f"**{spoken_duration(state.whole_seconds_left)} left in all**")
            st.caption("; ".join(words) or "This stage has said nothing yet.")


def _forming(found: Sequence[Distillation], state: RunState) -> None:
    st.subheader("How the distillation goes", anchor=False)
    st.caption("IADD weighs the parameters that it matches; MTT gives all the same weight.")
    columns = st.columns(3)
    for column, (key, (title, words)) in zip(columns, _CURVES.items(), strict=True):
        with column:
            st.markdown(f"**{title}**")
            table = curves(found, key)
            if table.empty:
                st.caption("No figure yet.")
            else:
                _lines(table, "log" if key == "loss" else "linear", title)
            st.caption(words or _loss_words(found))
    latest = next((one for one in reversed(found) if one.images), None)
    if latest is not None:
        st.subheader("The images as they form", anchor=False)
        steps = sorted(latest.images)
        step = steps[-1]
        st.caption(f"{latest.title}: outer step {step} of {latest.steps}. Synthetic; they began as {latest.began_as}.")
        shown = tiles(latest.images[step], latest.class_names, latest.normalisation)
        show_tiles(shown[:24])
        if len(shown) > 24:
            st.caption(f"The first 24 of {len(shown)}.")
    elif any(one.entries for one in found):
        st.caption("The images are not shown here: they began as patients' X-rays, and may still show them.")
    for one in found:
        table = weights(one)
        if not table.empty:
            st.subheader("Importance weights W by layer", anchor=False)
            st.caption(
                "Median, quartiles and extremes of the weight that each layer has in the matching loss; 1 is plain "
                "trajectory matching. A high weight marks parameters whose path is hard to follow; a low one, if W "
                "descends."
            )
            _weights(table)


def _loss_words(found: Sequence[Distillation]) -> str:
    """Return what the drawn losses mean, by what the methods lower."""
    lowered = [one for one in found if one.entries]
    matched = [one.title for one in lowered if one.objective == "trajectory"]
    others = [one.title for one in lowered if one.objective != "trajectory"]
    words = []
    if matched:
        words.append(
            f"{', '.join(matched)}: below 1 a network trained on the images comes nearer to the expert; at 1 or above "
            "it does not. Noisy, because every step matches another stretch of an expert."
        )
    if others:
        words.append(f"{', '.join(others)}: a loss of another kind, of which only the fall counts.")
    return plain_text(" ".join(words))


def _lines(table: pd.DataFrame, scale: str, title: str) -> None:
    long = table.reset_index().melt("outer step", var_name="method", value_name="value").dropna()
    chart = (
        alt.Chart(long)
        .mark_line(point=len(table) < 30)
        .encode(
            x=alt.X("outer step:Q", title="outer step"),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(type=scale, zero=False)),  # type: ignore[arg-type,unused-ignore]
            color=alt.Color("method:N", legend=alt.Legend(orient="bottom", title=None, columns=1, labelLimit=0)),
            strokeDash=alt.StrokeDash("method:N", legend=None),
            tooltip=["method", "outer step", alt.Tooltip("value:Q", format=".4g")],
        )
        .properties(height=320)
    )
    last = ", ".join(f"{name}: {table[name].dropna().iloc[-1]:.4g}" for name in table.columns)
    st.altair_chart(chart, alt=f"{title} over outer steps; last values {last}")


def _weights(table: pd.DataFrame) -> None:
    base = alt.Chart(table.reset_index()).encode(
        y=alt.Y("layer:N", sort=None, title=None, axis=alt.Axis(labelLimit=260))
    )
    scale = alt.Scale(type="log")
    chart = (
        base.mark_rule().encode(x=alt.X("min:Q", scale=scale, title="weight w (log axis)"), x2="max:Q")
        + base.mark_bar(height=7).encode(x=alt.X("q25:Q", scale=scale), x2="q75:Q")
        + base.mark_point(filled=True, size=55, color="#D55E00").encode(x=alt.X("median:Q", scale=scale))
    )
    st.altair_chart(chart.properties(height=24 * len(table) + 40), alt=f"Importance weights of {len(table)} layers")
