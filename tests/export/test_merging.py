from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from medidistill.config import NetworkConfig, SourceConfig
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.errors import ConfigError, IngestError
from medidistill.export import load
from medidistill.export.merging import ClassMapping, Part, merge_sets, one_sided_classes, read_part, sources_of
from medidistill.export.reading import Bundle
from medidistill.spectral_images import SpectralImages

from .bundle_example import CLASSES, make_set, write


def part(name: str, distilled: DistilledSet | None = None, **facts: object) -> Part:
    values = {one.name: getattr(distilled or make_set(), one.name) for one in dataclasses.fields(DistilledSet)}
    return Part(name, Bundle(**values, facts={"name": name, **facts}), "0" * 64)


def other(**changes: object) -> DistilledSet:
    return make_set(**({"images": make_set().images.flip(-1)} | changes))


def test_classes_in_another_order_keep_their_images() -> None:
    turned = (CLASSES[2], CLASSES[0], CLASSES[1])
    merged = merge_sets([part("A"), part("B", other(class_names=turned))])
    assert merged.class_names == CLASSES
    assert len(merged) == 18
    before = [turned[label] for label in make_set().labels]
    assert [CLASSES[label] for label in merged.labels[9:]] == before
    assert (merged.recipe["method"], merged.recipe["init"]) == ("iadd", "noise")


def test_hard_and_soft_labels_become_soft_with_their_columns() -> None:
    turned = (CLASSES[1], CLASSES[0], CLASSES[2])
    soft = torch.tensor([[0.7, 0.2, 0.1]]).repeat(9, 1)
    merged = merge_sets([part("A"), part("B", other(class_names=turned, soft_labels=soft))])
    assert merged.soft_labels is not None
    torch.testing.assert_close(merged.soft_labels[:9], torch.eye(3)[make_set().labels])
    torch.testing.assert_close(merged.soft_labels[9], torch.tensor([0.2, 0.7, 0.1]))


def test_one_part_from_real_images_marks_the_whole() -> None:
    merged = merge_sets([part("A"), part("B", other(recipe={"method": "mtt", "init": "real"}))])
    assert (merged.recipe["method"], merged.recipe["init"]) == ("merged", "real")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"class_names": ("COVID", "Normal", "Viral, other")},
            r"B: other classes than A: COVID-19 missing, COVID more",
        ),
        ({"normalisation": Normalisation("fixed")}, "B: normalisation .*'fixed'.* differs from .*'per_image'"),
        ({"network": NetworkConfig(width=9)}, "B: network .*'width': 9.* differs"),
        ({"images": torch.rand(9, 1, 8, 8)}, r"B: image shape \[1, 8, 8\] differs from \[1, 16, 16\] of A"),
        ({"images": make_set().images}, "B: holds the same images as A"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_difference(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        merge_sets([part("A"), part("B", other(**changes))])


def test_one_bundle_is_not_merged() -> None:
    with pytest.raises(ConfigError, match="at least two"):
        merge_sets([part("A")])


def test_sources_are_joined_once_and_silence_is_kept() -> None:
    row = {"name": "North", "licence": "CC-BY-4.0", "url": "", "citation": ""}
    found = sources_of([part("A", sources=[row]), part("B", sources=[row]), part("C", sources=[])])
    assert found == (SourceConfig("North", "CC-BY-4.0"), SourceConfig("bundle C (no source named)"))
    with pytest.raises(IngestError, match="A: its sources cannot be read"):
        sources_of([part("A", sources=[{"licence": "x"}])])


def test_parts_are_verified_and_renamed(tmp_path: Path) -> None:
    folder = write(tmp_path / "b", make_set(class_names=("COVID", "Normal", "Viral, other")))
    read = read_part(folder, {"COVID": "COVID-19", "absent": "x"})
    assert read.bundle.class_names == CLASSES
    assert read.provenance()["recipe"]["classes"][0] == "COVID"
    with pytest.raises(ConfigError, match="two classes one name"):
        read_part(folder, {"COVID": "Normal"})
    (folder / "README.md").write_text("changed")
    with pytest.raises(IngestError, match=r"does not verify.*README\.md: changed"):
        read_part(folder)


def test_a_merged_bundle_carries_every_provenance(tmp_path: Path) -> None:
    merged = merge_sets([part("A"), part("B", other())])
    recipe = load(write(tmp_path / "part")).facts
    rows = [{"name": name, "sha256sums": "0" * 64, "recipe": dict(recipe)} for name in ("A", "B")]
    folder = write(tmp_path / "merged", merged, merged_from=rows)
    assert [one["name"] for one in load(folder).facts["merged_from"]] == ["A", "B"]
    assert "| A | 9 | iadd, noise | `0000000000000000` | No audit was made" in (folder / "README.md").read_text()


NORTH = ("Bacterial", "Covid", "Healthy", "Viral")
JOINED = {"Bacterial": "Pneumonia", "Viral": "Pneumonia", "Covid": "COVID-19", "Healthy": "Normal"}
MERGED = ("COVID-19", "Normal", "Pneumonia")


def vocabulary(folder: Path, names: tuple[str, ...], soft: torch.Tensor | None = None, **changes: object) -> Path:
    labels = torch.arange(9) % len(names)
    images = make_set().images.roll(len(names), -1)
    return write(folder, make_set(images=images, labels=labels, class_names=names, soft_labels=soft, **changes))


def test_two_vocabularies_become_one(tmp_path: Path) -> None:
    north, south = vocabulary(tmp_path / "n", NORTH), vocabulary(tmp_path / "s", ("COVID-19", "Normal", "Other"))
    parts = [
        read_part(north, mapping=ClassMapping(MERGED, JOINED)),
        read_part(south, mapping=ClassMapping(MERGED, {"Other": None})),
    ]
    merged = merge_sets(parts)
    assert merged.class_names == MERGED
    before = [JOINED[NORTH[label]] for label in load(north).labels]
    assert [MERGED[label] for label in merged.labels[:9]] == before
    # the three images of the class that is left out are gone, the others stay themselves
    kept = load(south).labels < 2
    assert len(merged) == 9 + 6
    torch.testing.assert_close(merged.images[9:], load(south).images[kept])
    assert merged.labels[9:].tolist() == load(south).labels[kept].tolist()
    assert parts[0].provenance()["classes"] == JOINED
    assert parts[1].provenance()["classes"] == {"Other": None}
    assert one_sided_classes(parts) == {"Pneumonia": "Phantom Run 1"}


def test_a_packed_bundle_loses_the_images_of_a_left_out_class(tmp_path: Path) -> None:
    packed = SpectralImages.of(make_set().images, 8)
    folder = write(tmp_path / "b", make_set(images=packed.decode(), packed=packed))
    names = load(folder).class_names
    kept = read_part(folder, mapping=ClassMapping(names[:2], {names[2]: None})).bundle
    torch.testing.assert_close(kept.images, packed.decode()[load(folder).labels < 2])
    assert kept.packed is None


def test_learned_labels_of_joined_classes_add_up_and_of_left_out_ones_are_spread(tmp_path: Path) -> None:
    soft = torch.tensor([[0.4, 0.1, 0.2, 0.3]]).repeat(9, 1)
    joined = read_part(vocabulary(tmp_path / "n", NORTH, soft), mapping=ClassMapping(MERGED, JOINED))
    torch.testing.assert_close(joined.bundle.soft_labels, torch.tensor([[0.1, 0.2, 0.7]]).repeat(9, 1))
    without = read_part(tmp_path / "n", mapping=ClassMapping(MERGED, {**JOINED, "Viral": None}))
    assert len(without.bundle) == 7
    torch.testing.assert_close(without.bundle.soft_labels, torch.tensor([[1, 2, 4]]).repeat(7, 1) / 7.0)
    alone = torch.eye(4)[torch.full((9,), 3)]
    folder = vocabulary(tmp_path / "alone", NORTH, alone)
    with pytest.raises(ConfigError, match="learned labels of 7 images lie on left-out classes alone"):
        read_part(folder, mapping=ClassMapping(MERGED, {**JOINED, "Viral": None}))


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"Covid": "COVID-19"}, "class 'Bacterial' is not mapped and none of COVID-19, Normal, Pneumonia"),
        ({**JOINED, "Vral": "Pneumonia"}, r"has no class 'Vral' \(did you mean 'Viral'\?\)"),
        (dict.fromkeys(NORTH), "every class is left out"),
    ],
)
def test_a_mapping_that_does_not_fit_its_bundle_is_refused(
    tmp_path: Path, targets: dict[str, str | None], said: str
) -> None:
    folder = vocabulary(tmp_path / "n", NORTH)
    with pytest.raises(ConfigError, match=said):
        read_part(folder, mapping=ClassMapping(MERGED, targets))


def test_a_class_without_an_image_in_any_bundle_is_refused(tmp_path: Path) -> None:
    mapping = ClassMapping((*MERGED, "Tuberculosis"), JOINED)
    parts = [read_part(vocabulary(tmp_path / "n", NORTH), mapping=mapping)]
    parts += [read_part(vocabulary(tmp_path / "s", MERGED), mapping=ClassMapping(mapping.classes))]
    with pytest.raises(ConfigError, match="no image of class Tuberculosis in any bundle"):
        merge_sets(parts)
