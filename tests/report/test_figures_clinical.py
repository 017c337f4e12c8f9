"""Clinical pictures: one panel a class, every arm named, undefined parts said, small vector files, same bytes twice."""

from __future__ import annotations

import base64
import dataclasses
import functools
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pytest

from medidistill.evaluate.clinical import ClinicalComparison, ProbeData
from medidistill.report import ExternalResults, render
from medidistill.report.arm_labels import with_images_per_class
from medidistill.report.drawing import Picture
from medidistill.report.figures_clinical import calibration, decision_curves, distributions
from medidistill.report.figures_curves import precision_recall_curves, roc_curves
from medidistill.report.figures_groups import source_probe, subgroups
from medidistill.report.figures_points import areas, brier_scores, differences, mcnemar, operating_points
from medidistill.report.panels import wrapped
from medidistill.report.tables import (
    auroc_table,
    calibration_table,
    differences_table,
    operating_table,
    probe_table,
    subgroups_table,
)
from medidistill.statistics import SUPPRESSED
from medidistill.words import arm_words

from ..evaluate.clinical.clinical_example import PATIENTS, TEST, compared, run
from ..support.undrawn import undrawn
from .report_example import ARMS, NAMES, comparison, report_data

BY_CLASS = (calibration, decision_curves, distributions, roc_curves, precision_recall_curves, areas, operating_points,
            brier_scores)  # fmt: skip
AGAINST = (differences, mcnemar)
WORDS = {arm: arm_words(arm, 5) for arm in ARMS}


@functools.cache
def _made(several: bool = False) -> ClinicalComparison:
    """A real clinical comparison of made-up networks: five arms, two columns of subgroups, two sites."""
    skills = {"full": 2.5, "random": 0.8, "kmeans": 1.0, "mtt": 2.0, "iadd": 2.2}
    runs = [run(arm, skill) for arm, skill in skills.items()]
    if several:
        runs += [run(arm, skill, architecture="vgg11") for arm, skill in skills.items()]
    rng = np.random.default_rng(0)
    place = np.arange(len(TEST)) // 2
    sites = [("north", "south", "east")[min(i % 7, 2) if i < 170 else 2] for i in place.tolist()]
    sex = [("F", "M")[i % 2] for i in place.tolist()]
    splits = [
        ProbeData(rng.normal(size=(len(TEST), 16, 16)) + 0.2 * place[:, None, None] % 2, TEST, sites, PATIENTS)
        for _ in range(2)
    ]
    return compared(runs=runs, subgroups={"site": sites, "sex": sex}, probe=tuple(splits))


def clinical(several: bool = False) -> ClinicalComparison:
    return with_images_per_class(_made(several), comparison())


@functools.cache
def whole(draw: Callable[[ClinicalComparison], Picture]) -> Picture:
    """A figure of the comparison as it is."""
    return draw(clinical())


def stored() -> dict:
    """The stored form, that a test may change."""
    return _made().to_dict()


def read(plain: dict) -> ClinicalComparison:
    return with_images_per_class(ClinicalComparison.from_dict(plain), comparison())


def svg(picture) -> str:
    kind, _, data = picture.source.partition(";base64,")
    assert kind == "data:image/svg+xml"
    text = base64.b64decode(data).decode()
    ET.fromstring(text)
    return text


@pytest.mark.parametrize("draw", BY_CLASS)
def test_small_vector_pictures_that_repeat(draw):
    picture = whole(draw)
    assert len(svg(picture)) < 150_000
    assert picture == draw(clinical())
    assert all(name in picture.alt for name in (*NAMES, *WORDS.values()))


def test_undefined_parts_are_said_not_drawn():
    data = stored()
    parts = ("calibration", "decision_curve", "roc", "precision_recall", "auroc", "operating_point", "brier_parts")
    drawn = (calibration, decision_curves, roc_curves, precision_recall_curves, areas, operating_points)
    for part in parts:
        data["arms"][0]["classes"][1][part] = {"undefined": "no positives"}
    for draw in drawn:
        assert svg(draw(read(data))) != svg(whole(draw)), draw
    for arm in data["arms"]:
        for one in arm["classes"]:
            one |= {part: {"undefined": "no positives"} for part in parts} | {"recalibration": {"undefined": "apart"}}
    for draw in drawn:
        svg(draw(read(data)))
    for table in (auroc_table(read(data)), operating_table(read(data)), calibration_table(read(data))):
        assert "no positives" in table.reasons
        assert any("undefined (1)" in cell for row in table.rows for cell in row)
    for gap in data["differences"]:
        gap["mcnemar"] = gap["macro"] = {"undefined": "alike"}
    with undrawn():
        assert "undefined" in mcnemar(read(data)).alt
        assert "distilled images (IADD): undefined" in differences(read(data)).alt
    assert "alike" in differences_table(read(data)).reasons


@pytest.mark.usefixtures("blank_figures")
def test_the_architecture_that_is_asked_for_is_drawn():
    plain = stored()
    plain["arms"] += [{**arm, "architecture": "vgg11", "arm": "new"} for arm in plain["arms"][:1]]
    data = read(plain)
    assert "(new)" not in calibration(data).alt
    assert calibration(data, "vgg11").alt.startswith("Calibration curves of distilled images (new) for")


@pytest.mark.parametrize("draw", AGAINST)
def test_arms_are_judged_against_the_reference(draw):
    picture = draw(clinical())
    assert len(svg(picture)) < 100_000
    assert all(words in picture.alt for arm, words in WORDS.items() if arm != "full")
    assert draw(dataclasses.replace(clinical(), differences=())) is None


@pytest.mark.usefixtures("blank_figures")
def test_the_verdict_and_the_margin_are_in_words():
    picture = differences(clinical())
    assert "at most 0.05 worse than all real X-rays" in picture.title
    for gap in clinical().differences:
        assert f"{WORDS[gap.arm]}: {gap.macro.verdict}" in picture.caption


def test_tables_hold_the_numbers_of_the_comparison():
    data = clinical()
    arm, one = data.arms[4], data.arms[4].classes[1]
    (line,) = [row for row in auroc_table(data).rows if row[:2] == [WORDS["iadd"], "Normal"]]
    assert line[2].startswith(f"{one.auroc.estimate:.3f} [{one.auroc.low:.3f}")
    (line,) = [row for row in operating_table(data).rows if row[:2] == [WORDS["iadd"], "Normal"]]
    assert line[-4:] == [str(getattr(one.operating_point.counts, name)) for name in ("tp", "fn", "fp", "tn")]
    (line,) = [row for row in calibration_table(data).rows if row[:2] == [WORDS["iadd"], "Normal"]]
    assert line[-1].startswith(f"{one.recalibration.slope.estimate:.2f}")
    (line,) = [
        row
        for row in differences_table(data).rows
        if row[:2] == ["distilled images (IADD) minus all real X-rays", "macro"]
    ]
    assert line[4] == data.differences[3].macro.verdict
    assert (
        len({len(row) for table in (auroc_table, operating_table, calibration_table) for row in table(data).rows}) == 3
    )
    for table in (auroc_table, operating_table, calibration_table, differences_table):
        assert {len(row) for row in table(data).rows} == {len(table(data).head)}
    assert arm.arm == "iadd"
    assert "distilled images (IADD), vgg11" in {row[0] for row in auroc_table(clinical(several=True)).rows}


def test_small_groups_stay_hidden_in_pictures_and_tables():
    data = clinical()
    hidden = [group.group for group in data.subgroups["site"] if group.images == SUPPRESSED]
    shown = [group.group for group in data.subgroups["site"] if group.images != SUPPRESSED]
    table = subgroups_table(data, "site")
    assert {len(row) for row in table.rows} == {len(table.head)}
    for row in table.rows:
        assert (row[1] == "hidden") == (row[0] in hidden)
    assert "suppressed" not in str(table.rows)
    picture = subgroups(data, "sex")
    assert len(svg(picture)) < 100_000
    assert "F, M" in picture.alt
    assert hidden or shown
    plain = stored()
    for group in plain["subgroups"]["sex"]:
        group["auroc"] = {model: dict.fromkeys(NAMES, "suppressed") for model in group["auroc"]}
    assert subgroups(read(plain), "sex") is None


def test_the_probe_is_drawn_with_its_chance():
    data = clinical()
    assert "chance 0.33" in source_probe(data).alt or "chance 0.50" in source_probe(data).alt
    assert {len(row) for row in probe_table(data).rows} == {3}
    plain = stored()
    plain["source_probe"]["site"] = {"undefined": "one site"}
    assert "undefined" in source_probe(read(plain)).alt
    plain["source_probe"] = None
    assert source_probe(read(plain)) is None


def test_long_names_of_classes_stay_inside_their_panels():
    names = ["bilateral_peripheral_opacities_of_unknown_origin", "Normal", "Pneumonia, bacterial or viral, any lobe"]
    data = dataclasses.replace(clinical(), class_names=tuple(names))
    text = svg(roc_curves(data))
    # titles are broken into lines: no line is longer than a third of the page
    titles = [
        line for line in ET.fromstring(text).iter() if line.tag.endswith("g") and line.get("id", "").startswith("text_")
    ]
    assert titles
    assert max(len(line) for name in names for line in wrapped(f"{name} against the rest").split("\n")) <= 27


@pytest.mark.usefixtures("blank_figures")
def test_the_page_shows_them_where_there_are_any():
    page = render(report_data(clinical=clinical()))
    for name in (
        "roc", "areas", "noninferiority", "mcnemar", "operating", "precision-recall", "calibration", "brier",
        "decision", "probabilities", "subgroups-sex", "source-probe",
    ):  # fmt: skip
        assert f'<figure id="{name}">' in page, name
    assert '<figure id="calibration">' not in render(report_data())
    assert "A test set from elsewhere" not in page


@pytest.mark.usefixtures("blank_figures")
def test_a_test_set_from_elsewhere_has_a_section_of_its_own():
    page = render(report_data(clinical=clinical(), external=ExternalResults(comparison(), clinical())))
    assert "A test set from elsewhere" in page
    assert '<figure id="external-roc">' in page
    assert page.count('id="roc"') == 1
