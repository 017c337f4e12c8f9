"""How X-rays are chosen: a folder on this machine or an upload. The pages X-rays and New run draw the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from app_pages.parts import folder_picker, places, plain_text
from medidistill.errors import MedidistillError
from view_models.exclusions import exclusions_setting, exclusions_stamp
from view_models.new_run import remember_source, remembered_source
from view_models.sources import SourceView, add_to_upload, draw_phantoms, folder_stamp, keep_upload, read_source

__all__ = ["WAYS", "choose_source", "choose_way", "keep_in_address", "source_view"]

WAYS = {"folder": "A folder on this machine", "upload": "Upload a small set"}
_LAYOUTS = """\
The folder may hold DICOM, PNG or JPEG files, and tells the class of each in one of two ways:

- a file `labels.csv` with the columns `path` and `label`, and if known `patient_id`, `site`, `sex`, `age`, `split`;
- or one sub-folder for each class, named like the class; these may lie in folders `train`, `val` and `test`.
"""


@st.cache_data(max_entries=16, show_spinner="Reading the folder ...", ttl=3600)
def _read(path: str, stamp: str, exclusions: str) -> SourceView:
    return read_source(Path(path), exclusions)


def source_view(path: Path) -> SourceView:
    """Return what a folder holds; read anew when a file came, went or was excluded, or a table changed."""
    stamp = folder_stamp(path) + exclusions_stamp(places(), path)
    view: SourceView = _read(str(path), stamp, exclusions_setting(places(), path))
    return view


def choose_way(ways: Mapping[str, str], key: str) -> str:
    """Draw the ways to X-rays, way -> its words; the address keeps the choice under `key`."""
    return str(
        st.segmented_control(
            "Where the X-rays are",
            list(ways),
            format_func=ways.__getitem__,
            default="folder",
            required=True,
            key=key,
            bind="query-params",
        )
    )


def choose_source(way: str) -> Path | None:
    """Draw the choice; return the folder, or None where nothing was uploaded yet. The address remembers it."""
    _recall()
    path = _folder() if way == "folder" else _upload()
    if path is not None:
        st.session_state["source"] = str(path)
    return path


def keep_in_address(path: Path) -> None:
    """Let the address stand for the folder, so that a reload finds it again; the folder's name stays out of it."""
    key = remember_source(places(), path)
    if st.query_params.get("data") != key:
        st.query_params["data"] = key


def _recall() -> None:
    """Take up the folder that the address stands for, where this session has not chosen one itself."""
    key = str(st.query_params.get("data", ""))
    if not key or "data_here" in st.session_state or st.session_state.get("upload_folder"):
        return
    path = remembered_source(places(), key)
    if path is None:
        return
    if path.is_relative_to(places().uploads):
        st.session_state["upload_folder"] = str(path)
        return
    root = next(root for root in places().images if path.is_relative_to(root))
    st.session_state["data_from"], st.session_state["data_here"] = str(root), str(path)


def _folder() -> Path | None:
    here = folder_picker("data", "X-rays")
    left, right = st.columns(2)
    with left.expander("How a folder of X-rays has to look"):
        st.markdown(_LAYOUTS)
    with right.expander("No X-rays at hand? Practise on phantoms"):
        st.markdown(
            "Draws chest X-rays of patients who do not exist, into the folder `phantoms` beside the runs. They teach "
            "how this app works, and nothing about medicine."
        )
        phantoms = places().runs / "phantoms"
        if phantoms.exists():
            st.button("Go to the phantoms", key="phantoms_there", on_click=_go, args=(phantoms,))
        else:
            st.button(
                "Draw phantom X-rays", key="phantoms", icon=":material/draw:", on_click=_practise, args=(phantoms,)
            )
    if here == places().images[0] and st.session_state.get("data_look") != str(here):
        # nobody asked to look here yet, and a folder of folders may take long
        st.button("Look into this folder", key="look_here", on_click=_look, args=(here,))
        return None
    return here


def _look(here: Path) -> None:
    st.session_state["data_look"] = str(here)


def _go(phantoms: Path) -> None:
    st.session_state["data_from"], st.session_state["data_here"] = str(places().runs), str(phantoms)


def _practise(phantoms: Path) -> None:
    """Draw phantoms and go there; a callback, because the picker is drawn before it."""
    try:
        draw_phantoms(phantoms)
    except MedidistillError as error:
        st.toast(plain_text(str(error)), icon=":material/error:")
        return
    _go(phantoms)


def _upload() -> Path | None:
    st.markdown(
        "For a small set. Uploads are kept below the folder of runs, readable by this account only, until you delete "
        "them on the page Runs; files get numbers for names. A larger set belongs into a folder on this machine."
    )
    label = st.text_input("Class of these images (not needed for a ZIP archive)", key="upload_label")
    files = st.file_uploader(
        "One ZIP archive of a folder, or images of one class",
        type=["zip", "png", "jpg", "jpeg", "dcm"],
        accept_multiple_files=True,
        key=f"upload_{st.session_state.get('upload_round', 0)}",
    )
    before = st.session_state.get("upload_folder", "")
    if files and st.button("Keep these files", type="primary"):
        contents = [(file.name, file.getvalue()) for file in files]
        try:
            with st.spinner("Keeping and looking at them ..."):
                if before and not any(data.startswith(b"PK") for _, data in contents):
                    kept = add_to_upload(Path(before), contents, label)
                else:
                    kept = keep_upload(places(), contents, label)
        except MedidistillError as error:
            st.error(plain_text(str(error)))
            return Path(before) if before else None
        st.session_state["upload_folder"] = str(kept)
        st.session_state["upload_round"] = st.session_state.get("upload_round", 0) + 1
        st.rerun()
    if not before or not Path(before).is_dir():
        st.session_state.pop("upload_folder", None)
        return None
    st.button("Start another upload", key="upload_new", on_click=st.session_state.pop, args=("upload_folder", None))
    return Path(before)
