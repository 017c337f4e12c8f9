"""The words that pages, report and card share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from medidistill.words import arm_words, criteria_note, images_per_class, origin_words, row_words, start_words


@pytest.mark.parametrize(
    ("arm", "images_per_class", "words"),
    [
        ("full", 10, "all real X-rays"),
        ("dp_full", 10, "all real X-rays with differential privacy"),
        ("packed", 10, "random real X-rays in as many bytes"),
        ("random", 10, "10 random real X-rays per class"),
        ("random", 1, "1 random real X-ray per class"),
        ("kmeans", 2, "2 real X-rays per class chosen by k-means"),
        ("random", 0, "as many random real X-rays"),
        ("herding", 0, "as many real X-rays chosen by herding"),
        ("iadd", 10, "distilled images (IADD)"),
        ("kernel_warm", 10, "distilled images (kernel warm)"),
        ("bundle-north", 10, "bundle north"),
    ],
)
def test_arm_is_named_in_words(arm: str, images_per_class: int, words: str) -> None:
    assert arm_words(arm, images_per_class) == words


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("noise", "noise"),
        ("gaussian", "draws of class Gaussians"),
        ("mixture", "draws of Gaussians of patient groups"),
        ("gaussian, noise", "draws of class Gaussians and noise"),
        ("real", None),
        ("noise, real", None),
        ("None", None),
    ],
)
def test_a_start_that_may_show_patients_has_no_words(init: str, words: str | None) -> None:
    assert start_words(init) == words


@pytest.mark.parametrize(
    ("init", "steps", "words"),
    [
        ("noise", 20, "optimised from noise"),
        ("noise", None, "optimised from noise"),
        ("mixture", 0, "draws of Gaussians of patient groups, not optimised"),
        ("mixture", 5, "optimised from draws of Gaussians of patient groups"),
        ("real", 0, None),
    ],
)
def test_images_without_a_step_are_not_called_optimised(init: str, steps: int | None, words: str | None) -> None:
    assert origin_words(init, steps) == words


def test_row_of_a_comparison_is_named_by_its_own_number() -> None:
    rows = [SimpleNamespace(arm="packed", training_images=120), SimpleNamespace(arm="kmeans", training_images=30)]
    assert [row_words(row, 3) for row in rows] == [
        "random real X-rays in as many bytes",
        "10 real X-rays per class chosen by k-means",
    ]
    assert images_per_class(rows, 3) == 10
    assert images_per_class(rows[:1], 3) == 0


def test_note_below_the_criteria_states_network_and_level() -> None:
    assert criteria_note("vgg11", 0.9).startswith("Means over fresh vgg11 networks; in brackets 90 % intervals")
