"""Clinical pictures: one panel a class, every arm named, undefined parts said, small vector files, same bytes twice."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from medidistill.report import render
from medidistill.report.figures_clinical import calibration, decision_curves, distributions

from .report_example import ARMS, NAMES, report_data


def clinical() -> dict:
    """The part of a clinical comparison that is drawn, made up."""
    rng = np.random.default_rng(0)

    def figures() -> dict:
        predicted = np.sort(rng.random(10))
        observed = np.clip(predicted + rng.normal(0, 0.05, 10), 0.05, 0.95)
        at = np.arange(0.01, 1, 0.02)
        return {
            "calibration": {
                "ece": 0.04,
                "bins": [
                    {"images": 48, "predicted": p, "observed": {"estimate": o, "low": o - 0.05, "high": o + 0.05}}
                    for p, o in zip(predicted.tolist(), observed.tolist(), strict=True)
                ],
            },
            "decision_curve": {
                "thresholds": at.tolist(),
                "net_benefit": (0.33 * (1 - at) ** 0.5).tolist(),
                "treat_all": (0.33 - 0.67 * at / (1 - at)).tolist(),
                "prevalence": 0.33,
            },
            "histogram": {
                "edges": np.linspace(0, 1, 21).tolist(),
                "positives": rng.integers(0, 30, 20).tolist(),
                "negatives": rng.integers(0, 30, 20).tolist(),
            },
        }

    return {
        "class_names": list(NAMES),
        "settings": {"reference": "full"},
        "arms": [{"arm": arm, "architecture": "convnet", "classes": [figures() for _ in NAMES]} for arm in ARMS],
    }


def svg(picture) -> str:
    kind, _, data = picture.source.partition(";base64,")
    assert kind == "data:image/svg+xml"
    text = base64.b64decode(data).decode()
    ET.fromstring(text)
    return text


@pytest.mark.parametrize("draw", [calibration, decision_curves, distributions])
def test_small_vector_pictures_that_repeat(draw):
    data = clinical()
    picture = draw(data)
    assert len(svg(picture)) < 150_000
    assert picture == draw(data)
    assert all(name in picture.alt for name in (*NAMES, *ARMS))


def test_undefined_parts_are_said_not_drawn():
    data = clinical()
    for part in ("calibration", "decision_curve"):
        data["arms"][0]["classes"][1][part] = {"undefined": "no positives"}
    for draw in (calibration, decision_curves):
        assert svg(draw(data)) != svg(draw(clinical()))
    for arm in data["arms"]:
        for one in arm["classes"]:
            one["calibration"] = one["decision_curve"] = {"undefined": "no positives"}
    for draw in (calibration, decision_curves):
        svg(draw(data))


def test_the_architecture_that_is_asked_for_is_drawn():
    data = clinical()
    data["arms"] += [{**arm, "architecture": "vgg11", "arm": "new"} for arm in data["arms"][:1]]
    assert "new" not in calibration(data).alt
    assert calibration(data, "vgg11").alt.startswith("Calibration curves of new for")


def test_the_page_shows_them_where_there_are_any():
    page = render(report_data(clinical=clinical()))
    for name in ("calibration", "decision", "probabilities"):
        assert f'<figure id="{name}">' in page
    assert '<figure id="calibration">' not in render(report_data())
