"""The viewer of X-rays: a grid by page, and one film with zoom, window and header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from app_pages.parts import named_image, places, plain_text, stamp
from medidistill.errors import MedidistillError
from view_models.exclusions import exclude_file, excluded_files, exclusions_setting, include_file
from view_models.sources import SourceView
from view_models.viewer import Picture, header_table, read_picture, thumbnail, windowed
from view_models.words import explain

__all__ = ["show_excluded", "show_films"]

_ROW, _PAGE = 6, 12  # films
_FILM = 560  # pixels across, so that a film fits a small screen


@st.cache_data(max_entries=400, show_spinner=False, ttl=600)
def _thumbnail(path: str, frame: int | None, changed: int) -> np.ndarray | str:
    try:
        return thumbnail(read_picture(Path(path), frame).pixels)
    except MedidistillError as error:
        return str(error)


@st.cache_data(max_entries=4, show_spinner="Reading the film ...", ttl=600)
def _film(path: str, frame: int | None, changed: int) -> Picture:
    return read_picture(Path(path), frame)


def show_films(view: SourceView) -> None:
    """Draw the grid. These are patients' images; those in an archive are left out."""
    if view.packed == view.images:
        return
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    label = left.selectbox("Class", ["all", *view.classes], key="film_class")
    films = [
        (path, frame, name, key)
        for (path, name), frame, key in zip(view.files, view.frames, view.keys, strict=True)
        if label in ("all", name)
    ]
    pages = max(1, -(-len(films) // _PAGE))
    st.session_state["film_page"] = min(max(1, int(st.session_state.get("film_page", 1))), pages)
    page = int(right.number_input(f"Page of {pages}", 1, pages, key="film_page"))
    shown = films[(page - 1) * _PAGE : page * _PAGE]
    for first in range(0, len(shown), _ROW):
        for column, (path, frame, name, key) in zip(st.columns(_ROW), shown[first : first + _ROW], strict=False):
            with column:
                _tile(view.path, path, frame, name, key)


def _tile(source: Path, path: Path, frame: int | None, name: str, key: str) -> None:
    picture = _thumbnail(str(path), frame, stamp(path))
    if isinstance(picture, str):
        st.caption(f"Cannot be shown: {plain_text(picture[:80])}")
    else:
        named_image(picture, f"An X-ray, class {name}", name)
    if st.button("View", key=f"film_{key}", icon=":material/zoom_in:"):
        _dialog(str(source), str(path), frame, name, key)


@st.dialog("One film", width="large")
def _dialog(source: str, path: str, frame: int | None, name: str, key: str) -> None:
    try:
        film = _film(path, frame, stamp(Path(path)))
    except MedidistillError as error:
        st.error(plain_text(str(error)))
        _exclude(Path(source), key)
        return
    left, right = st.columns([1, 2])
    with left:
        level = st.slider("Level", 0.0, 1.0, 0.5, 0.01, help=explain("window"))
        width = st.slider("Width", 0.05, 2.0, 1.0, 0.05, help=explain("window"))
        zoom = st.slider("Zoom", 1.0, 8.0, 1.0, 0.5)
        across = down = 0.5
        if zoom > 1:
            across = st.slider("Left to right", 0.0, 1.0, 0.5, 0.05)
            down = st.slider("Top to bottom", 0.0, 1.0, 0.5, 0.05)
        _exclude(Path(source), key)
        st.caption(f"{film.size[1]} x {film.size[0]} pixels. For a look at the data, not for reading films.")
    with right:
        named_image(windowed(film.pixels, level, width, zoom, across, down), f"An X-ray, class {name}", name, _FILM)
    try:
        table = header_table(Path(path))
    except MedidistillError as error:
        st.caption(plain_text(str(error)))
        return
    with st.expander("Header, technical elements only"):
        st.dataframe(table, hide_index=True, alt="Technical elements of the header")


def _exclude(source: Path, key: str) -> None:
    """Draw how this file is left out of the runs that begin from now on."""
    with st.form(f"exclude_{key}", border=False):
        reason = st.text_input(
            "Reason to exclude this file",
            max_chars=200,
            help="Kept in the list of exclusions beside the path of the file. Name no patient here.",
        )
        if not st.form_submit_button("Exclude this file", icon=":material/block:"):
            return
    try:
        exclude_file(places(), source, key, reason)
    except MedidistillError as error:
        st.error(plain_text(str(error)))
    else:
        st.rerun()


def show_excluded(view: SourceView) -> None:
    """Draw the list of exclusions of a folder, with a button that takes a file off it."""
    try:
        listed = excluded_files(places(), view.path)
    except MedidistillError as error:
        st.error(plain_text(str(error)), icon=":material/error:")
        return
    if not listed:
        return
    with st.expander(f"Excluded by hand ({len(listed)})"):
        setting = f"--set ingest.exclusions={exclusions_setting(places(), view.path)}"
        st.markdown(
            "New runs on this folder do not use these files. A run that has read its X-rays keeps what it read. An "
            f"unattended run takes the same list by `{setting.replace('`', '')}`."
        )
        for key, reason in listed.items():
            left, right = st.columns([4, 1], vertical_alignment="center")
            gone = "" if key in view.excluded else " (no such file here)"
            left.markdown(f"`{key.replace('`', '')}`{gone}: {plain_text(reason)}")
            if right.button("Use it again", key=f"include_{key}", icon=":material/undo:"):
                include_file(places(), view.path, key)
                st.rerun()
