"""Export: what may leave, whether it is whole, and the file to carry."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app_pages.bundle_parts import show_bundle
from app_pages.parts import (
    chosen_run,
    empty,
    go_to,
    heading,
    is_idle,
    open_page,
    places,
    plain_table,
    plain_text,
    stamp,
)
from app_pages.verdict_panel import show_delivery, show_verdict
from medidistill.errors import MedidistillError
from view_models.bundles import read_bundle, zipped
from view_models.releases import Standing, gate_table, gate_verdicts, read_outlook, read_standing
from view_models.runs import RunView, start_release


@st.cache_data(max_entries=8, show_spinner="Packing ...")
def _zip(path: str, changed: int) -> bytes:
    return zipped(Path(path))


def _release(run: RunView, standing: Standing) -> None:
    """Draw whether the delivered set may leave, and what the gate asks for."""
    st.subheader("May it leave?", anchor=False)
    if standing.released:
        st.success(plain_text(standing.statement), icon=":material/outbox:")
        return
    if standing.other:
        st.error(
            f"There is no bundle of the delivered set ({plain_text(standing.delivered)}).", icon=":material/block:"
        )
    else:
        st.error(plain_text(standing.statement), icon=":material/block:")
    verdicts, reason = gate_verdicts(run)
    if reason:
        st.markdown(f"The privacy gate cannot judge it: {plain_text(reason)}.")
        return
    failed = [one.rule for one in verdicts if not one.passed]
    outlook = read_outlook(run)
    if failed and outlook is not None and outlook.hopeless:
        st.warning(f"**No audit can change this.** {plain_text(outlook.text())}", icon=":material/block:")
    st.markdown(
        f"The privacy gate asks for {len(verdicts)} things; **{len(failed)} are not met**."
        if failed
        else "All that the privacy gate asks for is met."
    )
    if run.config is not None and run.config.experts.dp.enabled:
        st.markdown(
            "Releases of the same patients add up. Their epsilon is computed when the set is released: where it is "
            "above what the policy allows, the gate also asks that the attacks prove none (rule one_run)."
        )
    # a table that wraps its text: what to do must be seen without scrolling sideways
    st.table(plain_table(gate_table(verdicts)), hide_index=True, border="horizontal", alt="Rules of the privacy gate")
    if not is_idle(run):
        st.info("The run is at work.", icon=":material/autorenew:")
    elif failed:
        go_to("privacy", "Measure it on the page Privacy")
        _override(run, failed)
    elif st.button("Release it", key="release", type="primary", icon=":material/outbox:"):
        start_release(places(), run.folder.path)
        open_page("distill", run.folder.path)


def _override(run: RunView, failed: list[str]) -> None:
    """Draw how somebody releases the set in spite of rules that failed."""
    with st.expander("Release it in spite of failed rules"):
        st.markdown(
            "Somebody who may decide this answers for it by name. Name and reason are logged, and printed in the card "
            "for everybody who gets the bundle. Every failed rule must be ticked."
        )
        rules = st.multiselect("Rules that failed, and in spite of which it leaves", failed, key="override_rules")
        by = st.text_input("Name of who answers for it", key="override_by", max_chars=100)
        reason = st.text_area("Reason", key="override_reason", max_chars=500)
        if st.button("Release in spite of these rules", key="override", icon=":material/gavel:"):
            missing = [rule for rule in failed if rule not in rules]
            if missing:
                st.error(f"Not ticked, so the gate would refuse it: {plain_text(', '.join(missing))}.")
                return
            try:
                start_release(places(), run.folder.path, overridden=rules, reason=reason, by=by)
            except MedidistillError as error:
                st.error(plain_text(str(error)))
                return
            open_page("distill", run.folder.path)


def main() -> None:
    """Draw the page."""
    heading("Export", "The bundle: the synthetic images, how to train from them, and what they are worth.")
    run = chosen_run()
    if run is None or not (run.folder.bundle / "distilled.safetensors").is_file():
        empty("There is no bundle yet.", "A run writes it after the comparison.")
        if run is not None:
            go_to("distill", "See how the run stands")
        return
    show_verdict(run, figures=False)
    bundle = read_bundle(run.folder.bundle)
    if bundle.problems:
        st.error("The bundle differs from its checksums. Do not pass it on; resume the run to write it again.")
        st.markdown("\n".join(f"- {plain_text(problem)}" for problem in bundle.problems))
    else:
        st.success(f"Whole: every one of {len(bundle.files)} files is as it was written.", icon=":material/check:")
        standing = read_standing(run)
        released = standing is not None and standing.released
        other = plain_text(standing.other) if standing is not None else ""
        if standing is not None:
            if other:
                st.warning(
                    f"**The bundle in this run is not of the delivered set.** It holds {other}; delivered is "
                    f"{plain_text(standing.delivered)}, and the verdict above is about that one. Finish or release the "
                    "run to write its bundle, or deliver the earlier set again.",
                    icon=":material/difference:",
                )
            _release(run, standing)
        st.subheader("The file to carry", anchor=False)
        show_delivery(run)
        ending = "-of-another-set" if other else "" if released else "-not-released"
        data = _zip(str(bundle.path), stamp(bundle.path / "SHA256SUMS"))
        what = "Download the bundle" if released else "Download for use inside, not released"
        if other:
            what = f"Download the bundle of {other}, not of the delivered one"
        st.download_button(
            f"{what} ({len(data) / 1000:.0f} kB)",
            data,
            f"{Path(run.name).name}-bundle{ending}.zip",
            "application/zip",
            type="primary" if released else "secondary",
            icon=":material/download:",
            on_click="ignore",
            key="download_bundle",
        )
        st.markdown(
            "Tell the receiver this number over another way than the file. Without it, or a signature "
            "(`medidistill sign`), they cannot know that the file is yours:"
        )
        st.code(bundle.digest, language=None, wrap_lines=True)
    st.warning(
        "Distillation alone gives no guarantee of privacy. Whoever passes this on decides under the rules that hold "
        "for the patients' data it was made from; the page Privacy says what was measured.",
        icon=":material/shield:",
    )
    show_bundle(bundle)


main()
