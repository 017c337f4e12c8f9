"""New run: choose the X-rays and how thorough, see how long it takes and whether it could be released, start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from app_pages.parts import folder_picker, go_to, heading, open_page, places, plain_text
from app_pages.source_parts import WAYS, choose_source, choose_way, keep_in_address, source_view
from medidistill.config import METHODS, RunConfig
from medidistill.errors import MedidistillError
from medidistill.words import arm_words
from view_models.exclusions import chosen_exclusions
from view_models.new_run import Changes, Prospect, plan_settings, preset_prospect, problems, prospect
from view_models.places import readable, short_id
from view_models.presets import Preset, offered_arms, presets
from view_models.run_labels import write_label
from view_models.runs import start_run
from view_models.settings import effective_config
from view_models.sources import SourceView
from view_models.words import explain

_AUDITS = {"none": "none", "quick": "quick: 16 repetitions", "full": "full: 64 repetitions"}
_NETWORKS = ("convnet", "resnet18", "vgg11", "alexnet", "densenet121", "vit")
_POLL_S = 1.0


def _found(view: SourceView) -> bool:
    """Say what the folder holds; return whether a run can learn from it."""
    if view.error:
        st.info(f"This folder cannot be used as it is: {plain_text(view.error)}", icon=":material/info:")
        return False
    unknown = view.units.nothing
    patients = "patients unknown" if unknown else f"**{view.patients} patients**"
    st.markdown(
        f"**{plain_text(view.path.name)}**: **{view.images} images**, {patients}, **{len(view.classes)} "
        f"class{'' if len(view.classes) == 1 else 'es'}** ({plain_text(', '.join(view.classes[:8]))})."
    )
    if len(view.classes) < 2:
        st.info(
            "These images are all of one class, so there is nothing to tell apart. Open the folder that holds "
            "`labels.csv`, or the one with a sub-folder for each class.",
            icon=":material/info:",
        )
        return False
    for sentence in (*view.units.sentences(), *view.confounded):
        st.warning(plain_text(sentence), icon=":material/warning:")
    if view.excluded:
        files = "1 file is" if len(view.excluded) == 1 else f"{len(view.excluded)} files are"
        st.caption(f"{files} excluded by hand; the page X-rays lists them.")
    set_aside = sum(count for _, count in view.set_aside)
    if set_aside:
        st.caption(f"{set_aside} files are set aside; the page X-rays says why.")
    go_to("data", "Look closer: quality, balance, names of patients")
    return True


def _caption(preset: Preset, found: Prospect | MedidistillError) -> str:
    if isinstance(found, MedidistillError):
        return f"{preset.words} Not usable here: {plain_text(str(found))}"
    took = f"{found.duration[:1].upper()}{found.duration[1:]}." if found.duration else "Measuring this machine ..."
    could = f" {found.releasable}." if found.releasable else ""
    return f"{preset.words} **{took}**{could}"


def _changes(preset: Preset) -> Changes:
    """Draw what may be changed of a preset."""
    config = preset.config
    with st.expander("Change what matters most"):
        left, middle, right = st.columns(3)
        per_class = left.number_input(
            "Synthetic images per class",
            1,
            1000,
            config.distill.ipc,
            help="More images teach more, take longer to make, and hold more of the data.",
        )
        size = middle.select_slider(
            "Pixels a side",
            sorted({16, 32, 64, 128, 256, config.ingest.image_size}),
            config.ingest.image_size,
            help="Each doubling costs about four times.",
        )
        steps = right.number_input(
            "Outer steps", 1, 100_000, config.distill.outer_steps, help=explain("outer step") + " Time grows with it."
        )
        arms = st.multiselect(
            "Compare networks that are trained on",
            offered_arms(config),
            list(config.evaluate.arms),
            format_func=lambda arm: _arm(arm, int(per_class)),
            help=explain("arm", "MTT", "IADD"),
            key=f"arms_{preset.name}",
        )
        networks = st.multiselect(
            "Networks",
            list(dict.fromkeys([*config.evaluate.architectures, *_NETWORKS])),
            list(config.evaluate.architectures),
            help="Architectures that are trained on each. All but the first never saw the distillation; each takes as "
            "long again or longer.",
        )
        audit = st.select_slider(
            "Audit: attacks on the distilled set",
            list(_AUDITS),
            config.privacy.audit,
            format_func=_AUDITS.__getitem__,
            help=explain("audit") + " Distills repeatedly without half of the patients. The page Privacy can start one "
            "later, too.",
        )
        external = None
        if st.toggle("Test on X-rays from elsewhere too", key="test_external"):
            st.caption(
                "Labelled like the others, with the same classes. No part of the run is trained or tuned on them."
            )
            external = folder_picker("external", "X-rays from elsewhere")
    return Changes(int(per_class), int(size), int(steps), tuple(arms), tuple(networks), str(audit), external)


def _arm(arm: str, per_class: int) -> str:
    words = arm_words(arm, per_class)
    return f"{words}: {METHODS[arm].title}" if arm in METHODS else words


def _release(found: Prospect) -> list[str] | None:
    """Say what the numbers of images and patients mean for a release.

    Returns settings that the run needs, None while it may not start.
    """
    check = found.check
    if check is None:
        return []
    first, *rules = check.lines()
    if not check.unresolvable or not check.wanted:
        with st.expander(f"Could it be released? {found.releasable}."):
            st.markdown(plain_text("\n".join((first, "", *rules))))
            if not check.wanted:
                st.markdown("This run asks for no audit, so its set stays inside; an audit can be added later.")
        return []
    st.warning(plain_text("\n".join((first, "", *rules))))
    goes_on = st.checkbox("Run it without a release: the set is made and measured, and stays inside", key="unreleased")
    return ["privacy.release_check=false"] if goes_on else None


def _how_thorough(view: SourceView) -> Preset:
    """Draw the presets, each with how long it takes here and whether it could be released."""
    offered = presets()
    found = {one.name: preset_prospect(one, view.images, view.classes, view.splits) for one in offered}
    return st.radio(  # type: ignore[no-any-return,unused-ignore]
        "How thorough",
        offered,
        format_func=lambda one: one.title,
        captions=[_caption(one, found[one.name]) for one in offered],
        key="preset",
        label_visibility="collapsed",
    )


def _measured(view: SourceView) -> bool:
    """Return whether this machine was measured for every preset."""
    found = (preset_prospect(one, view.images, view.classes, view.splits) for one in presets())
    return all(isinstance(one, MedidistillError) or one.seconds for one in found)


def _wait_for_speed(path: str) -> None:
    """Draw the page again once this machine was measured for every preset."""
    if _measured(source_view(Path(path))):
        st.rerun()


def _start(view: SourceView, folder: Path) -> None:
    st.subheader("2. How thorough", anchor=False)
    preset = _how_thorough(view)
    changes = replace(_changes(preset), exclusions=chosen_exclusions(places(), folder))
    st.subheader("3. Start", anchor=False)
    title = st.text_input("Name of the run", "First run", max_chars=60, key="run_name", help="Name no patient here.")
    settings = plan_settings(preset, changes, view.classes, title)
    try:
        config: RunConfig = effective_config(preset.name, settings)
        found = prospect(config, view.images, len(view.classes), view.splits)
        expected = found.duration or "being measured"
        st.markdown(f"Expected time on this machine: **{expected}**. A rough guess from a few measured steps.")
        more = _release(found)
        against = problems(config, changes, view, source_view(changes.external) if changes.external else None)
        for problem in against:
            st.warning(plain_text(problem), icon=":material/block:")
        stays = more is None or bool(against)
        if st.button("Start", type="primary", icon=":material/play_arrow:", key="start_run", disabled=stays):
            assert more is not None
            run = start_run(places(), title, preset.name, folder, [*settings, *more], estimate=found.seconds)
            write_label(places(), short_id(run.relative_to(places().runs).as_posix()), title, "", run)
            open_page("distill", run)
    except MedidistillError as error:
        st.error(plain_text(str(error)))


def main() -> None:
    """Draw the page."""
    heading("New run", "Learn a few synthetic images from X-rays, in three steps. Nothing leaves this machine.")
    st.subheader("1. The X-rays", anchor=False)
    way = choose_way(WAYS, "way_new")
    path = choose_source(way)
    if path is None:
        return
    try:
        folder = readable(places(), path)  # a link may have taken its place since it was chosen
    except MedidistillError as error:
        st.error(plain_text(str(error)))
        return
    view = source_view(folder)
    if _found(view):
        keep_in_address(folder)
        measured = _measured(view)
        _start(view, folder)
        if not measured:  # last, so that the page is whole before it is drawn again
            st.fragment(_wait_for_speed, run_every=_POLL_S)(str(view.path))


main()
