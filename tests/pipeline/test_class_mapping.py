"""The mapping file of a merge: what it may say, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from medidistill.errors import ConfigError
from medidistill.pipeline.comparison.class_mapping import load_class_mapping

GOOD = """\
classes: [COVID-19, Normal]
bundles:
  north/bundle: {Covid: COVID-19, Healthy: Normal, Other: null}
"""


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    return [tmp_path / "north" / "bundle", tmp_path / "south" / "bundle"]


def test_a_bundle_is_named_relative_to_the_file_or_to_where_the_command_runs(
    tmp_path: Path, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text(GOOD)
    north, south = load_class_mapping(file, bundles)
    assert north.targets == {"Covid": "COVID-19", "Healthy": "Normal", "Other": None}
    assert (south.classes, south.targets) == (("COVID-19", "Normal"), {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "mapping.yaml"
    moved.write_text(GOOD)
    assert load_class_mapping(moved, [Path("south/bundle"), Path("north/bundle")])[1].targets == north.targets


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have the keys classes"),
        ("bundles: {}", "must have the keys classes"),
        ("classes: [a, b]\nclass: x", "must have the keys classes"),
        ("classes: a", "must be a list of names"),
        ("classes: [1, 2]", "quote numbers"),
        ("classes: [a]", "at least two different names"),
        ("classes: [a, a]", "at least two different names"),
        ("classes: [a, b]\nbundles: [x]", "must be a section of class names for each bundle"),
        ("classes: [a, b]\nbundles: {north: {x: a}}", "bundles.north: is not merged"),
        ("classes: [a, b]\nbundles: {north/bundle: [x]}", "must be a section such as"),
        ("classes: [a, b]\nbundles: {north/bundle: {3: a}}", "quote numbers"),
        ("classes: [a, b]\nbundles: {north/bundle: {x: 1}}", "quote numbers"),
        ("classes: [COVID-19, b]\nbundles: {north/bundle: {x: COVID19}}", "did you mean 'COVID-19'"),
        ("classes: [a, b]\nbundles: {north/bundle: {x: a}, ./north/bundle: {x: b}}", "a second time"),
        ("classes: [a, b]\nbundles: {north/bundle: {x: a, x: b}}", "'x' is given twice"),
        ("classes: [a, b", "not valid YAML"),
    ],
)
def test_what_is_no_mapping_is_refused_with_the_place(
    tmp_path: Path, bundles: list[Path], text: str, said: str
) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_class_mapping(file, bundles)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path, bundles: list[Path]) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_class_mapping(tmp_path / "none.yaml", bundles)
