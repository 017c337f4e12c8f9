"""Privacy: what was measured, what it means, and what nobody can promise."""

from __future__ import annotations

import streamlit as st

from app_pages.parts import chosen_run, empty, go_to, heading, is_idle, open_page, places, plain_text, without_pictures
from medidistill.privacy import PROFILES
from view_models.audits import officer_report, read_audits
from view_models.presets import spoken_duration
from view_models.releases import audit_of_other, audit_seconds, exported, read_outlook, read_standing
from view_models.runs import RunView, resume_run, start_audit

_PROFILES = {
    "quick": "A first look: at most three experts a repetition.",
    "full": "What a release needs. Each repetition does what the run did; leave it over night.",
}
_NEEDED = ("source.json", "train.safetensors", "val.safetensors", "test.safetensors")
_WORDS = """\
| question of the data-protection officer | what speaks to it |
|---|---|
| Can a person be singled out? (GDPR recital 26, WP216) | membership inference, canaries |
| Can records of a person be linked? (WP216) | copies and nearest neighbours, re-identification |
| Can something be inferred about a person? (WP216) | attribute inference against a model without that person |
| Is there a bound for every attack? (NIST SP 800-226) | only training under differential privacy gives one |

An attack that fails shows that this attack failed. It does not show that none succeeds.
"""


def _found(run: RunView) -> None:
    standing = read_standing(run)
    if standing is not None:
        whose = f" of {plain_text(standing.other)}, not of the delivered one" if standing.other else ""
        st.markdown(f"**What the bundle says{whose}:** {plain_text(standing.statement)}")
        if not standing.other and not standing.measurements.empty:
            st.dataframe(standing.measurements, hide_index=True, alt="What attacks found on this set, and the limits")
        if not standing.current:
            st.warning(
                "The bundle was written before this audit. Write it again, so that its card tells what was found."
            )
            if is_idle(run) and st.button("Write bundle and report again", key="again", icon=":material/refresh:"):
                resume_run(places(), run.folder.path)
                open_page("distill", run.folder.path)


def _outlook(run: RunView) -> None:
    """Say which rules the number of images and patients cannot decide."""
    outlook = read_outlook(run)
    if outlook is not None:
        (st.warning if outlook.hopeless else st.caption)(plain_text(outlook.text()))


def _measure(run: RunView) -> None:
    """Draw how to start an audit, where one can be made."""
    if exported(run) is None or not all((run.folder.ingest / name).is_file() for name in _NEEDED):
        st.caption(
            "What an audit needs is not in this run any more, or was never: start a run of your own to measure it."
        )
        return
    with st.expander("Measure it: start an audit"):
        st.markdown(
            "Compares the images with the patients they were made from, distills repeatedly without half of the "
            "patients to see whether that shows, plants odd cases, and tries to recognise patients. It can be stopped; "
            "finished repetitions are kept."
        )
        profile = st.radio(
            "How thorough",
            list(_PROFILES),
            format_func=lambda name: f"{name}: {PROFILES[name].shadows} repetitions",
            captions=list(_PROFILES.values()),
            key="profile",
        )
        seconds = audit_seconds(run, profile)
        took = spoken_duration(seconds) if seconds is not None else "being measured; look again in a moment"
        st.markdown(f"Expected time on this machine: **{took}**. A rough guess.")
        outlook = read_outlook(run)
        if outlook is not None and outlook.hopeless:
            st.warning("It measures the set, but cannot lead to a release: see what no audit can change above.")
        if not is_idle(run):
            st.info("The run is at work.", icon=":material/autorenew:")
            go_to("distill", "See how it stands")
        elif st.button("Start the audit", type="primary", icon=":material/play_arrow:", key="start_audit"):
            start_audit(places(), run.folder.path, profile)
            open_page("distill", run.folder.path)


def main() -> None:
    """Draw the page."""
    heading("Privacy", "What is known about the people whose images the set was made from.")
    run = chosen_run()
    if run is None:
        empty("There is no run.")
        return
    distilled = exported(run)
    if distilled is not None and distilled.recipe.get("init") == "real":
        st.error(
            "**The images began as copies of patients' X-rays.** In a measurement, 98 of 100 such images still had "
            "their own source as nearest training image. Handle this set as patient data.",
            icon=":material/dangerous:",
        )
    other = audit_of_other(run)
    audits = [] if other else read_audits(run.folder.path / "audit")
    if other:
        st.error(
            f"**This audit is about another set ({plain_text(other)}): audit again.**",
            icon=":material/shield_question:",
        )
        st.markdown(
            "Its report and figures are not shown: they say nothing about the set that is delivered now, and what "
            "attacks find on that one is not known."
        )
    elif not audits:
        st.error("**Nothing was audited in this run.**", icon=":material/shield_question:")
        st.markdown(
            "No attack was tried on this distilled set, so nothing was measured about what it reveals: absence of a "
            "measurement is no evidence of safety. Only a card that states epsilon and delta promises a bound. The "
            "set is synthetic; it must not be called anonymous, and whoever passes it on decides under the rules "
            "that hold for the patients' data."
        )
    _found(run)
    _outlook(run)
    _measure(run)
    report = "" if other else officer_report(run.folder.path / "audit")
    if report:
        with st.container(border=True):
            st.markdown(without_pictures(report))
        st.download_button("This report (Markdown)", report, "privacy-report.md", "text/markdown", on_click="ignore")
    for audit in audits:
        name = plain_text(audit.name.replace("-", " ").replace("_", " "))
        with st.expander(f"Every figure of {name}", expanded=not report):
            st.dataframe(audit.table(), hide_index=True)
    st.subheader("How to read this with a data-protection officer", anchor=False)
    st.markdown(_WORDS)


main()
