"""Files as they are written today are read into dataclasses and written again key for key; older ones are read too.

`stored/` was written by a run on phantoms, and `clinical.json.gz` by `clinical_comparison` on the example below, before
results were dataclasses.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from medidistill.config import PolicyConfig
from medidistill.config.fields import rules
from medidistill.errors import ConfigError, IngestError
from medidistill.evaluate.clinical import ProbeData
from medidistill.pipeline.runfolder.status import describe
from medidistill.privacy.events import Claim, Event, ProvenanceLog
from medidistill.privacy.gate import Budget, Override, apply_overrides, evaluate_policy
from medidistill.privacy.statement import privacy_statement
from medidistill.results.audit import AuditDocument
from medidistill.results.bundle import BundleEvaluation
from medidistill.results.clinical import ClinicalComparison
from medidistill.results.comparison import Comparison
from medidistill.results.privacy_section import PrivacySection
from medidistill.results.run_status import RunStatus
from medidistill.results.serialise import from_json, to_json
from medidistill.results.verdict import Verdict
from medidistill.statistics import SUPPRESSED, Interval, Suppressed, Undefined

from ..evaluate.clinical.clinical_example import PATIENTS, TEST, compared, run

STORED = Path(__file__).parent / "stored"


def stored(name: str) -> dict:
    return json.loads((STORED / f"{name}.json").read_text())


def stored_clinical() -> dict:
    return json.loads(gzip.decompress((STORED / "clinical.json.gz").read_bytes()))


@pytest.mark.parametrize(("kind", "name"), [(Comparison, "comparison"), (Verdict, "verdict"), (AuditDocument, "audit")])
def test_a_stored_result_is_read_and_written_again_key_for_key(kind, name):
    plain = stored(name)
    if name == "audit":
        plain |= {"patient_units": ["a sentence"]}  # an empty list is left out, and written by the stage
    assert kind.from_dict(plain).to_dict() == plain


def test_a_stored_evaluation_of_a_bundle_is_written_again_key_for_key():
    evaluation = stored("recipe")["evaluation"]
    assert to_json(from_json(BundleEvaluation, evaluation, "an evaluation")) == evaluation
    assert to_json(BundleEvaluation.of(Comparison.from_dict(stored("comparison")))) == evaluation


def test_gate_and_statement_write_what_they_wrote_before_results_were_dataclasses():
    audit, policy = AuditDocument.from_dict(stored("audit")), PolicyConfig()
    noise = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 10, "delta": 1e-5}
    event = Event("train_experts", "train", 45, "0" * 16, "dp_sgd", noise, when="2026-01-01T00:00:00+00:00")
    dp, found = Claim("dp", events=(event,)), []
    for claim, budget in (
        (Claim("none", reasons=("networks were trained",)), None),
        (dp, Budget(3.0, 1e-5)),
        (dp, Budget(30.0, 1e-5)),
        (Claim("no_patients"), None),
    ):
        refused = evaluate_policy(policy, audit, claim, name=audit.set, init="noise", budget=budget)
        failed = next(verdict.rule for verdict in refused if not verdict.passed)
        passed = apply_overrides(refused, [Override(failed, "a reason", "PHANTOM^Officer")])
        for verdicts, released in ((refused, False), (passed, True)):
            how = {"released": released, "budget": budget, "recipient": " ward ", "events": [event]}
            section = privacy_statement(policy, claim, verdicts, audit, **how)
            found.append({"verdicts": to_json(verdicts), "section": to_json(section)})
            assert from_json(PrivacySection, to_json(section), "a section") == section
        section = privacy_statement(policy, claim, [], None, released=False, budget=budget)
        found.append({"section": to_json(section)})
    before = stored("gate")
    for one in before:  # a section lists the policy under the names that its settings have today
        rule = {"max_delta": PolicyConfig().max_delta, **one["section"]["policy"]}  # was not asked then
        one["section"]["policy"] = {name: rule[known.formerly or name] for name, known in rules(PolicyConfig).items()}
    same(found, before)


@pytest.mark.parametrize(
    "section",
    [{"audited": False, "statement": "No audit was made: no attack was measured."}, stored("recipe")["privacy"]],
)
def test_a_privacy_section_of_any_version_is_written_again_key_for_key(section):
    assert to_json(from_json(PrivacySection, section, "a section")) == section


def test_a_stored_provenance_is_written_again_key_for_key(tmp_path):
    ProvenanceLog.load(STORED / "provenance.json").save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == stored("provenance")


def test_a_stored_status_has_the_keys_that_are_known_and_is_described():
    status = stored("status")
    assert status.keys() <= RunStatus.__annotations__.keys()
    assert "finished" in describe(status, Path("run"))


def same(found, expected):
    """Equal keys, texts and whole numbers; other numbers up to what another processor's rounding may change."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, value in zip(found, expected, strict=True):
            same(one, value)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    else:
        assert (found, type(found)) == (expected, type(expected))


def test_the_clinical_comparison_writes_what_it_wrote_before_results_were_dataclasses():
    place = np.arange(len(TEST)) // 2
    sites = [("north", "south", "east")[i % 2 if i < 172 else 2] for i in place.tolist()]
    sex = [("F", "M")[i % 2] for i in place.tolist()]
    rng = np.random.default_rng(0)
    pixels = (rng.normal(size=(len(TEST), 16, 16)) + 0.2 * place[:, None, None] % 2 for _ in range(2))
    splits = tuple(ProbeData(images, TEST, sites, PATIENTS) for images in pixels)
    runs = [run("full", 2.5), run("iadd", 60.0)]
    found = compared(runs=runs, subgroups={"site": sites, "sex": sex}, probe=splits)
    same(json.loads(json.dumps(found.to_dict(), allow_nan=False)), stored_clinical())


def test_a_stored_clinical_comparison_is_read_and_written_again_key_for_key():
    plain = stored_clinical()
    read = ClinicalComparison.from_dict(plain)
    assert read.to_dict() == plain
    hidden = [row for rows in read.subgroups.values() for row in rows if row.images == SUPPRESSED]
    assert hidden
    assert isinstance(read.arms[1].classes[0].auroc, Undefined)


def test_a_clinical_comparison_of_an_older_version_lacks_curves_and_counts_of_sites():
    plain = stored_clinical()
    for arm in plain["arms"]:
        for one in arm["classes"]:
            del one["roc"], one["precision_recall"]
    rule = plain["source_probe"]["label_from_site"]
    for key in ("macro_auroc", "sites", "one_class_sites", "patients"):
        del rule[key]
    read = ClinicalComparison.from_dict(plain)
    assert isinstance(read.arms[0].classes[0].roc, Undefined)
    assert read.source_probe.label_from_site.patients is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: plain.pop("rows"), r"not a comparison: the field 'rows' is missing @ \$"),
        (lambda plain: plain["rows"][0].pop("arm"), r"the field 'arm' is missing @ \$.rows\[0\]"),
        (
            lambda plain: plain["rows"][1].update(networks="2"),
            r"must be a whole number, found '2' @ \$.rows\[1\].networks",
        ),
        (lambda plain: plain["rows"][1].update(networks=True), r"must be a whole number, found True"),
        (lambda plain: plain.update(confidence="high"), r"must be a number, found 'high' @ \$.confidence"),
        (lambda plain: plain["rows"][0].update(balanced_accuracy=0.5), r"must be an object, found 0.5"),
        (lambda plain: plain.update(notes=[3]), r"must be text, found 3 @ \$.notes\[0\]"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place_of_each_fault(change, message):
    plain = stored("comparison")
    change(plain)
    with pytest.raises(ConfigError, match=message):
        Comparison.from_dict(plain)


@pytest.mark.parametrize("value", [None, 3, "text", [1]])
def test_what_is_no_object_is_refused_with_the_error_that_is_asked_for(value):
    with pytest.raises(IngestError, match="not a comparison: must be an object"):
        from_json(Comparison, value, "a comparison", error=IngestError)


class Letter(StrEnum):
    A = "a"


@dataclass(frozen=True)
class Sample:
    name: str = field(metadata={"json": "class"})
    letter: Letter
    figure: Interval | Undefined | Suppressed
    count: int | Suppressed
    extra: float | None = field(default=None, metadata={"optional": True})
    hidden: int = field(default=7, metadata={"stored": False})


@pytest.mark.parametrize(
    ("figure", "plain"),
    [
        (Interval(0.5, 0.25, 1), {"estimate": 0.5, "low": 0.25, "high": 1}),
        (Undefined("no positives"), {"undefined": "no positives"}),
        (Undefined("no limits", 1.0), {"undefined": "no limits", "estimate": 1.0}),
        (SUPPRESSED, "suppressed"),
    ],
)
def test_metadata_names_the_stored_form_and_unions_are_told_apart(figure, plain):
    sample = Sample("ill", Letter.A, figure, SUPPRESSED)
    assert to_json(sample) == {"class": "ill", "letter": "a", "figure": plain, "count": "suppressed"}
    assert from_json(Sample, {**to_json(sample), "added by a newer version": 1}, "a sample") == sample
    assert from_json(Sample, to_json(sample) | {"extra": 2, "count": 3}, "a sample").extra == 2


@pytest.mark.parametrize("changes", [{"letter": "b"}, {"figure": "hidden"}, {"figure": None}, {"count": "many"}])
def test_values_that_no_member_of_a_union_or_enum_takes_are_refused(changes):
    plain = to_json(Sample("ill", Letter.A, SUPPRESSED, 3)) | changes
    with pytest.raises(ConfigError, match=f"not a sample: .*{next(iter(changes))}"):
        from_json(Sample, plain, "a sample")
