"""What several pages draw: the heading with its caution, the chosen run, the empty page, pictures, pickers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from medidistill.errors import MedidistillError
from view_models.places import Places, inside, subfolders
from view_models.runs import RunView, read_run, run_state, start_demo
from view_models.training import Tile

__all__ = [
    "CAUTION",
    "at_rest",
    "chosen_run",
    "empty",
    "folder_picker",
    "go_to",
    "heading",
    "named_image",
    "places",
    "show_run",
    "show_tiles",
    "stamp",
]

CAUTION = "Research use, not for diagnosis."
_HERE = "(this folder)"


def places() -> Places:
    """Return the folders that the app may look into."""
    return Places.of()


def heading(title: str, lead: str) -> None:
    """Draw title, caution and one sentence on what the page is for."""
    st.title(title, anchor=False)
    st.markdown(f":orange-badge[:material/science: {CAUTION}]")
    st.markdown(lead)


def show_run(path: Path) -> None:
    """Make `path` the chosen run from the next drawing on."""
    st.session_state["wanted_run"] = str(path)


def chosen_run() -> RunView | None:
    """Return the run that the sidebar chose, read anew; None where there is none. Raises `MedidistillError`."""
    path = st.session_state.get("run_path")
    return read_run(places(), Path(path)) if path else None


def at_rest(run: RunView) -> bool:
    """Whether no process works on a run, so that one may be started."""
    return run_state(places(), run.folder.path).state != "running"


def go_to(page: str, label: str) -> None:
    """Draw a link to another page."""
    st.page_link(f"app_pages/{page}.py", label=label, icon=":material/arrow_forward:")


def empty(what: str, next_step: str = "") -> None:
    """Draw what a page says that has nothing to show yet, and how to get there."""
    with st.container(border=True):
        st.markdown(f"**Nothing to show yet.** {what}")
        if next_step:
            st.markdown(next_step)
        if st.session_state.get("run_path"):
            return
        st.markdown(
            "To look around first, make the **demo**: it draws phantom chest X-rays of patients who do not exist, and "
            "does the whole job on them in some minutes. No data are needed, and nothing leaves this machine."
        )
        if st.button("Make the demo", type="primary", icon=":material/play_arrow:", key="make_demo"):
            try:
                show_run(start_demo(places()))
            except MedidistillError as error:
                st.error(str(error))
                return
            st.switch_page("app_pages/distil.py")


def named_image(content: object, alt: str, caption: str = "", width: str | int = "stretch") -> None:
    """Draw a picture with the words that stand for it; long names in a caption break between words."""
    st.image(content, caption=caption.replace("_", " ") or None, width=width, clamp=True, alt=alt)  # type: ignore[arg-type,unused-ignore]


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
    named = st.selectbox(f"{label}: start from", list(names), format_func=names.__getitem__, key=f"{key}_root")
    root = Path(named if named in names else str(roots[0]))  # whatever a browser sends
    here = Path(st.session_state.get(f"{key}_here", root))
    try:
        here = inside(root, here)
        children = [child.name for child in subfolders(root, here)]
    except (MedidistillError, OSError):
        here, children = root, [child.name for child in subfolders(root, root)]
    st.session_state[f"{key}_here"] = str(here)

    def enter() -> None:
        name = st.session_state[f"{key}_child"]
        if name != _HERE:
            st.session_state[f"{key}_here"] = str(here / name)
            st.session_state[f"{key}_child"] = _HERE

    def leave() -> None:
        st.session_state[f"{key}_here"] = str(here.parent)

    left, right = st.columns([4, 1], vertical_alignment="bottom")
    shown = " / ".join([names[str(root)], *here.relative_to(root).parts])
    left.selectbox(f"You are in **{shown}**. Open a folder", [_HERE, *children], key=f"{key}_child", on_change=enter)
    right.button("Up", on_click=leave, disabled=here == root, icon=":material/arrow_upward:", key=f"{key}_up")
    return here
