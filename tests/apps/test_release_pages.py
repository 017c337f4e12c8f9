"""The pages Export and Privacy: what the gate asks for, what was audited, and whose bundle it is."""

from __future__ import annotations

import dataclasses
import json

import pytest

from medidistill.cli import main
from medidistill.distilled_set import DistilledSet
from medidistill.pipeline import RunFolder
from medidistill.privacy import ProvenanceLog, set_digest
from medidistill.words import method_words
from tests.support.undrawn import undrawn


def test_export_says_what_the_gate_asks_for(open_page, finished):
    test = open_page("export")
    assert "Not released: no gate was passed" in test.error[0].value
    table = test.table[0].value.set_index("rule")
    assert table.loc["audit", "kept"] == "no"
    assert "medidistill audit" in table.loc["audit", "what to do"]
    assert not [one for one in test.button if one.label == "Release it"]


def test_bundle_older_than_its_audit_says_so(open_page, finished, text_of):
    from medidistill.privacy import set_digest
    from view_models.places import Places
    from view_models.releases import exported
    from view_models.runs import read_run

    distilled = exported(read_run(Places.of(), finished))
    (finished / "audit").mkdir(exist_ok=True)
    file = finished / "audit" / "audit.json"
    file.write_text(json.dumps({"set": "of another set"}))
    assert "written before this audit" not in text_of(open_page("privacy"))
    file.write_text(json.dumps({"set": set_digest(distilled)}))
    test = open_page("privacy")
    assert "written before this audit" in text_of(test)
    assert test.button("again").label == "Write bundle and report again"


@pytest.fixture
def delivered_again(finished):
    """The run, and the methods of its released bundle and of the set that it delivers since, which the gate refused."""
    settings, provenance = finished / "run.yaml", finished / "provenance.json"
    settings.write_text(settings.read_text().replace("policy: default", "policy: phantom"))
    assert main(["export", "--output", str(finished), "--release", "--quiet"]) == 0
    events = [dataclasses.replace(one, origin="patients") for one in ProvenanceLog.load(provenance).events]
    ProvenanceLog(events).save(provenance)
    before = json.loads((finished / "bundle" / "recipe.json").read_text())["method"]
    now = next(method for method in ("mtt", "iadd") if method != before)
    with undrawn():
        assert main(["run", "--output", str(finished), "--resume", "--set", f"deliver={now}", "--quiet"]) == 4
    return before, now


def test_a_released_bundle_of_another_set_is_not_offered_as_the_delivered_one(delivered_again, open_page, text_of):
    before, now = (method_words(method) for method in delivered_again)
    test = open_page("export")
    assert not [one.value for one in test.success if one.value.startswith("Released")]
    (said,) = [one.value for one in test.warning if "not of the delivered set" in one.value]
    assert f"the set of {before}" in said
    assert f"the set of {now}" in said
    (offered,) = test.download_button
    assert offered.label.startswith(f"Download the bundle of the set of {before}, not of the delivered one")
    assert test.table[0].value.set_index("rule").loc["phantom", "kept"] == "no"  # the gate, on the delivered set
    assert f"What the bundle says of the set of {before}, not of the delivered one" in text_of(open_page("privacy"))
    assert "written, not released" in text_of(open_page("home"))


def test_an_audit_of_another_set_shows_no_figure_beside_the_delivered_one(open_page, finished, text_of):
    from view_models.places import Places
    from view_models.releases import exported
    from view_models.runs import read_run

    delivered = exported(read_run(Places.of(), finished))
    other = next(method for method in ("mtt", "iadd") if method != delivered.recipe["method"])
    audited = DistilledSet.load(RunFolder(finished).distill(other) / "distilled.safetensors")
    folder = finished / "audit"
    folder.mkdir(exist_ok=True)
    (folder / "privacy-report.md").write_text("What the attacks found.")

    def shown(name):
        (folder / "audit.json").write_text(json.dumps({"set": name, "audits": {"lira": {"auc": 0.501}}}))
        test = open_page("privacy")
        return [one.value for one in test.error], text_of(test), len(test.dataframe)

    errors, text, tables = shown(set_digest(audited))
    assert errors == [f"**This audit is about another set (method {method_words(other)}): audit again.**"]
    assert ("What the attacks found." in text, tables) == (False, 0)
    errors, text, tables = shown("0123456789abcdef")
    assert "**This audit is about another set (of a method that this run does not hold)" in errors[0]
    assert ("What the attacks found." in text, tables) == (False, 0)
    errors, text, tables = shown(set_digest(delivered))
    assert (errors, "What the attacks found." in text, tables) == ([], True, 1)


def test_privacy_without_an_audit_says_that_nothing_is_known(open_page, finished, text_of):
    test = open_page("privacy")
    assert "Nothing was audited" in test.error[0].value
    assert "must not be called anonymous" in text_of(test)


def test_privacy_shows_what_was_audited(open_page, finished):
    (finished / "audit").mkdir(exist_ok=True)
    attack = {"auc": {"estimate": 0.61, "low": 0.52, "high": 0.7}, "verdict": "fails"}
    (finished / "audit" / "membership.json").write_text(json.dumps(attack))
    test = open_page("privacy")
    assert not test.error
    table = test.dataframe[0].value
    assert dict(zip(table["what"], table["value"], strict=True)) == {
        "auc": "0.610 [0.520, 0.700]",
        "verdict": "fails",
    }


def test_export_offers_the_bundle_only_while_it_is_whole(open_page, finished, text_of):
    assert "Whole" in text_of(open_page("export"))
    (finished / "bundle" / "README.md").write_text("changed")
    test = open_page("export")
    assert "differs from its checksums" in test.error[0].value
    assert not test.download_button


def test_a_bundle_without_a_word_of_the_gate_counts_as_not_released(open_page, finished):
    from view_models.places import Places
    from view_models.releases import read_standing
    from view_models.runs import read_run

    file = finished / "bundle" / "recipe.json"
    recipe = json.loads(file.read_text())
    recipe["privacy"] = {"statement": "Nothing is known."}
    file.write_text(json.dumps(recipe))
    standing = read_standing(read_run(Places.of(), finished))
    assert (standing.released, standing.current) == (False, True)
    open_page("privacy")


def test_privacy_says_what_the_numbers_of_a_run_cannot_show(open_page, finished, text_of):
    assert "rule linkage: 3 released images cannot give a p value below 0.01" in text_of(open_page("privacy"))
    (finished / "release-check.json").unlink()  # a run of before
    assert "rule linkage" not in text_of(open_page("privacy"))


def test_override_needs_every_failed_rule_a_name_and_a_reason(open_page, finished, monkeypatch):
    from view_models import runs

    started = []

    def start(folder, arguments, **_):
        started.append(list(arguments))
        folder.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(runs, "start", start)
    test = open_page("export")
    assert test.download_button[0].label.startswith("Download for use inside, not released")
    failed = test.multiselect("override_rules").options
    test.button("override").click().run()
    assert "Not ticked" in test.error[-1].value
    test.multiselect("override_rules").set_value(list(failed)).run()
    test.button("override").click().run()
    assert "needs a reason and the name" in test.error[-1].value
    assert not started
    test.text_input("override_by").set_value("The head of the department").run()
    test.text_area("override_reason").set_value("Phantoms only.").run()
    test.button("override").click().run()
    assert not test.exception
    (arguments,) = started
    assert arguments[:2] == ["export", "--output"]
    assert [arguments[n + 1] for n, word in enumerate(arguments) if word == "--override"] == list(failed)
    assert arguments[-4:] == ["--reason", "Phantoms only.", "--by", "The head of the department"]


def test_export_says_that_releases_of_private_runs_add_up(open_page, finished, text_of):
    settings = finished / "run.yaml"
    assert "Releases of the same patients add up" not in text_of(open_page("export"))
    before, after = settings.read_text().split("  dp:\n    enabled: false\n")
    settings.write_text(f"{before}  dp:\n    enabled: true\n{after}")
    assert "Releases of the same patients add up" in text_of(open_page("export"))


def test_export_says_that_the_provenance_is_lost(open_page, finished, text_of):
    (finished / "provenance.json").unlink()
    test = open_page("export")
    assert "provenance.json: missing" in text_of(test)
    assert not [one for one in test.button if one.label == "Release it"]
