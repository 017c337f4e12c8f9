"""The probe finds a planted site mark, does not find one that is not there, and knows the baseline by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError
from medidistill.evaluate.clinical.source_probe import ProbeData, label_from_site, shrink, site_probe, source_probe
from medidistill.results.serialise import to_json

HOW = {"bootstrap": 200}


def split(images: int, seed: int, mark: float, labels=None, sites=None) -> ProbeData:
    rng = np.random.default_rng(seed)
    sites = rng.integers(0, 2, images) if sites is None else sites
    labels = rng.integers(0, 2, images) if labels is None else labels
    pixels = rng.normal(size=(images, 1, 32, 32))
    pixels[:, 0, :4, :4] += mark * sites[:, None, None]
    names = [("north", "south")[site] for site in sites]
    return ProbeData(pixels, labels, names, [f"{seed}-{i}" for i in range(images)])


def test_shrinking_takes_block_means():
    image = np.arange(35 * 34, dtype=float).reshape(1, 35, 34)
    small = shrink(image, 16).reshape(16, 16)
    assert small[0, 0] == image[0, :2, :2].mean()
    assert small[15, 15] == image[0, 30:32, 30:32].mean()
    with pytest.raises(ConfigError, match=">= 16"):
        shrink(np.zeros((1, 8, 8)))


def test_a_planted_mark_is_found_and_no_mark_is_chance():
    found = site_probe(split(400, 0, 1.0), split(200, 1, 1.0), **HOW)
    assert found.chance == 0.5
    assert found.balanced_accuracy.low > 0.85
    nothing = site_probe(split(400, 0, 0.0), split(200, 1, 0.0), **HOW).balanced_accuracy
    assert nothing.low < 0.5 < nothing.high + 0.05


def test_label_from_site_by_hand():
    # north: 90 % of label 0; south: 90 % of label 1. The rule is right for 90 % of each label
    sites = np.repeat([0, 1], 100)
    labels = np.r_[np.repeat([0, 1], [90, 10]), np.repeat([0, 1], [10, 90])]
    found = label_from_site(split(200, 0, 0, labels, sites), split(200, 1, 0, labels, sites), **HOW)
    assert found.chance == 0.5
    assert found.balanced_accuracy.estimate == pytest.approx(0.9)
    assert found.balanced_accuracy.low < 0.9 < found.balanced_accuracy.high


def test_rare_labels_count_as_much_as_frequent_ones():
    # label 1 is rare, but nearly all of it is in the south: south is called 1 although 0 is the majority there
    sites = np.repeat([0, 1], [200, 100])
    labels = np.r_[np.repeat([0, 1], [198, 2]), np.repeat([0, 1], [70, 30])]
    found = label_from_site(split(300, 0, 0, labels, sites), split(300, 1, 0, labels, sites), **HOW)
    assert found.balanced_accuracy.estimate == pytest.approx((198 / 268 + 30 / 32) / 2)


def test_the_whole_marks_what_is_undefined():
    sites = np.repeat([0, 1], 100)
    labels = sites.copy()  # every label is its own site
    found = source_probe(split(200, 0, 1, labels, sites), split(200, 1, 1, labels, sites), ("a", "b"), **HOW)
    assert "a probe needs two" in found.within_class["a"].undefined
    # a rule that is right for all 100 patients of both classes: exact limits, not "undefined"
    perfect = found.label_from_site.balanced_accuracy
    assert (perfect.estimate, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx((0.025 / 2) ** (1 / 100))
    assert "no limits" in found.label_from_site.macro_auroc.undefined
    assert found.site.balanced_accuracy.estimate > 0.8
    json.dumps(to_json(found), allow_nan=False)


def test_one_site_is_undefined_and_rare_sites_are_left_out():
    sites = np.zeros(100, dtype=int)
    with pytest.raises(UndefinedError, match="a probe needs two"):
        site_probe(split(100, 0, 0, sites=sites), split(100, 1, 0, sites=sites))
    with pytest.raises(ConfigError, match="all counts must be equal"):
        ProbeData(np.zeros((2, 32, 32)), np.zeros(2, dtype=int), ["a"], ["p", "q"])


def test_sites_of_a_few_images_are_left_out():
    parts = []
    for seed in (0, 1):
        made = split(200, seed, 1.0)
        rare = ["east" if i < 9 else site for i, site in enumerate(made.sites)]
        parts.append(ProbeData(made.images, made.labels, rare, made.patient_ids))
    assert site_probe(*parts, **HOW).sites == ("north", "south")


def test_a_rare_site_is_not_given_up():
    """With a faint mark and one image in ten of the south, calling all north would be right nine times in ten."""
    sites = (np.arange(600) % 10 == 0).astype(int)
    found = site_probe(split(600, 0, 0.6, sites=sites), split(600, 1, 0.6, sites=sites), **HOW)
    assert found.balanced_accuracy.estimate > 0.7


def labelled(rows, seed=0) -> ProbeData:
    """(site, label, images) rows; every image is a patient of its own."""
    sites = [site for site, _, count in rows for _ in range(count)]
    labels = np.array([label for _, label, count in rows for _ in range(count)])
    return ProbeData(np.zeros((len(sites), 1, 16, 16)), labels, sites, [f"{seed}-{i}" for i in range(len(sites))])


def test_sites_of_one_class_and_of_few_images_count():
    # two shared sites tell nothing; a third, with 9 images of class 1 alone, names its class every time
    rows = [("north", 0, 40), ("north", 1, 40), ("south", 0, 40), ("south", 1, 40), ("east", 1, 9)]
    found = label_from_site(labelled(rows), labelled(rows, 1), **HOW)
    assert (found.sites, found.one_class_sites, found.patients) == (3, 1, 169)
    # shared sites are called 0 (80 of 80 right), east is called 1 (9 of 89): balanced accuracy (1 + 9/89) / 2
    assert found.balanced_accuracy.estimate == pytest.approx((1 + 9 / 89) / 2)
    assert found.macro_auroc.estimate == pytest.approx(0.5 + 0.5 * 9 / 89)


def test_three_classes_of_which_one_has_a_site_of_its_own():
    rows = [("clinic", 0, 30), ("clinic", 1, 30), ("ward", 2, 30)]
    found = label_from_site(labelled(rows), labelled(rows, 1), **HOW)
    # class 2 is always right; of the others the vote is shared
    assert found.balanced_accuracy.estimate == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert found.one_class_sites == 1


def test_a_site_that_training_does_not_hold_is_guessed_and_an_unknown_one_is_a_site():
    train = labelled([("a", 0, 20), ("", 1, 20)])
    known = label_from_site(train, labelled([("a", 0, 10), ("", 1, 10)], 1), **HOW).balanced_accuracy
    assert known.estimate == 1.0
    new = label_from_site(train, labelled([("b", 0, 10), ("b", 1, 10)], 1), **HOW).balanced_accuracy
    assert (new.estimate, "only guesses" in new.undefined) == (0.5, True)


def test_a_site_that_is_recognised_perfectly_is_shown_with_exact_limits():
    found = site_probe(split(400, 0, 8.0), split(60, 1, 8.0), **HOW).balanced_accuracy
    assert (found.estimate, found.high) == (1.0, 1.0)
    assert 0.7 < found.low < 0.95


@pytest.mark.parametrize("rows", [[("a", 0, 20), ("a", 1, 20)], [("a", 0, 20), ("b", 0, 20)]])
def test_one_site_or_one_class_defines_no_rule(rows):
    with pytest.raises(UndefinedError, match="a rule by site needs two"):
        label_from_site(labelled(rows), labelled(rows, 1), **HOW)
