"""Data: choose the X-rays, and see what is in them before a run learns from them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app_pages.parts import chosen_run, folder_picker, go_to, heading, named_image, places
from medidistill.errors import MedidistillError
from view_models.ingested import Ingested, read_ingested, shown_images
from view_models.sources import (
    Findings,
    SourceView,
    add_to_upload,
    draw_phantoms,
    keep_upload,
    look_for_patients,
    read_source,
    sample_images,
)

_WAYS = {"folder": "A folder on this machine", "upload": "Upload a small set", "run": "What the chosen run has read"}
_LAYOUTS = """\
The folder may hold DICOM, PNG or JPEG files, and tells the class of each in one of two ways:

- a file `labels.csv` with the columns `path` and `label`, and if known `patient_id`, `site`, `sex`, `age`, `split`;
- or one sub-folder for each class, named like the class; these may lie in folders `train`, `val` and `test`.
"""


@st.cache_data(max_entries=8, show_spinner="Reading the folder ...", ttl=300)
def _source(path: str) -> SourceView:
    return read_source(Path(path))


@st.cache_data(max_entries=8, show_spinner="Looking into some files ...", ttl=300)
def _findings(path: str) -> Findings:
    return look_for_patients(_source(path))


def _folder() -> Path | None:
    here = folder_picker("data", "X-rays")
    with st.expander("How a folder of X-rays has to look"):
        st.markdown(_LAYOUTS)
    with st.expander("No X-rays at hand? Practise on phantoms"):
        st.markdown(
            "Draws chest X-rays of patients who do not exist, into the folder `phantoms` beside the runs. They teach "
            "how this app works, and nothing about medicine."
        )
        phantoms = places().runs / "phantoms"
        if phantoms.exists():
            st.caption(f"They are there: start from **{places().runs.name}** above and open **phantoms**.")
        else:
            st.button(
                "Draw phantom X-rays", key="phantoms", icon=":material/draw:", on_click=_practise, args=(phantoms,)
            )
    return here


def _practise(phantoms: Path) -> None:
    """Draw phantoms and go there; a callback, because the picker is drawn after it."""
    try:
        draw_phantoms(phantoms)
    except MedidistillError as error:
        st.toast(str(error), icon=":material/error:")
        return
    st.session_state["data_root"], st.session_state["data_here"] = str(places().runs), str(phantoms)


def _upload() -> Path | None:
    st.markdown(
        "For a small set. Uploads are kept below the folder of runs, readable by this account only; names of single "
        "files are not kept, an archive is unpacked as it is. A larger set belongs into a folder on this machine."
    )
    label = st.text_input("Class of these images (not needed for a ZIP archive)", key="upload_label")
    files = st.file_uploader(
        "One ZIP archive of a folder, or images of one class",
        type=["zip", "png", "jpg", "jpeg", "dcm"],
        accept_multiple_files=True,
        key=f"upload_{st.session_state.get('upload_round', 0)}",
    )
    if files and st.button("Keep these files", type="primary"):
        contents = [(file.name, file.getvalue()) for file in files]
        before = st.session_state.get("upload_folder", "")
        try:
            if before and not contents[0][1].startswith(b"PK"):
                kept = add_to_upload(Path(before), contents, label)
            else:
                kept = keep_upload(places(), contents, label)
        except MedidistillError as error:
            st.error(str(error))
            return Path(before) if before else None
        st.session_state["upload_folder"] = str(kept)
        st.session_state["upload_round"] = st.session_state.get("upload_round", 0) + 1
        _source.clear()
        st.rerun()
    kept_folder = st.session_state.get("upload_folder", "")
    return Path(kept_folder) if kept_folder else None


def _preview(path: Path) -> None:
    view = _source(str(path))
    if view.error:
        st.info(f"This folder cannot be used as it is: {view.error}", icon=":material/info:")
        return
    left, middle, right = st.columns(3)
    left.metric("Images with a label", view.images)
    middle.metric(
        "Patients",
        "unknown" if view.units.nothing else view.patients,
        help="As the labels or the DICOM headers tell them apart.",
    )
    right.metric("Classes", len(view.classes))
    if len(view.classes) < 2:
        st.info(
            "These images are all of one class, so there is nothing to tell apart. Open the folder that holds "
            "`labels.csv`, or the one with a sub-folder for each class.",
            icon=":material/info:",
        )
    elif st.button("Use these X-rays", type="primary", icon=":material/check:", key="use_source"):
        st.session_state["source"] = str(path)
    if st.session_state.get("source") == str(path):
        st.success("Chosen for the next run.", icon=":material/check:")
        go_to("distil", "Distil them")
    for sentence in view.units.sentences():
        st.warning(sentence, icon=":material/warning:")
    for note in view.notes:
        st.info(note, icon=":material/info:")
    _balance(view)
    _naming(view)
    st.subheader("Sample images", anchor=False)
    if st.toggle("Show some of these patients' images", key="show_samples"):
        found = sample_images(view)
        for column, (image, name) in zip(st.columns(max(6, len(found))), found, strict=False):
            with column:
                named_image(image, f"An X-ray, class {name}", name)


def _balance(view: SourceView) -> None:
    st.subheader("Balance", anchor=False)
    st.dataframe(view.counts.reset_index(), hide_index=True, alt="Number of images by class and site")
    for sentence in view.confounded:
        st.warning(sentence, icon=":material/warning:")
    if view.set_aside:
        st.markdown("Set aside, and not used:")
        st.dataframe([{"reason": reason, "files": count} for reason, count in view.set_aside], hide_index=True)


def _naming(view: SourceView) -> None:
    st.subheader("What could name a patient", anchor=False)
    if not st.button("Look into some files", key="look", icon=":material/search:"):
        st.caption("Looks into headers and borders of up to 40 files. Values are counted, never shown.")
        return
    found = _findings(str(view.path))
    st.markdown(f"Looked into {found.looked_at} files, {found.dicom} of them DICOM.")
    if found.named:
        st.warning(
            "Headers hold values that name a patient, a person or a place. A bundle never carries them, but "
            "de-identify the files (`medidistill deidentify`) before they go anywhere themselves."
        )
        table = [{"element": name, "files with a value": count} for name, count in found.named.items()]
        st.dataframe(table, hide_index=True)
    if found.letters:
        st.warning(f"{found.letters} of them show letters near a border: text may be burned into the picture.")
    if found.unreadable:
        st.markdown(f"{found.unreadable} could not be looked at.")
    if not found.named and not found.letters:
        st.success("Nothing found in these files. That is a sample and two simple checks, no proof of absence.")


def _of_run() -> None:
    run = chosen_run()
    read: Ingested | None = read_ingested(run) if run else None
    if read is None:
        st.info("The chosen run has not read its X-rays yet, or there is no run.", icon=":material/info:")
        return
    st.markdown("Images by class and split." + ("" if read.notes else " A patient is in one split only."))
    for note in read.notes:
        st.warning(note, icon=":material/warning:")
    st.dataframe(read.splits.reset_index(names="class"), hide_index=True, alt="Number of images by class and split")
    if not read.sites.empty:
        st.markdown("Images by class and site.")
        sites = read.sites.reset_index(names="class")
        st.dataframe(sites, hide_index=True, alt="Number of images by class and site")
    for sentence in read.confounded:
        st.warning(sentence, icon=":material/warning:")
    st.subheader("Quarantine", anchor=False)
    if read.quarantine:
        st.markdown("Files that could not be used, by reason. File names stay in the run folder.")
        st.dataframe([{"reason": reason, "files": count} for reason, count in read.quarantine], hide_index=True)
    else:
        st.markdown("No file was set aside.")
    st.subheader("Sample images", anchor=False)
    st.caption("As the networks see them: prepared, small. They are patients' images, read from the private part.")
    assert run is not None
    if st.toggle("Show some of these patients' images", key="show_prepared"):
        found = shown_images(run)
        for column, (image, name) in zip(st.columns(max(6, len(found))), found, strict=False):
            with column:
                named_image(image, f"A prepared X-ray, class {name}", name)


def main() -> None:
    """Draw the page."""
    heading("Data", "Choose the chest X-rays to learn from. They stay on this machine.")
    way = st.segmented_control(
        "Where the X-rays are", list(_WAYS), format_func=_WAYS.__getitem__, default="folder", required=True, key="way"
    )
    if way == "run":
        _of_run()
        return
    path = _folder() if way == "folder" else _upload()
    if path is not None:
        _preview(path)


main()
