"""For my purpose, a view of Compare: the finding, the threshold, the prevalence, and what follows from them."""

from __future__ import annotations

import streamlit as st

from app_pages.parts import plain_text
from medidistill.evaluate.clinical.checks import UndefinedError
from medidistill.evaluate.clinical.purpose import PurposeFigures
from medidistill.evaluate.intervals import Interval
from medidistill.evaluate.purpose_verdict import Purpose
from medidistill.results.verdict import Colour
from view_models.places import short_id
from view_models.purpose import Answer, Predictions, answer, default_threshold, number_in_address, read_predictions
from view_models.runs import RunView
from view_models.verdict import readable_verdict

__all__ = ["show_purpose"]

_KEPT = ("finding", "least", "margin", "prevalence", "threshold")  # in the address
_BOXES = {Colour.GREEN: st.success, Colour.AMBER: st.warning, Colour.RED: st.error}


def show_purpose(run: RunView, *, elsewhere: bool = False) -> None:
    """Draw the questions, the verdict and the figures; what was chosen stands in the address, for this verdict alone.

    Args:
        run: the run.
        elsewhere: on its test set from elsewhere.
    """
    verdict, _ = readable_verdict(run, elsewhere=elsewhere)
    predictions = read_predictions(run, verdict, elsewhere=elsewhere)
    if predictions is None:
        st.info(
            "This needs the predictions for each test image, and this run does not hold them: it was compared by an "
            "earlier version, distilled no set, or was cleaned. Continue the run to make them.",
            icon=":material/info:",
        )
        return
    st.markdown(
        f"What one model (the mean of {predictions.networks} networks) trained on the distilled set would mean where "
        "it is used. Change what you need; the verdict follows."
    )
    key = short_id(f"{run.key} {run.folder.verdict.read_text(encoding='utf-8')} {elsewhere}")
    purpose, threshold = _ask(predictions, key)
    try:
        found = answer(predictions, purpose, threshold)
    except UndefinedError as error:
        st.info(f"Not defined: {plain_text(str(error))}.")
        return
    _BOXES[found.colour](f"**{plain_text(found.sentence)}**")
    _figures(found)
    where = "the patients from elsewhere" if elsewhere else "this run's test patients"
    st.caption(
        f"Sensitivity and specificity are measured on {where}; the rest follows from them at the "
        "prevalence that you gave. The threshold begins where validation reaches the least sensitivity. One that is "
        "chosen by eye fits these test patients: try it on patients that no run has seen."
    )


def _ask(predictions: Predictions, key: str) -> tuple[Purpose, float]:
    """Draw the controls, begun with what the address says of `key`, and write what they say into it."""
    address, names = st.query_params, list(predictions.labels.class_names)
    if address.get("purpose", "") != key:  # chosen for another run, another verdict or other patients
        for name in _KEPT:
            address.pop(name, None)
        address["purpose"] = key
    first = st.columns(4, vertical_alignment="bottom")
    _begin(f"finding-{key}", asked if (asked := address.get("finding", "")) in names else names[0])
    finding = first[0].selectbox("Class to find", names, key=f"finding-{key}")
    finding = finding if finding in names else names[0]  # whatever a browser sends
    share = round(100 * float(predictions.truth(finding).mean()), 1)

    same_finding = address.get("finding") == finding

    def number(
        place: int, name: str, label: str, low: float, high: float, default: float, text: str, of: str = ""
    ) -> float:
        where = f"{name}-{key}{of}"
        _begin(where, number_in_address(address.get(name) if same_finding or not of else None, low, high, default))
        return float(first[place].number_input(label, low, high, step=1.0, format="%.1f", key=where, help=text))

    least = number(1, "least", "Least sensitivity (%)", 1.0, 99.9, 90.0, "The share of cases that must be found.")
    margin = number(
        2,
        "margin",
        "Margin (percentage points)",
        0.1,
        50.0,
        round(100 * predictions.margin, 1),
        "How much less sensitivity you accept than after training on all real X-rays. Decide it beforehand.",
    )
    tested = min(99.0, max(0.1, share))
    prevalence = number(
        3,
        "prevalence",
        "Prevalence (%)",
        0.1,
        99.0,
        tested,
        f"The share of people with the finding where you would use it. It was {share:g} % of these test images.",
        of=f"-{finding}",
    )
    start = round(200 * default_threshold(predictions, finding, least / 100)) / 2
    same = same_finding and address.get("least") == f"{least:g}"
    where = f"threshold-{key}-{finding}-{least}"
    _begin(where, number_in_address(address.get("threshold") if same else None, 0.0, 100.0, start))
    label = "Threshold: an image is called positive where its probability is above"
    threshold = float(st.slider(label, 0.0, 100.0, step=0.5, format="%.1f %%", key=where))
    chosen = {"least": least, "margin": margin, "threshold": threshold}
    if prevalence != tested:
        chosen["prevalence"] = prevalence
    else:
        address.pop("prevalence", None)
    for name, value in chosen.items():
        address[name] = f"{value:g}"
    address["finding"] = finding
    purpose = Purpose(finding, least / 100, margin / 100, prevalence / 100, predictions.min_patients)
    return purpose, threshold / 100


def _begin(key: str, value: float | str) -> None:
    """Give a control its first value; afterwards it keeps its own."""
    if key not in st.session_state:
        st.session_state[key] = value


def _figures(found: Answer) -> None:
    own, other = found.figures, found.reference
    shown = (
        ("Sensitivity", "sensitivity", "of those with the finding are called"),
        ("Specificity", "specificity", "of those without it are not"),
        ("PPV", "ppv", "of positive results are right"),
        ("NPV", "npv", "of negative results are right"),
        ("Missed per 1,000", "missed", "people with the finding are not called"),
        ("False alarms per 1,000", "false_alarms", "people without it are called"),
    )
    for place in (0, 3):
        for column, (title, name, meaning) in zip(st.columns(3), shown[place : place + 3], strict=True):
            with column.container(border=True):
                st.metric(title, _value(getattr(own, name), name))
                st.caption(f"{_limits(getattr(own, name), name)} {meaning}. {_beside(other, name)}")
    counts = own.counts
    st.markdown(
        f"Of the test images, {counts.tp} with the finding are called and {counts.fn} are not; {counts.fp} "
        f"without it are called and {counts.tn} are not. They show {own.patients_with} test patients with the "
        f"finding and {own.patients_without} without."
    )


def _value(value: Interval | None, name: str) -> str:
    if value is None:
        return "none"
    return f"{value.estimate:.0f}" if name in ("missed", "false_alarms") else f"{100 * value.estimate:.1f} %"


def _limits(value: Interval | None, name: str) -> str:
    if value is None:
        return "No such result:"
    if name in ("missed", "false_alarms"):
        return f"[{value.low:.0f}, {value.high:.0f}]"
    return f"[{100 * value.low:.1f}, {100 * value.high:.1f}] %"


def _beside(other: PurposeFigures | None, name: str) -> str:
    return "" if other is None else f"All real X-rays: {_value(getattr(other, name), name)}."
