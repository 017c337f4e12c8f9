"""What several pages draw: the heading with its caution, the chosen run, the empty page, pictures, pickers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pandas as pd
import streamlit as st

from medidistill.errors import MedidistillError
from view_models.places import Places, inside, short_id, subfolders
from view_models.run_list import spoken_state
from view_models.runs import RunState, RunView, read_run, run_state, start_demo
from view_models.training import Tile

__all__ = [
    "CAUTION",
    "chosen_run",
    "empty",
    "error_text",
    "folder_picker",
    "go_to",
    "heading",
    "is_idle",
    "named_image",
    "open_page",
    "places",
    "plain_table",
    "plain_text",
    "short_badge",
    "show_tiles",
    "stamp",
    "without_pictures",
]

CAUTION = "Research use, not for diagnosis."
_HERE = "(this folder)"
_BADGES = {
    "queued": ("blue", "hourglass_empty"),
    "running": ("blue", "autorenew"),
    "stopped": ("orange", "pause"),
    "failed": ("red", "error"),
    "completed": ("green", "check"),
    "not_released": ("orange", "block"),
    "unknown": ("gray", "pause"),
    "damaged": ("red", "error"),
}


def places() -> Places:
    """Return the folders that the app may look into."""
    return Places.of()


def heading(title: str, lead: str) -> None:
    """Draw title, caution and one sentence on what the page is for."""
    st.title(title, anchor=False)
    st.markdown(f":orange-badge[:material/science: {CAUTION}]")
    st.markdown(lead)


def open_page(page: str, run: Path | None = None) -> NoReturn:
    """Go to another page, which shows `run`, or the run that is chosen now where it is None."""
    key = st.session_state.get("run_shown", "")
    if run is not None:
        key = short_id(run.relative_to(places().runs).as_posix())
        st.session_state["run_shown"] = key
    st.switch_page(f"app_pages/{page}.py", query_params={"run": key} if key else None)
    raise AssertionError  # it ends the drawing of this page


def short_badge(state: RunState) -> str:
    """Return how a run stands as a coloured badge, in Markdown."""
    color, icon = _BADGES.get(state.state, _BADGES["unknown"])
    ahead = f", {state.ahead} before it" if state.ahead else ""
    return f":{color}-badge[:material/{icon}: {plain_text(spoken_state(state))}{ahead}]"


def chosen_run() -> RunView | None:
    """Return the run that the sidebar chose, read anew; None where there is none. Raises `MedidistillError`."""
    path = st.session_state.get("run_path")
    return read_run(places(), Path(path)) if path else None


def is_idle(run: RunView) -> bool:
    """Whether no process works on a run, so that one may be started."""
    return not run_state(places(), run.folder.path).is_busy


def go_to(page: str, label: str) -> None:
    """Draw a link to another page, which shows the same run."""
    key = st.session_state.get("run_shown", "")
    asked = {"run": key} if key else None
    st.page_link(f"app_pages/{page}.py", label=label, icon=":material/arrow_forward:", query_params=asked)


def empty(what: str, next_step: str = "") -> None:
    """Draw what a page says that has nothing to show yet, and how to get there."""
    with st.container(border=True):
        st.markdown(f"**Nothing to show yet.** {what}")
        if next_step:
            st.markdown(next_step)
        if st.session_state.get("run_path") or st.session_state.get("run_unknown"):
            return
        st.markdown(
            "To look around first, make the **demo**: it draws phantom chest X-rays of patients who do not exist, and "
            "does the whole job on them in some minutes. No data are needed, and nothing leaves this machine."
        )
        if st.button("Make the demo", type="primary", icon=":material/play_arrow:", key="make_demo"):
            try:
                made = start_demo(places())
            except MedidistillError as error:
                st.error(plain_text(str(error)))
                return
            open_page("distill", made)


def named_image(content: object, alt: str, caption: str = "", width: str | int = "stretch") -> None:
    """Draw a picture with the words that stand for it; long names in a caption break between words."""
    said = plain_text(caption.replace("_", " "))
    st.image(content, caption=said or None, width=width, clamp=True, alt=alt)  # type: ignore[arg-type,unused-ignore]


def plain_text(text: str) -> str:
    """Return text of others with the letters that Streamlit would take for Markdown or a formula made harmless."""
    return re.sub(r"[\\`*_\[\]<>#$~|]|:(?!\s)", r"\\\g<0>", text)


def error_text(error: Exception) -> str:
    """Return what an error says, without the folder in which all runs lie."""
    return plain_text(str(error).replace(f"{places().runs}/", ""))


def plain_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table for `st.table`, which takes cells for Markdown, with its text made harmless."""
    return table.map(lambda cell: plain_text(cell) if isinstance(cell, str) else cell)


def without_pictures(text: str) -> str:
    """Return Markdown of others that loads no picture from anywhere."""
    return re.sub(r"\\*!\[", r"\\![", text)  # a backslash before the mark would make the next one a letter


def show_tiles(tiles: Sequence[Tile], width: int = 150) -> None:
    """Draw images side by side, enlarged, each with its class; as many to a line as the window holds."""
    with st.container(horizontal=True):
        for tile in tiles:
            shown = tile.caption.replace("_", " ")
            named_image(tile.pixels, f"Synthetic image, class {shown}", shown, width)


def stamp(path: Path) -> int:
    """Return when a file was changed, for caches; 0 where it is absent."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def folder_picker(key: str, label: str) -> Path:
    """Let the user walk through the folders below the allowed ones; return where they are."""
    roots = places().images
    names = {str(root): root.name or str(root) for root in roots}
    kept = st.session_state.get(f"{key}_from", "")
    st.session_state[f"{key}_root"] = kept if kept in names else str(roots[0])

    # a browser may send the same choice twice, when its page is drawn again before it took up the first answer: each
    # callback sets where the user is, and moves nothing from where they are
    def begin() -> None:
        chosen = st.session_state[f"{key}_root"]
        if chosen != st.session_state.get(f"{key}_from", str(roots[0])):
            st.session_state[f"{key}_from"] = chosen
            st.session_state.pop(f"{key}_here", None)

    if len(names) > 1:
        left, right, last = st.columns([2, 3.5, 1.5], vertical_alignment="bottom")
        left.selectbox(
            f"{label}: start from", list(names), format_func=names.__getitem__, key=f"{key}_root", on_change=begin
        )
    else:
        right, last = st.columns([5.5, 1.5], vertical_alignment="bottom")
    root = Path(kept if kept in names else str(roots[0]))  # whatever a browser sends
    here = Path(st.session_state.get(f"{key}_here", root))
    try:
        here = inside(root, here)
        children = [child.name for child in subfolders(root, here)]
    except (MedidistillError, OSError):
        here, children = root, [child.name for child in subfolders(root, root)]
    st.session_state[f"{key}_here"] = str(here)

    # each folder has a list of its own
    child_key = f"{key}_child_{hashlib.sha256(str(here).encode()).hexdigest()[:12]}"

    def enter() -> None:
        name = st.session_state[child_key]
        if name != _HERE:
            st.session_state[f"{key}_here"] = str(here / name)

    def leave() -> None:
        st.session_state[f"{key}_here"] = str(here.parent)

    shown = " / ".join([names[str(root)], *here.relative_to(root).parts])
    right.selectbox(
        f"You are in **{plain_text(shown)}**. Open a folder", [_HERE, *children], key=child_key, on_change=enter
    )
    last.button("Up", on_click=leave, disabled=here == root, icon=":material/arrow_upward:", key=f"{key}_up")
    return here
