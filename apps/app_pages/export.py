"""Export: what may leave, whether it is whole, and the file to carry."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app_pages.bundle_parts import show_bundle
from app_pages.parts import at_rest, chosen_run, empty, go_to, heading, open_page, places, stamp
from view_models.bundles import read_bundle, zipped
from view_models.releases import gate_table, gate_verdicts, read_standing
from view_models.runs import RunView, start_release


@st.cache_data(max_entries=8, show_spinner="Packing ...")
def _zip(path: str, changed: int) -> bytes:
    return zipped(Path(path))


def _release(run: RunView) -> None:
    """Draw whether the bundle may leave, and what the gate asks for."""
    st.subheader("May it leave?", anchor=False)
    standing = read_standing(run)
    if standing is None:
        return
    if standing.released:
        st.success(standing.statement, icon=":material/outbox:")
        return
    st.error(standing.statement, icon=":material/block:")
    verdicts, reason = gate_verdicts(run)
    if reason:
        st.markdown(f"The privacy gate cannot judge it: {reason}.")
        return
    st.markdown("What the privacy gate asks for, and what it finds:")
    st.dataframe(gate_table(verdicts), hide_index=True, alt="Rules of the privacy gate")
    if not all(one.passed for one in verdicts):
        go_to("privacy", "Measure it on the page Privacy")
        st.caption(
            "Whoever answers for it can release it in spite of a failed rule, by name and with a reason that the card "
            "prints: `medidistill export --release --override RULE --reason TEXT --by NAME`."
        )
    elif not at_rest(run):
        st.info("The run is at work.", icon=":material/autorenew:")
    elif st.button("Release it", key="release", icon=":material/outbox:"):
        start_release(places(), run.folder.path)
        open_page("distil", run.folder.path)


def main() -> None:
    """Draw the page."""
    heading("Export", "The bundle: the synthetic images, how to train from them, and what they are worth.")
    run = chosen_run()
    if run is None or not (run.folder.bundle / "distilled.safetensors").is_file():
        empty("There is no bundle yet.", "A run writes it after the comparison.")
        if run is not None:
            go_to("distil", "See how the run stands")
        return
    bundle = read_bundle(run.folder.bundle)
    if bundle.problems:
        st.error("The bundle differs from its checksums. Do not pass it on; resume the run to write it again.")
        st.markdown("\n".join(f"- {problem}" for problem in bundle.problems))
    else:
        st.success(f"Whole: every one of {len(bundle.files)} files is as it was written.", icon=":material/check:")
        _release(run)
        st.subheader("The file to carry", anchor=False)
        name = f"{Path(run.name).name}-bundle.zip"
        data = _zip(str(bundle.path), stamp(bundle.path / "SHA256SUMS"))
        st.download_button(
            f"Download the bundle ({len(data) / 1000:.0f} kB)",
            data,
            name,
            "application/zip",
            type="primary",
            icon=":material/download:",
            on_click="ignore",
            key="download_bundle",
        )
        st.markdown("Tell the receiver this number over another way, so that they can see that it is yours:")
        st.code(bundle.digest, language=None)
    st.warning(
        "Distillation alone gives no guarantee of privacy. Whoever passes this on decides under the rules that hold "
        "for the patients' data it was made from; the page Privacy says what was measured.",
        icon=":material/shield:",
    )
    show_bundle(bundle)


main()
