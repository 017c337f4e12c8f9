"""The viewer of X-rays: a grid by page, and one film with zoom, window and header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from app_pages.parts import named_image
from medidistill.errors import MedidistillError
from view_models.sources import SourceView
from view_models.viewer import Picture, header_table, read_picture, thumbnail, windowed
from view_models.words import explain

__all__ = ["show_films"]

_ROW, _PAGE = 6, 12  # films
_FILM = 560  # pixels across, so that a film fits a small screen


@st.cache_data(max_entries=400, show_spinner=False, ttl=600)
def _thumbnail(path: str, changed: int) -> np.ndarray | str:
    try:
        return thumbnail(read_picture(Path(path)).pixels)
    except MedidistillError as error:
        return str(error)


@st.cache_data(max_entries=4, show_spinner="Reading the film ...", ttl=600)
def _film(path: str, changed: int) -> Picture:
    return read_picture(Path(path))


def show_films(view: SourceView) -> None:
    """Draw the grid. These are patients' images."""
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    label = left.selectbox("Class", ["all", *view.classes], key="film_class")
    films = [(path, name) for path, name in view.files if label in ("all", name)]
    pages = max(1, -(-len(films) // _PAGE))
    st.session_state["film_page"] = min(max(1, int(st.session_state.get("film_page", 1))), pages)
    page = int(right.number_input(f"Page of {pages}", 1, pages, key="film_page"))
    shown = films[(page - 1) * _PAGE : page * _PAGE]
    for first in range(0, len(shown), _ROW):
        for column, (path, name) in zip(st.columns(_ROW), shown[first : first + _ROW], strict=False):
            with column:
                _tile(path, name)


def _tile(path: Path, name: str) -> None:
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    picture = _thumbnail(str(path), changed)
    if isinstance(picture, str):
        st.caption(f"Cannot be shown: {picture[:80]}")
    else:
        named_image(picture, f"An X-ray, class {name}", name)
    if st.button("View", key=f"film_{path}", icon=":material/zoom_in:"):
        _dialog(str(path), name)


@st.dialog("One film", width="large")
def _dialog(path: str, name: str) -> None:
    changed = Path(path).stat().st_mtime_ns
    try:
        film = _film(path, changed)
    except MedidistillError as error:
        st.error(str(error))
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
        st.caption(f"{film.size[1]} x {film.size[0]} pixels. For a look at the data, not for reading films.")
    with right:
        named_image(windowed(film.pixels, level, width, zoom, across, down), f"An X-ray, class {name}", name, _FILM)
    try:
        table = header_table(Path(path))
    except MedidistillError as error:
        st.caption(str(error))
        return
    with st.expander("Header, technical elements only"):
        st.dataframe(table, hide_index=True, alt="Technical elements of the header")
