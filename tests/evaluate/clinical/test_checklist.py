"""The checklists: every number of the guideline, facts where the run has them, questions where it has none."""

from __future__ import annotations

import re

import pytest

from medidistill.config import RunConfig, as_dict
from medidistill.evaluate.clinical import ClinicalComparison, checklist
from medidistill.evaluate.clinical.checklist import _facts
from medidistill.evaluate.clinical.checklist_items import GUIDELINES
from medidistill.record import RunRecord

from .clinical_example import compared


@pytest.fixture(scope="module")
def result() -> ClinicalComparison:
    return compared(subgroups={"sex": ["F"] * 180 + ["M"] * 180})


def record() -> RunRecord:
    made = RunRecord(
        config=as_dict(RunConfig(notice="Sites and classes are confounded | beware.")),
        command="medidistill run --input /hospital/ward7",
    )
    counts = {"COVID-19": 344, "Normal": 643, "Pneumonia": 663}
    made.stage("ingest", images={"train": counts}, patients={"train": 1200}, quarantined=7)
    made.open_test("evaluate", "0" * 16)
    return made


def test_every_number_of_each_guideline_is_there():
    claim, stard, tripod = (
        [int(re.match(r"\d+", item.number)[0]) for item in items if item.number[0].isdigit()]
        for items, _ in GUIDELINES.values()
    )
    assert claim == list(range(1, 45))
    assert sorted(set(stard)) == list(range(1, 31))
    assert sorted(set(tripod)) == list(range(1, 28))
    assert all(len({item.asks for item in items}) == len(items) for items, _ in GUIDELINES.values())


def test_every_fact_that_an_item_names_exists(result):
    known = _facts(record(), result)
    for items, _ in GUIDELINES.values():
        assert {item.fact for item in items if item.fact} <= known.keys() | {"probe"}


def test_facts_of_the_run_are_filled_in_and_the_rest_is_asked(result):
    page = checklist(record(), result)
    lines = {tuple(line.split(" | ")[:2]): line for line in page.splitlines() if line.startswith("| ")}
    split = lines["| 20\\*", "At which level the splits are disjoint"]
    assert "split by patient, as far as the input names patients" in split
    assert "7 unreadable" in lines["| 12\\*", "Missing data"]
    assert "train: 1650 images of 1200 patients" in page
    assert "opened 1 time according" in page
    assert re.search(r"iadd - full \(convnet\) [-+]?0\.\d{3} \[-?0\.\d{3}, -?0\.\d{3}\], non-inferior", page)
    assert re.search(r"random - full \(convnet\) .{20,40}, inferior", page)
    assert "iadd (convnet), COVID-19: TP " in page
    ethics = lines["| 17\\*", "Ethical approval and consent"]
    assert ethics.endswith("| **Author:** Ethical approval and consent? |")
    assert "*Run:*" not in ethics
    counted = re.findall(r"(\d+) of (\d+) items have something", page)
    assert [int(total) for _, total in counted] == [len(items) for items, _ in GUIDELINES.values()]
    assert all(0 < int(some) < int(total) for some, total in counted)


def test_tables_stay_tables_and_no_path_is_printed(result):
    page = checklist(record(), result)
    assert "ward7" not in page
    assert "confounded \\| beware" in page
    for line in page.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 4
    assert "None" not in page
    assert "{" not in page


def test_an_empty_record_leaves_questions_not_holes():
    page = checklist(RunRecord(), compared())
    assert "None" not in page
    assert "*Run:*  " not in page
    assert "| **Author:** At which level the splits are disjoint? |" in page


def test_numbers_that_were_not_compared_with_the_published_list_are_marked(result):
    page = checklist(record(), result)
    stard = page.partition("## STARD")[2].partition("## TRIPOD")[0]
    numbers = [line.split(" | ")[0].removeprefix("| ") for line in stard.splitlines() if re.match(r"\| (\d|AI)", line)]
    assert numbers[:3] == ["1", "2", "3"]
    assert numbers[19:21] == ["17", "18\\*"]
    assert numbers[-1] == "AI"
    assert page.count("look it up") == 3


def test_external_data_and_explanations_are_named_where_there_are_any(result):
    plain = checklist(record(), result)
    made = record()
    made.config["evaluate"] |= {"external": "/hospital/east", "saliency": {"cases": 2, "arms": []}}
    page = checklist(made, result)
    assert "a second test set from elsewhere" in page
    assert "Grad-CAM of up to 2 test images" in page
    assert "/hospital/east" not in page
    assert "second test set" not in plain
    assert "Grad-CAM" not in plain
