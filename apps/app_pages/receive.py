"""Receive: open a bundle of another hospital, check it, train from it, and test it on own images."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app_pages.bundle_parts import show_bundle
from app_pages.parts import folder_picker, heading, places
from app_pages.verdict_panel import show_bundle_verdict
from medidistill.errors import MedidistillError
from view_models.bundles import find_bundles, read_bundle, receive
from view_models.receiving import start_training, training

_EVERY = 2.0  # seconds


def _take() -> None:
    file = st.file_uploader("The bundle as one ZIP archive", type=["zip"], key="bundle_upload")
    if file is not None and st.button("Open the bundle", type="primary", key="open_bundle"):
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


def _train(path: Path) -> None:
    st.subheader("Train from it, and test it on your images", anchor=False)
    st.markdown(
        "Trains fresh networks by the recipe of the bundle. With labelled X-rays of your own you see what they are "
        "worth for your patients: the figures on the card are about the patients of the sender."
    )
    own = st.toggle("Test on labelled X-rays of our own", key="test_own")
    folder = folder_picker("own", "Own X-rays") if own else None
    if st.button("Train", type="primary", icon=":material/play_arrow:", key="train_bundle"):
        try:
            start_training(places(), path, folder)
        except MedidistillError as error:
            st.error(str(error))
    working = training(places(), path).state == "running"
    st.fragment(_progress, run_every=_EVERY if working else None)(str(path), working)


def _progress(path: str, was_working: bool) -> None:
    found = training(places(), Path(path))
    if was_working and found.state != "running":
        st.rerun()
    if found.state == "running":
        st.info("Training. It goes on when you leave this page.", icon=":material/autorenew:")
        if found.job.lines():
            st.code(found.job.lines()[-1], language=None)
        if st.button("Stop", key="stop_training"):
            found.job.stop()
    elif found.state == "failed":
        st.error(f"**The training ended with an error.** {found.error}", icon=":material/error:")
    elif found.state == "completed":
        st.success("Trained.", icon=":material/check:")
        if found.result:
            st.markdown(found.result)
        if found.network.is_file():
            st.download_button(
                "The network (safetensors)", found.network.read_bytes(), "network.safetensors", on_click="ignore"
            )


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
        show_bundle_verdict(bundle.recipe)
        _train(bundle.path)
    show_bundle(bundle)


main()
