"""X-rays: choose them, check every file, look at them, and de-identify them before a run learns from them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app_pages.parts import chosen_run, heading, named_image, places, plain_table, plain_text
from app_pages.source_parts import WAYS, choose_source, choose_way, keep_in_address, source_view
from app_pages.viewer_parts import show_excluded, show_films
from medidistill.errors import MedidistillError
from view_models.checking import (
    Check,
    Cleaned,
    deidentified,
    folder_check,
    forget_check,
    start_check,
    start_deidentifying,
)
from view_models.ingested import Ingested, read_ingested, shown_images
from view_models.sources import Findings, SourceView, folder_stamp, look_for_patients
from view_models.words import explain

_WAYS = {**WAYS, "run": "What the chosen run has read"}
_EVERY = 2.0  # seconds
_FACTS = ("size in pixels", "bit depth", "view", "sex", "age in years")
_THUMBNAILS = 24


@st.cache_data(max_entries=8, show_spinner="Looking into some files ...", ttl=3600)
def _findings(path: str, stamp: str) -> Findings:
    return look_for_patients(source_view(Path(path)))


def _preview(path: Path) -> None:
    view = source_view(path)
    if view.error:
        st.info(f"This folder cannot be used as it is: {plain_text(view.error)}", icon=":material/info:")
        show_excluded(view)
        return
    keep_in_address(path)
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
    else:
        st.page_link(
            "app_pages/new_run.py",
            label="Start a run on these X-rays",
            icon=":material/arrow_forward:",
            query_params={"data": str(st.query_params.get("data", ""))},
        )
    for sentence in view.units.sentences():
        st.warning(plain_text(sentence), icon=":material/warning:")
    for note in view.notes:
        st.info(plain_text(note), icon=":material/info:")
    _balance(view)
    _quality(path)
    _naming(view)
    st.subheader("Look at them", anchor=False)
    if view.packed:
        st.info(
            f"{view.packed} of {view.images} images lie in an archive. A run reads them; they are not shown here.",
            icon=":material/folder_zip:",
        )
    if st.toggle("Show these patients' images", key="show_samples"):
        show_films(view)
        show_excluded(view)
    elif view.excluded:
        files = "1 file is" if len(view.excluded) == 1 else f"{len(view.excluded)} files are"
        st.caption(f"{files} excluded by hand; listed with the images.")


def _balance(view: SourceView) -> None:
    st.subheader("Balance", anchor=False, help=explain("balance", "confounding"))
    st.dataframe(view.counts.reset_index(), hide_index=True, alt="Number of images by class and site")
    for sentence in view.confounded:
        st.warning(plain_text(sentence), icon=":material/warning:")
    if view.set_aside:
        st.markdown("Set aside, and not used:")
        st.dataframe([{"reason": reason, "files": count} for reason, count in view.set_aside], hide_index=True)


def _quality(path: Path) -> None:
    st.subheader("Quality of every file", anchor=False, help=explain("quarantine"))
    check = folder_check(places(), path)
    working = check.state == "running"
    if check.state == "none":
        st.caption(
            "Decodes every file as a run would: damaged ones, copies, laterals, blank films, sizes, bit depth, views. "
            "Prepared images are not kept; thumbnails of what was set aside are, until you delete them."
        )
    if check.state == "failed":
        st.error(f"**The check ended with an error.** {plain_text(check.error)}", icon=":material/error:")
    if check.state == "completed" and not check.current:
        st.warning(
            "Files came or went, or a table changed, since they were checked. Check them again.",
            icon=":material/update:",
        )
    with st.container(horizontal=True):
        label = "Check every file" if check.state == "none" else "Check again"
        if not working and st.button(label, key="check_files", icon=":material/fact_check:"):
            start_check(places(), path)
            st.rerun()
        if check.state in ("completed", "failed") and st.button(
            "Forget this check", key="forget_check", icon=":material/delete:"
        ):
            forget_check(places(), path)
            st.rerun()
    if working:
        st.fragment(_checking, run_every=_EVERY)(str(path))
    if check.state == "completed":
        _checked(check, path)


def _checking(path: str) -> None:
    _follow(folder_check(places(), Path(path)), "Finding the files ...", "stop_check")


def _follow(work: Check | Cleaned, first: str, key: str) -> None:
    """Draw how far a job is, with the words `first` until it says so, and a button that stops it."""
    if work.state != "running":
        st.rerun()
    done = work.job.progress()
    st.progress(done.share if done else 0.0, text=plain_text(done.text) if done else first)
    if st.button("Stop", key=key):
        work.job.stop()


def _checked(check: Check, path: Path) -> None:
    told = check.told
    patients = "patients unknown" if told["patients"] is None else f"{told['patients']} patients"
    st.markdown(
        f"**{told['images']} usable images** of {patients}; **{told['set_aside_in_all']} set aside**; "
        f"{told['warned_in_all']} used under a warning. A file that was overwritten since is not noticed: check again."
    )
    st.dataframe(check.classes, hide_index=True, alt="Usable images and patients of each class")
    for column, name in zip(st.columns(len(_FACTS)), _FACTS, strict=True):
        with column:
            st.table(plain_table(check.fact(name)), hide_index=True, border="horizontal", alt=f"Images by {name}")
    for which, title in (("set_aside", "Set aside"), ("warned", "Used under a warning")):
        reasons = check.reasons(which)
        if not reasons.empty:
            st.markdown(f"**{title}**")
            st.dataframe(reasons, hide_index=True, alt=f"{title}: files by reason")
    rows = [*told["set_aside"], *told["warned"]]
    if rows and st.toggle("Show names of files and patients' images", key="show_set_aside"):
        _thumbnails(rows, path)


def _thumbnails(rows: list[dict[str, str]], path: Path) -> None:
    pictures = folder_check(places(), path, pictures=True).pictures
    for first in range(0, min(len(rows), _THUMBNAILS), 4):
        for column, row in zip(st.columns(4), rows[first : min(first + 4, _THUMBNAILS)], strict=False):
            with column:
                if row["picture"] in pictures:
                    named_image(pictures[row["picture"]], f"Film, {row['reason']}", width=120)
                like = f", like {row['like']}" if row["like"] else ""
                st.caption(plain_text(f"{row['reason']}: {row['file']}{like}"))
    if len(rows) > _THUMBNAILS:
        st.caption(f"The first {_THUMBNAILS} of {len(rows)}.")


def _naming(view: SourceView) -> None:
    st.subheader("What could name a patient", anchor=False, help=explain("de-identify"))
    if not st.toggle("Look into some files", key="look"):
        st.caption("Looks into headers and borders of up to 40 files. Values are counted, never shown.")
    else:
        _named(view)
    _deidentify(view.path)


def _named(view: SourceView) -> None:
    found = _findings(str(view.path), folder_stamp(view.path))
    st.markdown(f"Looked into {found.looked_at} files, {found.dicom} of them DICOM.")
    if found.named:
        st.warning(
            "Headers hold values that name a patient, a person or a place. A bundle never carries them, but "
            "de-identify the files before they go anywhere themselves."
        )
        table = [{"element": name, "files with a value": count} for name, count in found.named.items()]
        st.dataframe(table, hide_index=True)
    if found.letters:
        st.warning(f"{found.letters} of them show letters near a border: text may be burned into the picture.")
    if found.unreadable:
        st.warning(
            f"{found.unreadable} of {found.looked_at} could not be looked at, so nothing is known of them."
            + (" Files inside an archive are not opened here." if view.packed else ""),
            icon=":material/visibility_off:",
        )
    if not found.named and not found.letters and found.unreadable < found.looked_at:
        others = "the other" if found.unreadable else "these"
        st.success(f"Nothing found in {others} files. That is a sample and two simple checks, no proof of absence.")


def _deidentify(path: Path) -> None:
    cleaned = deidentified(places(), path)
    with st.expander("De-identify these files", expanded=cleaned.state in ("running", "failed", "completed")):
        st.markdown(
            "Runs `medidistill deidentify`: headers by PS3.15 Table E.1-1, each result read again to check it. The "
            "copies lie in `deidentified/` below the folder of runs; the originals stay as they are. The key of the "
            "pseudonyms is made once and kept with the app's jobs: whoever has it can recompute the pseudonyms."
        )
        if cleaned.state == "running":
            st.fragment(_cleaning, run_every=_EVERY)(str(path))
            return
        if cleaned.state == "failed":
            st.error(f"**It ended with an error.** {plain_text(cleaned.error)}", icon=":material/error:")
        if cleaned.state == "completed" and cleaned.images is not None:
            st.code("\n".join(cleaned.lines), language=None, wrap_lines=True)
            st.button("Go to the new files", key="go_cleaned", on_click=_go, args=(str(cleaned.images),))
        label = "De-identify" if cleaned.state == "none" else "De-identify again, into another folder"
        if st.button(label, key="deidentify", icon=":material/visibility_off:"):
            try:
                start_deidentifying(places(), path)
            except MedidistillError as error:
                st.error(plain_text(str(error)))
                return
            st.rerun()


def _go(path: str) -> None:
    st.session_state["data_from"], st.session_state["data_here"] = str(places().runs), path
    st.session_state["way"] = "folder"


def _cleaning(path: str) -> None:
    _follow(deidentified(places(), Path(path)), "Starting ...", "stop_cleaning")


def _of_run() -> None:
    run = chosen_run()
    read: Ingested | None = read_ingested(run) if run else None
    if read is None:
        st.info("The chosen run has not read its X-rays yet, or there is no run.", icon=":material/info:")
        return
    st.markdown("Images by class and split." + ("" if read.notes else " A patient is in one split only."))
    for note in read.notes:
        st.warning(plain_text(note), icon=":material/warning:")
    st.dataframe(read.splits.reset_index(names="class"), hide_index=True, alt="Number of images by class and split")
    if not read.sites.empty:
        st.markdown("Images by class and site.")
        sites = read.sites.reset_index(names="class")
        st.dataframe(sites, hide_index=True, alt="Number of images by class and site")
    for sentence in read.confounded:
        st.warning(plain_text(sentence), icon=":material/warning:")
    st.subheader("Quarantine", anchor=False, help=explain("quarantine"))
    if read.excluded:
        st.markdown(f"{read.excluded} files were excluded by hand before this run read its X-rays.")
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
    heading("X-rays", "Choose the chest X-rays to learn from, and see what is wrong with them. They stay here.")
    way = choose_way(_WAYS, "way")
    if way == "run":
        _of_run()
        return
    path = choose_source(way)
    if path is not None:
        _preview(path)


main()
