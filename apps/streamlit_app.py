"""The app: `medidistill app`. Chooses the page and the run; the pages draw, `view_models` compute."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app_pages.notify import notify_at_the_end
from app_pages.parts import CAUTION, error_text, places, short_badge
from medidistill import __version__
from medidistill.errors import MedidistillError
from view_models.collecting import freeze_imported_objects
from view_models.places import Places, short_id
from view_models.run_labels import read_label
from view_models.run_list import choose_run, spoken_state
from view_models.runs import RunState, find_runs, never_began, run_state

_ICON = str(Path(__file__).parent / "icon.png")  # a symbol's name would be fetched from another host
_TOP = {"home": ("Home", ":material/home:")}
_BEFORE = {
    "data": ("X-rays", ":material/folder_open:"),
    "new_run": ("New run", ":material/add_circle:"),
    "runs": ("Runs", ":material/list:"),
}
_OF_RUN = {
    "distill": ("Progress", ":material/science:"),
    "compare": ("Compare", ":material/balance:"),
    "gallery": ("Gallery", ":material/grid_view:"),
    "privacy": ("Privacy", ":material/shield:"),
    "export": ("Export", ":material/outbox:"),
}
_OTHERS = {"receive": ("Receive", ":material/move_to_inbox:")}
_PAGES = _TOP | _BEFORE | _OF_RUN | _OTHERS
_WITHOUT_RUN = ("home", "new_run", "runs", "receive", "data")  # their address names a run only where a link did
_STYLE = """<style>
[data-testid='stStatusWidget'] button { display: none; }
[data-testid='stMainBlockContainer'] { padding-top: 3rem; }
[data-testid='stSidebarHeader'] { height: 2.5rem; margin-bottom: 0; }
[data-testid='stSidebar'] hr { margin: 0.5rem 0; }
/* captions as Streamlit draws them are too pale to read (WCAG 2.2, 1.4.3) */
[data-testid='stCaptionContainer'], [data-testid='stImageCaption'] { color: inherit !important; opacity: 0.82; }
/* code that scrolls sideways cannot be reached by keyboard (2.1.1): let it wrap */
pre, pre code { white-space: pre-wrap !important; overflow-wrap: anywhere; overflow-x: hidden !important; }
</style>"""
_DARK = """<style>
[data-testid='stBaseButton-primary'], [data-testid='stBaseButton-primary'] p { color: #0e1117; }
</style>"""
_WATCH = 3.0  # seconds
_UNKNOWN = (
    "**The address names a run that is not here.** It was deleted, or belongs to another folder of runs. Choose one at "
    "the left or on the page Runs."
)


def _state(where: Places, path: Path) -> RunState:
    try:
        return run_state(where, path)
    except MedidistillError:
        return RunState("damaged")


def _choose_run(where: Places, page: str) -> Path | None:
    """Draw the list of runs; the choice is kept in the session and, as a number that means nothing, in the address.

    The address decides, so that a link, a reload and Back show the run that they name.
    """
    found = {short_id(path.relative_to(where.runs).as_posix()): path for path in find_runs(where)}
    begun = [key for key, path in found.items() if not never_began(where, path)]
    asked = str(st.query_params.get("run", ""))
    choice = choose_run(list(found), asked, st.session_state.get("run_shown", ""), begun)
    st.session_state["run_unknown"] = choice.unknown
    st.session_state["run_path"] = str(found[choice.key]) if choice.key else ""
    if choice.key:
        st.session_state["run_shown"] = choice.key
        if not asked and page not in _WITHOUT_RUN:
            st.query_params["run"] = choice.key
    if not found:
        st.caption("No run yet.")
        return None
    names = {key: read_label(where, key, path).title or _folder(where, path) for key, path in found.items()}

    def chosen() -> None:
        st.session_state["run_shown"] = st.session_state["run_key"]
        st.query_params["run"] = st.session_state["run_key"]

    st.session_state["run_key"] = choice.key or None
    st.selectbox(
        "Run",
        list(found),
        format_func=names.__getitem__,
        key="run_key",
        on_change=chosen,
        placeholder="Choose a run",
        help="Every run below the folder that the app was started with, newest first. All browsers see the same runs.",
    )
    return found.get(choice.key)


def _folder(where: Places, path: Path) -> str:
    name = path.relative_to(where.runs).as_posix()
    return where.runs.name if name == "." else name


def _watch(path: str, drawn: str) -> None:
    """Show how the chosen run stands; draw the whole page anew when that changes, in whichever tab it was changed."""
    state = _state(places(), Path(path))
    st.markdown(short_badge(state))
    if state.state != drawn:
        st.rerun()


def _links(pages: dict[str, tuple[str, str]], key: str) -> None:
    for file, (title, icon) in pages.items():
        asked = {"run": key} if key and file in _OF_RUN else None
        st.page_link(f"app_pages/{file}.py", label=title, icon=icon, query_params=asked)


def _sidebar(where: Places, page: str) -> None:
    top = st.container()
    st.divider()
    path = _choose_run(where, page)
    key = st.session_state.get("run_shown", "") if path else ""
    with top:
        _links(_TOP | _BEFORE, key)
    if path is not None:
        state = _state(where, path)
        st.fragment(_watch, run_every=_WATCH)(str(path), state.state)
        notify_at_the_end(key, state)
        if state.is_busy:
            done = f" {100 * state.done:.0f} %" if state.done is not None else ""
            st.set_page_config(page_title=f"{spoken_state(state).capitalize()}{done} - medidistill")
        elif page == "distill":
            st.set_page_config(page_title=f"{spoken_state(state).capitalize()} - medidistill")
    _links(_OF_RUN, key)
    st.divider()
    _links(_OTHERS, key)
    if where.login:
        st.button("Sign out", on_click=st.logout)
    st.caption(f"medidistill {__version__}. {CAUTION}")


def _signed_in(where: Places) -> bool:
    if not where.login or st.user.get("is_logged_in"):
        return True
    st.title("medidistill", anchor=False)
    st.markdown(CAUTION)
    st.button("Sign in", on_click=st.login, type="primary")
    return False


def main() -> None:
    """Draw the frame and the chosen page."""
    freeze_imported_objects()
    st.set_page_config(page_title="medidistill", page_icon=_ICON, layout="wide")
    where = places()
    if not _signed_in(where):
        return
    # Streamlit's own Stop halts the drawing of a page, and would be taken for one that stops the run
    st.html(_STYLE)
    if st.context.theme.type == "dark":
        st.html(_DARK)
    pages = {
        file: st.Page(f"app_pages/{file}.py", title=title, icon=icon, default=file == "home")
        for file, (title, icon) in _PAGES.items()
    }
    page = st.navigation(list(pages.values()), position="hidden")  # the links of the sidebar carry the chosen run
    shown = next(file for file, one in pages.items() if one == page)
    with st.sidebar:
        _sidebar(where, shown)
    if st.session_state["run_unknown"] and shown not in ("home", "runs", "receive"):
        st.error(_UNKNOWN, icon=":material/link_off:")
    try:
        page.run()
    except MedidistillError as error:
        st.error(error_text(error), icon=":material/error:")


main()
