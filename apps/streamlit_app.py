"""The app: `medidistill app`. Chooses the page and the run; the pages draw, `view_models` compute."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).parent))  # `streamlit run` does so too; AppTest does not

from app_pages.parts import CAUTION, places
from medidistill import __version__
from medidistill.errors import MedidistillError
from view_models.collecting import leave_modules_alone
from view_models.places import Places, short_id
from view_models.runs import find_runs, run_state

_PAGES = {
    "data": ("Data", ":material/folder_open:"),
    "distil": ("Distil", ":material/science:"),
    "compare": ("Compare", ":material/balance:"),
    "gallery": ("Gallery", ":material/grid_view:"),
    "privacy": ("Privacy", ":material/shield:"),
    "export": ("Export", ":material/outbox:"),
    "receive": ("Receive", ":material/move_to_inbox:"),
}
_STATES = {
    "running": (":blue-badge[:material/autorenew: running]", "running"),
    "stopped": (":orange-badge[:material/pause: stopped]", "stopped"),
    "failed": (":red-badge[:material/error: failed]", "failed"),
    "completed": (":green-badge[:material/check: finished]", "finished"),
    "not_released": (":orange-badge[:material/block: finished, not released]", "finished, not released"),
    "unknown": (":gray-badge[not finished]", "not finished"),
}


def _choose_run(where: Places) -> None:
    """Draw the list of runs; the choice is kept in the session and, as a number that means nothing, in the address."""
    paths = {short_id(path.relative_to(where.runs).as_posix()): path for path in find_runs(where)}
    wanted = st.session_state.pop("wanted_run", None)
    wanted_key = next((key for key, path in paths.items() if str(path) == wanted), None)
    if wanted_key:
        st.session_state["run_key"] = wanted_key
    elif st.session_state.get("run_key") not in paths:
        asked = st.query_params.get("run", "")
        st.session_state["run_key"] = asked if asked in paths else next(iter(paths), None)
    if not paths:
        st.session_state["run_path"] = ""
        st.caption("No run yet. Start one on the page Distil, or make the demo.")
        return
    names = {key: path.relative_to(where.runs).as_posix() for key, path in paths.items()}
    key = st.selectbox(
        "Run",
        list(paths),
        format_func=lambda one: where.runs.name if names[one] == "." else names[one],
        key="run_key",
        help="Every run below the folder that the app was started with, newest first. All browsers see the same runs.",
    )
    st.session_state["run_path"] = str(paths[key])
    st.query_params["run"] = key
    try:
        st.markdown(_STATES[run_state(where, paths[key]).state][0])
    except MedidistillError:
        st.markdown(":red-badge[:material/error: damaged]")


def _signed_in(where: Places) -> bool:
    if not where.login or st.user.get("is_logged_in"):
        return True
    st.title("medidistill", anchor=False)
    st.markdown(CAUTION)
    st.button("Sign in", on_click=st.login, type="primary")
    return False


def main() -> None:
    """Draw the frame and the chosen page."""
    leave_modules_alone()
    st.set_page_config(page_title="medidistill", page_icon=":material/radiology:", layout="wide")
    where = places()
    if not _signed_in(where):
        return
    # Streamlit's own Stop halts the drawing of a page, and would be taken for one that stops the run
    st.html("<style>[data-testid='stStatusWidget'] button { display: none; }</style>")
    pages = [
        st.Page(f"app_pages/{file}.py", title=title, icon=icon, default=file == "data")
        for file, (title, icon) in _PAGES.items()
    ]
    page = st.navigation(pages)
    with st.sidebar:
        _choose_run(where)
        if where.login:
            st.button("Sign out", on_click=st.logout)
        st.caption(f"medidistill {__version__}. {CAUTION}")
    try:
        page.run()
    except MedidistillError as error:
        st.error(str(error), icon=":material/error:")


main()
