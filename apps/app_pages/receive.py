"""Receive: open a bundle of another hospital, confirm its sender, train from it, and test it on own images."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app_pages.bundle_parts import show_bundle
from app_pages.parts import folder_picker, heading, places, plain_text
from app_pages.verdict_panel import show_bundle_verdict
from medidistill.errors import MedidistillError
from view_models.bundles import BundleView, find_bundles, read_bundle, receive
from view_models.kept_files import delete_kept
from view_models.places import Places, short_id
from view_models.receiving import (
    Sender,
    Training,
    confirm_number,
    confirm_signature,
    own_answer,
    own_table,
    sender_table,
    standing,
    start_training,
    training,
)
from view_models.words import explain

_EVERY = 2.0  # seconds


def _take() -> None:
    file = st.file_uploader("The bundle as one ZIP archive", type=["zip"], key="bundle_upload")
    if file is not None and st.button("Open the bundle", type="primary", key="open_bundle"):
        try:
            _show(receive(places(), "bundle", file.getvalue()))
        except MedidistillError as error:
            st.error(plain_text(str(error)))
    with st.expander("Or open a bundle in a folder on this machine"):
        here = folder_picker("bundle", "Bundle")
        if (here / "distilled.safetensors").is_file():
            if st.button("Open this folder", key="open_folder"):
                _show(here)
        else:
            st.caption("A bundle is a folder that holds `distilled.safetensors` and `SHA256SUMS`.")


def _show(path: Path) -> None:
    st.session_state["bundle"] = str(path)
    st.query_params["bundle"] = short_id(str(path))


def _opened(known: list[Path]) -> Path | None:
    """Return the bundle that the address names, else the one that was opened last."""
    asked = str(st.query_params.get("bundle", ""))
    held = st.session_state.get("bundle", "")
    if held and (not asked or short_id(held) == asked) and Path(held).is_dir():
        return Path(held)
    return next((path for path in known if short_id(str(path)) == asked), known[0] if known and not asked else None)


def _list(where: Places, known: list[Path]) -> None:
    """Draw the bundles that were received before."""
    if not known:
        return
    with st.expander(f"Received before ({len(known)})"):
        for path in known:
            key = short_id(str(path))
            left, middle, right = st.columns([4, 1, 1], vertical_alignment="center")
            left.markdown(f"**{plain_text(path.relative_to(where.received).as_posix())}**")
            middle.button("Open", key=f"open_{key}", on_click=_show, args=(path,))
            with right.popover("Delete", icon=":material/delete:"):
                st.markdown("Delete this bundle? It cannot be brought back.")
                if st.button("Yes, delete it", key=f"delete_{key}", type="primary"):
                    try:
                        delete_kept(where, where.received / path.relative_to(where.received).parts[0])
                    except MedidistillError as error:
                        st.error(plain_text(str(error)))
                        return
                    st.session_state.pop("bundle", None)
                    st.query_params.pop("bundle", None)
                    st.rerun()


def _sender(bundle: BundleView) -> bool:
    """Say whether the bundle is complete and the sender's; return whether one may train from it."""
    found = standing(places(), bundle)
    if found.sender is Sender.CHANGED:
        st.error(plain_text(found.words), icon=":material/dangerous:")
        st.markdown("\n".join(f"- {plain_text(problem)}" for problem in (bundle.error, *bundle.problems) if problem))
        return False
    if found.sender is Sender.CONFIRMED:
        st.success(plain_text(found.words), icon=":material/verified:")
        return True
    st.warning(plain_text(found.words), icon=":material/question_mark:")
    left, right = st.columns(2)
    with left:
        number = st.text_input(
            "The number that the sender told you",
            key="sender_number",
            placeholder="64 digits and letters, by telephone or another way than the file",
            help=explain("checksum"),
        )
        if st.button("Compare the number", key="confirm_number") or number:
            _confirm_number(bundle, number)
    with right:
        key = st.file_uploader(
            "Or the sender's public key", type=["pub", "pem"], key="sender_key", help=explain("signature")
        )
        if key is not None:
            try:
                confirm_signature(places(), bundle, key.getvalue())
            except MedidistillError as error:
                st.error(plain_text(str(error)))
            else:
                st.rerun()
    return True


def _confirm_number(bundle: BundleView, number: str) -> None:
    try:
        confirm_number(places(), bundle, number)
    except MedidistillError as error:
        st.error(plain_text(str(error)))
    else:
        st.rerun()


def _train(path: Path) -> None:
    st.subheader("Train from it, and test it on your images", anchor=False)
    st.markdown(
        "Trains fresh networks by the recipe of the bundle. With labelled X-rays of your own you see what they are "
        "worth for your patients: the figures on the card are about the patients of the sender."
    )
    own = st.toggle("Test on labelled X-rays of our own", key="test_own")
    folder, baseline = None, False
    if own:
        folder = folder_picker("own", "Own X-rays")
        baseline = st.checkbox(
            "Train on part of our own X-rays, too, and compare",
            value=True,
            key="own_baseline",
            help="On the training split of your labels, else on half of your patients; the others are tested on.",
        )
    if st.button("Train", type="primary", icon=":material/play_arrow:", key="train_bundle"):
        try:
            start_training(places(), path, folder, baseline=baseline)
        except MedidistillError as error:
            st.error(plain_text(str(error)))
    working = training(places(), path).state == "running"
    st.fragment(_progress, run_every=_EVERY if working else None)(str(path), working)


def _progress(path: str, was_working: bool) -> None:
    found = training(places(), Path(path))
    if was_working != (found.state == "running"):
        st.rerun()
    if found.state == "running":
        st.info("Training. It goes on when you leave this page.", icon=":material/autorenew:")
        done = found.job.progress()
        if done is not None:
            st.progress(done.share, text=plain_text(done.text))
        elif found.job.lines():
            st.code(found.job.lines()[-1], language=None, wrap_lines=True)
        if st.button("Stop", key="stop_training"):
            found.job.stop()
    elif found.state == "failed":
        st.error(f"**The training ended with an error.** {plain_text(found.error)}", icon=":material/error:")
    elif found.state == "completed":
        st.success("Trained.", icon=":material/check:")
        _results(found, read_bundle(Path(path)))
        if found.network.is_file():
            st.download_button(
                "The network (safetensors)", found.network.read_bytes(), "network.safetensors", on_click="ignore"
            )


def _results(found: Training, bundle: BundleView) -> None:
    scores = found.scores
    if scores is not None:
        tone, sentence = own_answer(scores)
        {"good": st.success, "bad": st.error, "open": st.warning}[tone](plain_text(sentence))
    left, right = st.columns(2)
    with left:
        st.markdown("**On your patients**")
        if scores is None:
            st.caption("Not tested on images of your own.")
        else:
            st.dataframe(own_table(scores), hide_index=True, alt="What networks reach on your images")
            st.caption(
                f"Tested on {scores.test_images} images of {scores.test_patients} patients in the folder "
                f"**{plain_text(found.tested)}**: its test split where the labels name one, else all that was not "
                "trained on."
            )
            for note in scores.notes:
                st.caption(plain_text(note))
    with right:
        st.markdown("**On the sender's patients**, as the card says")
        table = sender_table(bundle.recipe)
        if table.empty:
            st.caption("The card states no figures.")
        else:
            st.dataframe(table, hide_index=True, alt="What the card states")


def main() -> None:
    """Draw the page."""
    heading(
        "Receive", "For the other hospital: open a bundle, see whose it is, train from it, test it on own patients."
    )
    _take()
    where = places()
    known = find_bundles(where)
    _list(where, known)
    opened = _opened(known)
    if opened is None:
        asked = "bundle" in st.query_params
        said = "The address names a bundle that is not here." if asked else "No bundle was opened yet."
        st.info(f"{said} The page Export of the sender makes one.", icon=":material/info:")
        return
    bundle = read_bundle(opened)
    st.divider()
    st.subheader(plain_text(str(bundle.recipe.get("name", "Bundle"))), anchor=False)
    if _sender(bundle):
        show_bundle_verdict(bundle.recipe)
        _train(bundle.path)
    elif bundle.error:
        return
    show_bundle(bundle)


main()
