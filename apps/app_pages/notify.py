"""A notification of the browser at the end of a run, for those who asked for it. Needs no network."""

from __future__ import annotations

from functools import cache
from typing import Any

import streamlit as st

from view_models.run_list import spoken_state
from view_models.runs import RunState

__all__ = ["notify_at_the_end"]

_HTML = '<button type="button" hidden></button><p role="status" hidden></p>'
_CSS = """
button { font: inherit; font-size: 0.875rem; width: 100%; padding: 0.35rem 0.6rem; cursor: pointer;
  color: var(--st-text-color); background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: 0.5rem; }
button:focus-visible { outline: 2px solid var(--st-primary-color); }
p { font-size: 0.8rem; margin: 0; color: var(--st-text-color); }
"""
# the permission belongs to this address of this browser; each end is told once a tab, and browsers show one of a tag
_JS = """
export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button"), words = parentElement.querySelector("p");
  const state = () => ("Notification" in window ? Notification.permission : "denied");
  const draw = () => {
    button.textContent = "Notify me when it ends";
    button.hidden = !data.busy || state() !== "default";
    words.hidden = !data.busy || state() === "default";
    words.textContent = state() === "granted"
      ? "This browser notifies you when it ends."
      : "This browser shows no notifications; the title of the tab says when it ends.";
  };
  button.onclick = () => Notification.requestPermission().then(draw);
  draw();
  const told = "medidistill-notified";
  if (data.event && state() === "granted" && sessionStorage.getItem(told) !== data.event) {
    sessionStorage.setItem(told, data.event);
    new Notification("medidistill", { body: data.words, tag: data.event });
  }
}
"""


@cache
def _component() -> Any:
    return st.components.v2.component("medidistill_notification", html=_HTML, css=_CSS, js=_JS)


def notify_at_the_end(key: str, state: RunState) -> None:
    """Draw the button that asks for permission while a run is at work, and notify once it has ended, without its name.

    Args:
        key: of the chosen run.
        state: how it stands now.
    """
    was_busy = st.session_state.get("notify_busy") == key
    st.session_state["notify_busy"] = key if state.is_busy else ""
    if was_busy and not state.is_busy:
        st.session_state["notify_event"] = {
            "event": f"{key}-{state.updated}",
            "words": f"Run {spoken_state(state)}.",
        }
    told = st.session_state.get("notify_event", {"event": "", "words": ""})
    _component()(key="notification", data={"busy": state.is_busy, **told})
