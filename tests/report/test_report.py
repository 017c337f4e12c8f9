"""The report as a reader and as an inspector see it: complete, self-contained, and without a patient in it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from medidistill.record import RunRecord
from medidistill.report import ExplainedCase, Explanations, ReportData, render
from medidistill.report.drawing import style_of
from medidistill.report.figures_images import distilled_images
from medidistill.report.figures_saliency import saliency
from medidistill.report.figures_training import curves, importance
from medidistill.report.wording import confounded_sites, findings, quarantine_by_reason
from medidistill.results.privacy_section import PrivacySection
from medidistill.results.serialise import from_json
from medidistill.statistics import Interval
from medidistill.words import arm_words

from .report_example import ARMS, NAMES, comparison, distilled, histories, record, report_data

IADD_INSTEAD_OF_MTT = "Distilled images (IADD) instead of distilled images (MTT)"


class _Page(HTMLParser):
    """Collects tags, identifiers, addresses and text; notes a tag that is closed in the wrong place."""

    _VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.images: dict[str, str] = {}
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in ("src", "href", "srcset", "action") if name in values]
        if tag == "img":
            self.images[values["src"]] = values["alt"]
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)


@pytest.fixture(scope="module")
def html() -> str:
    return render(report_data())


@pytest.fixture(scope="module")
def page(html) -> _Page:
    return _Page(html)


def test_page_is_well_formed_and_its_links_lead_somewhere(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_page_needs_nothing_but_itself(html, page):
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in html
    assert "url(" not in html


def test_every_figure_has_alt_text_and_a_caption(page):
    assert len(page.images) == 6
    assert page.tags.count("figcaption") == 6
    assert all(len(alt) > 40 for alt in page.images.values())
    for name in ("accuracy", "confusion", "distilled", "evolution", "curves", "importance-iadd"):
        assert name in page.ids


def test_pictures_are_readable(page):
    for source in page.images:
        head, data = source.split(",", 1)
        raw = base64.b64decode(data)
        if "png" in head:
            assert min(Image.open(io.BytesIO(raw)).size) > 200
        else:
            assert raw.lstrip().startswith(b"<?xml")
            assert b"<svg" in raw


def test_page_says_what_it_must(page):
    for sentence in (
        "Research use. Not for diagnosis.",
        "Synthetic images; no formal guarantee. No attack on this set was measured.",
        "The classes come from different hospitals",
        "The test split was opened once",
        "480 images of 402 patients",
        "0.710 [0.670, 0.750]",
        "+0.010 [-0.025, +0.045]",
        "3 patient resamples lacked a class",
        "medidistill run --config run.yaml",
        'medidistill.load("OUT/bundle")',
        "Class COVID-19 shares no site with another class (north)",
    ):
        assert sentence in page.text, sentence
    for arm in ARMS:
        assert arm_words(arm, 5) in page.text


def test_same_data_same_page(html):
    again = report_data()
    assert render(again).split("<h2>How it was made")[0] == html.split("<h2>How it was made")[0]


@pytest.mark.usefixtures("blank_figures")
def test_a_second_opening_of_the_test_split_is_a_warning(page):
    twice = _Page(render(report_data(record=record(openings=2), histories={}, comparison=None, distilled=None)))
    assert "opened 2 times" in twice.text
    assert "optimistic" in twice.text
    assert "optimistic" not in page.text


@pytest.mark.parametrize("init", ["real", ""])
def test_images_that_may_show_a_patient_are_not_drawn(init):
    page = _Page(render(report_data(distilled=distilled(init), comparison=None, histories={})))
    assert page.images == {}
    assert "Images not shown" in page.text


def explained() -> Explanations:
    rng = np.random.default_rng(0)
    arms = ("full", "iadd")
    case = ExplainedCase(
        outcome="only full is right",
        truth="Normal",
        image=rng.random((16, 16)),
        maps={arm: rng.random((16, 16)) for arm in arms},
        called={"full": ("Normal", 0.8), "iadd": ("Pneumonia", 0.6)},
    )
    return Explanations("convnet", "Cases were drawn at random.", {"only full is right": 7}, [case, case])


@pytest.mark.usefixtures("blank_figures")
def test_a_page_with_patients_is_marked_and_others_are_not(page):
    shown = _Page(render(report_data(explanations=explained())))
    assert shown.text.count("Contains patients' images: do not share") == 2
    assert "DO NOT SHARE" in shown.text
    assert "This page holds no X-ray of a patient" not in shown.text
    assert "What to do next" not in shown.text  # what the other report tells is not told twice
    assert "saliency" in shown.ids
    assert "only full is right: 7" in shown.text
    assert "Cases were drawn at random." in shown.text
    for mark in ("do not share", "DO NOT SHARE"):
        assert mark not in page.text
    assert "This page holds no X-ray of a patient" in page.text


@pytest.mark.usefixtures("blank_figures")
def test_what_the_audit_found_is_on_the_page(page):
    rows = [
        {"attack": "linkage", "measure": "p, pixels", "estimate": 0.4321, "limit": 0.01, "passed": True},
        {
            "attack": "LiRA",
            "measure": "TPR",
            "estimate": 0.02,
            "low": 0.01,
            "high": 0.05,
            "limit": 0.03,
            "passed": False,
        },
        {"attack": "planted canaries", "measure": "TPR", "estimate": "not resolvable", "limit": 0.1, "passed": False},
    ]
    told = {
        "audited": True,
        "statement": "Not released: no gate was passed.",
        "policy": {"name": "default"},
        "measurements": rows,
    }
    shown = _Page(render(report_data(privacy=from_json(PrivacySection, told, "a section"))))
    for words in (
        "Not released: no gate was passed.",
        "linkage p, pixels 0.432 0.01 yes",
        "LiRA TPR 0.02 [0.01, 0.05] 0.03 no",
        "planted canaries TPR not resolvable 0.1 no",
    ):
        assert words in shown.text
        assert words not in page.text
    assert "have the set audited" in page.text
    assert "have the set audited" not in shown.text


def test_maps_are_drawn_over_the_image_that_they_belong_to():
    flat = dataclasses.replace(explained().cases[0], maps={arm: np.zeros((16, 16)) for arm in ("full", "iadd")})
    with_maps, without = (
        saliency(dataclasses.replace(explained(), cases=[case])) for case in (explained().cases[0], flat)
    )
    assert with_maps.source != without.source
    assert with_maps.source.startswith("data:image/png")


def test_no_file_name_gets_out(html):
    assert "PHANTOM^" not in html
    assert "ward7" not in html
    assert hashlib.sha256(b"ward7/blank.png").hexdigest()[:12] in html


def test_reasons_are_counted_without_the_names_in_them():
    rows = [("a/PHANTOM^A.dcm", "PHANTOM^A.dcm: cut"), ("PHANTOM^B.dcm", "PHANTOM^B.dcm: cut"), ("c.png", "constant")]
    assert [(reason, n) for reason, n, _ in quarantine_by_reason(rows)] == [("(file): cut", 2), ("constant", 1)]
    many = quarantine_by_reason([(f"{i}.png", "constant") for i in range(50)])
    assert many[0][1] == 50
    assert len(many[0][2]) == 20


def test_names_from_the_data_cannot_become_markup():
    nasty = '<script>alert("x")</script>'
    splits = {nasty: {"train": 3}}
    html = render(ReportData(title=nasty, class_names=(nasty,), record=RunRecord(command=nasty), splits=splits))
    assert "script" not in _Page(html).tags


def test_a_bare_run_still_gives_a_page():
    page = _Page(render(ReportData("a start", NAMES, RunRecord())))
    assert page.images == {}
    assert "The record names no opening of the test split." in page.text
    assert "Results" not in page.text


@pytest.mark.usefixtures("blank_figures")
def test_several_architectures_and_many_classes_are_told_apart():
    page = _Page(render(report_data(comparison=comparison(("convnet", "resnet18")), histories={})))
    assert page.text.count("resnet18") >= 3 * len(ARMS)


def test_findings_do_not_claim_what_an_interval_does_not_show():
    table = comparison()
    said = next(one for one in findings(table) if one.startswith(IADD_INSTEAD_OF_MTT))
    assert "does not show a difference" in said
    for estimate, told in ((0.05, "above zero"), (-0.05, "below zero")):
        first = dataclasses.replace(
            table.differences[0], bootstrap=Interval(estimate, estimate - 0.02, estimate + 0.02)
        )
        changed = dataclasses.replace(table, differences=(first, *table.differences[1:]))
        assert told in next(one for one in findings(changed) if one.startswith(IADD_INSTEAD_OF_MTT))


def test_confounding_is_seen_where_it_is_and_only_there():
    assert confounded_sites({"a": {"x": 5}, "b": {"y": 5}}, ["x", "y"]) != []
    assert confounded_sites({"a": {"x": 5, "y": 1}, "b": {"y": 5, "x": 1}}, ["x", "y"]) == []
    assert confounded_sites({"a": {"x": 5, "y": 1}}, ["x", "y"]) == []


def test_grid_shows_the_images_it_was_given():
    """Black and white images come out black and white, in the row of their class."""
    images = torch.stack([torch.full((1, 8, 8), value) for value in (-9.0, 9.0, -9.0)])
    picture = distilled_images(dataclasses.replace(distilled(ipc=1, size=8), images=images))
    grey = Image.open(io.BytesIO(base64.b64decode(picture.source.split(",")[1]))).convert("L")
    width, height = grey.size
    column = [grey.getpixel((round(width * 0.25), round(height * share))) for share in (1 / 6, 3 / 6, 5 / 6)]
    assert column[0] < 30
    assert column[1] > 225
    assert column[2] < 30


def test_importance_is_drawn_only_where_it_was_learned():
    assert importance(histories()["mtt"], "mtt") is None
    assert "12 tensors" in importance(histories()["iadd"], "iadd").alt


def test_curves_leave_out_what_was_not_scored():
    unscored = [{"step": 1, "loss": 0.9, "alpha": 0.02, "seconds": 1.0}]
    assert "validation" not in curves({"mtt": unscored}).alt
    assert "validation" in curves(histories()).alt


def test_a_set_that_was_drawn_has_no_curves_beside_those_that_took_steps():
    drawn = _Page(render(report_data(histories={"mixture": []})))
    assert "How the distillation went" not in drawn.text
    both = _Page(render(report_data(histories={**histories(), "mixture": []})))
    assert "How the distillation went" in both.text


def test_arms_never_share_a_look():
    known = [*ARMS, "pp", "pad", "herding"]
    looks = [style_of(arm, known) for arm in known]
    assert len({look.color for look in looks}) == len(known)
    assert len({look.marker for look in looks}) == len(known)
