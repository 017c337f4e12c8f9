"""Receive: open a bundle of another hospital, check it, train from it, and test it on own images."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from view_models.bundles import find_bundles, read_bundle, receive

from app_pages.bundle_parts import show_bundle
from app_pages.parts import folder_picker, heading, places
from medidistill.errors import MedidistillError


def _take() -> None:
    file = st.file_uploader("The bundle as one ZIP archive", type=["zip"], key="bundle_upload")
    if file is not None and st.button("Open", type="primary", key="open_bundle"):
        try:
            st.session_state["bundle"] = str(receive(places(), "bundle", file.getvalue()))
        except MedidistillError as error:
            st.error(str(error))
    with st.expander("Or open a bundle in a folder on this machine"):
        here = folder_picker("bundle", "Bundle")
        if (here / "distilled.safetensors").is_file():
            if st.button("Open this folder", key="open_folder"):
                st.session_state["bundle"] = str(here)
        else:
            st.caption("A bundle is a folder that holds `distilled.safetensors` and `SHA256SUMS`.")


def main() -> None:
    """Draw the page."""
    heading("Receive", "For the other hospital: open a bundle, see that it is whole, and train from it.")
    _take()
    known = [str(path) for path in find_bundles(places())]
    opened = st.session_state.get("bundle") or (known[0] if known else "")
    if not opened:
        st.info("No bundle was opened yet. The page Export of the sender makes one.", icon=":material/info:")
        return
    bundle = read_bundle(Path(opened))
    st.divider()
    st.subheader(str(bundle.recipe.get("name", "Bundle")), anchor=False)
    if bundle.error or bundle.problems:
        st.error("This bundle is not as it was written. Do not train from it; ask for it again.")
        st.markdown("\n".join(f"- {problem}" for problem in (bundle.error, *bundle.problems) if problem))
        if bundle.error:
            return
    else:
        st.success(f"Whole: every one of {len(bundle.files)} files is as it was written.", icon=":material/check:")
        st.markdown("Compare this number with the one that the sender told you. It must be the same:")
        st.code(bundle.digest, language=None)
    show_bundle(bundle)


main()
