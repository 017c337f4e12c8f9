"""Distil: start a run, watch it, stop it, go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from app_pages.live import show_live
from app_pages.parts import chosen_run, empty, folder_picker, go_to, heading, places, show_run
from medidistill.config import METHOD_TITLES, RunConfig
from medidistill.errors import MedidistillError
from medidistill.pipeline import load_config
from medidistill.pipeline.release_check import SplitCounts, check_release
from view_models.places import plain_name, readable
from view_models.presets import Preset, estimate_seconds, measured_step, presets, spoken_duration
from view_models.runs import start_run
from view_models.sources import read_source

_ARMS = {
    "full": "all real images (the bar to reach)",
    "packed": "real images drawn at random, in the same bytes",
    "random": "as many real images, drawn at random",
    "kmeans": "as many real images, chosen by k-means",
    "herding": "as many real images, chosen by herding",
    "snapshots": "snapshots: distilled, features matched",
    "mtt": "MTT: distilled, all weights one",
    "iadd": "IADD: distilled, with importance weights",
}
_AUDITS = {"none": "none", "quick": "quick: 16 repetitions", "full": "full: 64 repetitions"}


@st.cache_data(max_entries=32, show_spinner="Counting the images ...", ttl=60)
def _count(source: str) -> tuple[int, tuple[str, ...], SplitCounts | None]:
    view = read_source(Path(source))
    return view.images, view.classes, view.splits


def _release(config: RunConfig, splits: SplitCounts | None) -> list[str] | None:
    """Say what the numbers of images and patients mean for a release.

    Returns settings that the run needs, None while it may not start.
    """
    check = check_release(config, splits) if splits is not None else None
    if check is None or not check.wanted:
        return []
    first, *rules = check.lines()
    if not check.unresolvable:
        st.caption("\n".join((first, "", *rules)))
        return []
    st.warning("\n".join((first, "", *rules)))
    goes_on = st.checkbox("Run it without a release: the set is made and measured, and stays inside", key="unreleased")
    return ["privacy.release_check=false"] if goes_on else None


def _settings(preset: Preset, classes: Sequence[str]) -> list[str]:
    """Draw what may be changed of a preset; return it as `--set` takes it."""
    config = preset.config
    with st.expander("Change what matters most"):
        ipc = st.number_input(
            "Synthetic images per class",
            1,
            1000,
            config.distill.ipc,
            help="More images teach more, take longer to make, and hold more of the data.",
        )
        size = st.select_slider(
            "Pixels a side",
            [16, 32, 64, 128, 256],
            config.ingest.image_size,
            help="Each doubling costs about four times.",
        )
        steps = st.number_input(
            "Outer steps", 1, 100_000, config.distill.outer_steps, help="Updates of the images; time grows with it."
        )
        others = {name: f"{name}: {title}" for name, title in METHOD_TITLES.items() if name not in _ARMS}
        arms = st.multiselect(
            "Compare",
            [*_ARMS, *others],
            list(config.evaluate.arms),
            format_func=(_ARMS | others).__getitem__,
            help="What is trained on.",
        )
        networks = st.multiselect(
            "Networks",
            ["convnet", "resnet18", "vgg11", "alexnet", "densenet121", "vit"],
            list(config.evaluate.architectures),
            help="Architectures that are trained on each. All but the first never saw the distillation; each takes as "
            "long again or longer.",
        )
        audit = st.select_slider(
            "Audit: attacks on the distilled set",
            list(_AUDITS),
            config.privacy.audit,
            format_func=_AUDITS.__getitem__,
            help="Distils again and again without half of the patients. The page Privacy can start one later, too.",
        )
        external = None
        if st.toggle("Test on X-rays from elsewhere too", key="test_external"):
            st.caption(
                "Labelled like the others, with the same classes. No part of the run is trained or tuned on them."
            )
            external = folder_picker("external", "X-rays from elsewhere")
    changed = {
        "distill.ipc": (ipc, config.distill.ipc),
        "ingest.image_size": (size, config.ingest.image_size),
        "distill.outer_steps": (steps, config.distill.outer_steps),
        "privacy.audit": (audit, config.privacy.audit),
    }
    settings = [f"{key}={new}" for key, (new, old) in changed.items() if new != old]
    if arms and list(arms) != list(config.evaluate.arms):
        settings.append(f"evaluate.arms=[{', '.join(arms)}]")
    if networks and list(networks) != list(config.evaluate.architectures):
        settings.append(f"evaluate.architectures=[{', '.join(networks)}]")
    if external is not None:
        settings.append(f"evaluate.external={json.dumps(str(external))}")
        missing = set(classes) - set(_count(str(external))[1])
        if missing:
            st.warning(f"The X-rays from elsewhere lack a class of the run: {', '.join(sorted(missing))}.")
    return settings


def _new_run() -> None:
    source = st.session_state.get("source", "")
    if not source:
        st.markdown("First choose the X-rays that the run is to read.")
        go_to("data", "Choose X-rays on the page Data")
        return
    try:
        folder = readable(places(), Path(source))  # a link may have taken its place since it was chosen
    except MedidistillError as error:
        st.error(str(error))
        return
    images, classes, splits = _count(source)
    st.markdown(f"X-rays: **{Path(source).name}**, {images} labelled images in {len(classes)} classes.")
    offered = presets()
    preset = st.radio(
        "How thorough",
        offered,
        format_func=lambda one: one.name,
        captions=[one.words for one in offered],
        key="preset",
    )
    name = st.text_input("Name of the run", "first", max_chars=40, help="Letters and digits. Name no patient here.")
    settings = _settings(preset, classes)
    if set(preset.config.ingest.classes) - set(classes):
        # its classes and its caution are about other data
        settings += ["ingest.classes=[]", 'notice=""']
    settings.append(f"name={plain_name(name) or 'run'}")
    try:
        config = load_config(preset.name, settings)
        with st.spinner("Measuring this machine for a moment ..."):
            step, image = measured_step(config.network, config.ingest.image_size)
        seconds = estimate_seconds(config, images, step, image, max(2, len(classes)))
        expected = spoken_duration(seconds)
        st.markdown(f"Expected time on this machine: **{expected}**. A rough guess from a few measured steps.")
        more = _release(config, splits)
        start = st.button("Start", type="primary", icon=":material/play_arrow:", key="start_run", disabled=more is None)
        if start and more is not None:
            show_run(start_run(places(), name, preset.name, folder, [*settings, *more]))
            st.rerun()
    except MedidistillError as error:
        st.error(str(error))


def main() -> None:
    """Draw the page."""
    heading(
        "Distil",
        "Learn a few synthetic images for networks to learn from. The page Compare says what that is worth.",
    )
    run = chosen_run()
    if run is None:
        empty("No run was started yet.")
    else:
        st.subheader(run.title, anchor=False)
        if run.notice:
            st.warning(run.notice)
        show_live(run.folder.path)
    st.divider()
    st.subheader("Start a new run", anchor=False)
    _new_run()


main()
