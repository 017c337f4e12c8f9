"""Gallery: the distilled images beside the real ones that are nearest."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app_pages.parts import chosen_run, empty, go_to, heading, named_image, show_tiles, stamp
from medidistill.pipeline import RunFolder
from medidistill.words import method_words, start_words
from view_models.gallery import Neighbourhood, neighbourhood, verdict
from view_models.runs import RunView
from view_models.training import final_set, running_methods, tiles
from view_models.words import explain

_PAGE = 6  # images shown at once with their neighbours


@st.cache_data(max_entries=4, show_spinner="Comparing with every real training image ...", ttl=600)
def _near(path: str, method: str, changed: int) -> list[Neighbourhood]:
    return neighbourhood(RunFolder(Path(path)), method)


def _pairs(run: RunView, method: str, label: str, *, by_class: bool) -> None:
    changed = stamp(run.folder.distill(method) / "distilled.safetensors")
    found = _near(str(run.folder.path), method, changed)
    st.markdown(f"**{verdict(found)}**")
    st.markdown(
        "The number under a real image is its distance from the distilled one: the root mean square over pixels, in "
        "units of the image's own contrast (0: the same image; about 1.4: unrelated ones). The share says how many "
        "unseen patients' images have a training image nearer than that."
    )
    kept = [one for one in found if label in ("all", one.label)]
    order = kept if by_class else sorted(kept, key=lambda one: one.near[0].distance)
    pages = -(-len(order) // _PAGE)
    page = int(st.number_input(f"Page of {pages}", 1, pages, 1)) if pages > 1 else 1
    for one in order[(page - 1) * _PAGE : page * _PAGE]:
        columns = st.columns([1, 1, 1, 1, 2])
        with columns[0]:
            named_image(one.pixels, f"Distilled image, class {one.label}", f"distilled: {one.label}")
        for column, near in zip(columns[1:], one.near, strict=False):
            with column:
                named_image(near.pixels, f"Real X-ray, class {near.label}", f"real: {near.label}, {near.distance:.2f}")
        if one.share is not None:
            columns[4].markdown(f"{100 * one.share:.0f} % of unseen images lie nearer to a training image.")


def main() -> None:
    """Draw the page."""
    heading("Gallery", "The distilled images, and the real training images that resemble them most.")
    run = chosen_run()
    methods = [method for method in running_methods(run) if f"distill/{method}" in run.finished] if run else []
    if run is None or not methods:
        empty("No distillation of this run has finished.")
        if run is not None:
            go_to("distill", "See how the run stands")
        return
    left, middle, right = st.columns([2, 1, 1], vertical_alignment="bottom")
    method = left.segmented_control(
        "Method",
        methods[::-1],
        format_func=method_words,
        default=methods[-1],
        required=True,
        key="method",
        bind="query-params",
        help=explain("MTT", "IADD"),
    )
    distilled = final_set(run, str(method))
    if distilled is None:
        st.error("The distilled set cannot be read; resume the run.")
        return
    label = str(middle.selectbox("Class", ["all", *distilled.class_names], key="gallery_class", bind="query-params"))
    order = right.selectbox("Pairs in order of", ["distance", "class"], key="gallery_order", bind="query-params")
    if start_words(str(distilled.recipe.get("init"))) is not None:
        shown = tiles(distilled.images, distilled.class_names, distilled.normalisation, distilled.labels.tolist())
        shown = [tile for tile in shown if label in ("all", tile.caption)]
        if distilled.packed is not None:
            st.caption(
                f"The set is packed: {len(distilled)} training images, as networks see them, are decoded from the "
                "bytes of fewer."
            )
        show_tiles(shown[:48])
        if len(shown) > 48:
            st.caption(f"The first 48 of {len(shown)}.")
    else:
        st.error("These images began as copies of patients' X-rays and may still show them.", icon=":material/warning:")
    st.subheader("Beside the nearest real images", anchor=False)
    if not (run.folder.ingest / "train.safetensors").is_file():
        st.info(
            "The private part of this run was removed, so there is nothing to compare with. That is as it should be."
        )
        return
    st.markdown(
        "This shows **patients' images**, read from the private part of the run folder (`ingest/`). They are in no "
        "bundle and no report. Switch it on only where you may look at them."
    )
    if st.toggle("Show patients' images", key="show_patients"):
        _pairs(run, str(method), label, by_class=order == "class")


main()
