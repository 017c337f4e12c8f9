"""Privacy: what was measured, what it means, and what nobody can promise."""

from __future__ import annotations

import streamlit as st

from app_pages.parts import chosen_run, empty, heading
from view_models.audits import officer_report, read_audits
from view_models.training import final_set, running_methods

_WORDS = """\
| question of the data-protection officer | what speaks to it |
|---|---|
| Can a person be singled out? (GDPR recital 26, WP216) | membership inference, canaries |
| Can records of a person be linked? (WP216) | copies and nearest neighbours, re-identification |
| Can something be inferred about a person? (WP216) | attribute inference against a model without that person |
| Is there a bound for every attack? (NIST SP 800-226) | only training under differential privacy gives one |

An attack that fails shows that this attack failed. It does not show that none succeeds.
"""


def main() -> None:
    """Draw the page."""
    heading("Privacy", "What is known about the people whose images the set was made from.")
    run = chosen_run()
    if run is None:
        empty("There is no run.")
        return
    method = next((one for one in reversed(running_methods(run)) if f"distill/{one}" in run.finished), None)
    distilled = final_set(run, method) if method else None
    if distilled is not None and distilled.recipe.get("init") == "real":
        st.error(
            "**The images began as copies of patients' X-rays.** In a measurement, 98 of 100 such images still had "
            "their own source as nearest training image. Handle this set as patient data.",
            icon=":material/dangerous:",
        )
    audits = read_audits(run.folder.path / "audit")
    if not audits:
        st.error("**Nothing was audited in this run.**", icon=":material/shield_question:")
        st.markdown(
            "No attack was tried on this distilled set, so nothing was measured about what it reveals: absence of a "
            "measurement is no evidence of safety. Only a card that states epsilon and delta promises a bound. The "
            "set is synthetic; it must not be called anonymous, and whoever passes it on decides under the rules "
            "that hold for the patients' data."
        )
    report = officer_report(run.folder.path / "audit")
    if report:
        with st.container(border=True):
            st.markdown(report)
        st.download_button("This report (Markdown)", report, "privacy-report.md", "text/markdown", on_click="ignore")
    for audit in audits:
        with st.expander(f"Every figure of {audit.name.replace('-', ' ').replace('_', ' ')}", expanded=not report):
            st.dataframe(audit.table(), hide_index=True)
    st.subheader("How to read this with a data-protection officer", anchor=False)
    st.markdown(_WORDS)


main()
