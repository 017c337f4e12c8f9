"""Untrusted bundles: whatever is in them, reading ends in a set or in one line.

`pytest tests/export/test_fuzz.py --hypothesis-profile=long` goes on for as long as it is let.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from medidistill.errors import MedidistillError
from medidistill.export import load, verify
from medidistill.export.sums import sums_text

from .bundle_example import make_set

EASY = settings(deadline=None, suppress_health_check=list(HealthCheck))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, one in list(items) for place in [(value, key), *places(one)]]


def mutate(value: Any, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(value)))
        if data.draw(st.booleans()) and isinstance(container, dict):
            container.pop(key)
        else:
            container[key] = data.draw(VALUES)
        if not places(value):
            return


@pytest.fixture(scope="module")
def scratch(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(written, tmp_path_factory.mktemp("fuzz") / "bundle"))


@EASY
@given(data=st.data())
def test_a_changed_header_is_read_or_refused(scratch: Path, data: st.DataObject) -> None:
    made = make_set()
    header = made.header()
    mutate(header, data)
    file = scratch.parent / "x.safetensors"
    file.write_bytes(save({"images": made.images, "labels": made.labels}, {"medidistill": json.dumps(header)}))
    try:
        bundle = load(file)
    except MedidistillError as error:
        assert "\n" not in str(error).strip() or str(file) in str(error)  # noqa: PT017 (either outcome is right)
    else:
        assert len(bundle) == 9
        assert len(bundle.class_names) == bundle.num_classes


@EASY
@given(data=st.data())
def test_a_changed_recipe_is_verified_or_named(written: Path, scratch: Path, data: st.DataObject) -> None:
    recipe = json.loads((written / "recipe.json").read_text())
    mutate(recipe, data)
    (scratch / "recipe.json").write_text(json.dumps(recipe))
    (scratch / "SHA256SUMS").write_text(sums_text(scratch))
    assert all(isinstance(problem, str) for problem in verify(scratch))


@EASY
@given(cut=st.integers(0, 6000), more=st.binary(max_size=12), skip=st.integers(0, 12))
def test_changed_bytes_are_read_or_refused(written: Path, scratch: Path, cut: int, more: bytes, skip: int) -> None:
    whole = (written / "distilled.safetensors").read_bytes()
    file = scratch.parent / "y.safetensors"
    file.write_bytes(whole[:cut] + more + whole[cut + skip :])
    try:
        load(file)
    except MedidistillError as error:
        assert str(file) in str(error)  # noqa: PT017 (either outcome is right)
