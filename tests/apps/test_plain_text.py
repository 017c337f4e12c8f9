"""Text of others on the pages: of a bundle, a run, a folder. No name loads a picture or draws what it likes."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

PICTURE = "![seen](https://example.org/pixel.png)"
_LIVE = re.compile(r"(?<!\\)((?:\\\\)*)!\[|:(?:red|material)[\[/]example")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (PICTURE, "!\\[seen\\](https\\://example.org/pixel.png)"),
        (":red[x]", "\\:red\\[x\\]"),
        ("Yes: on 6", "Yes: on 6"),
        ("a\\b", "a\\\\b"),
        ("end:", "end\\:"),
    ],
)
def test_marks_become_letters(root, text, shown):
    from app_pages.parts import plain_table, plain_text

    assert plain_text(text) == shown
    assert plain_table(pd.DataFrame({"a": [text], "n": [3]})).to_numpy().tolist() == [[shown, 3]]


@pytest.mark.parametrize("text", [PICTURE, "\\" + PICTURE, "\\\\" + PICTURE, "\\\\\\" + PICTURE])
def test_a_card_loads_no_picture_however_its_mark_is_escaped(root, text):
    from app_pages.parts import without_pictures

    assert without_pictures(f"a {text} b").startswith("a \\![seen]")


@pytest.fixture
def drawn():
    """Return a function that gives every text of a page that Streamlit takes for Markdown."""

    def texts(test):
        kinds = (test.title, test.header, test.subheader, test.markdown, test.caption)
        boxes = (test.error, test.warning, test.info, test.success, test.expander, test.button, test.checkbox)
        found = [str(one.value) for kind in kinds for one in kind]
        found += [str(getattr(one, "value", "")) + str(getattr(one, "label", "")) for kind in boxes for one in kind]
        found += [image.caption for one in test.get("imgs") for image in one.proto.imgs]
        return found + [str(cell) for one in test.table for cell in one.value.to_numpy().ravel()]

    return texts


def test_nothing_in_a_received_bundle_loads_a_picture(finished, root, open_page, drawn):
    from view_models import bundles
    from view_models.places import Places

    came = bundles.receive(Places.of(), "b", bundles.zipped(finished / "bundle"))
    file = came / "recipe.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"name": PICTURE, "notice": PICTURE}))
    (came / "SHA256SUMS").write_text(f"{'0' * 64}  {PICTURE.replace('/', '')}\n")
    texts = drawn(open_page("receive"))
    assert any("seen" in one for one in texts)
    assert [one for one in texts if _LIVE.search(one)] == []


def test_no_name_of_a_run_loads_a_picture(finished, root, open_page, drawn):
    settings = finished / "run.yaml"
    settings.write_text(settings.read_text().replace("A notice that must reach the reader.", PICTURE))
    verdict = finished / "verdict.json"
    verdict.write_text(json.dumps(json.loads(verdict.read_text()) | {"warnings": [PICTURE], "colour": PICTURE}))
    label = finished.parent / ".medidistill-app" / "labels"
    label.mkdir(parents=True)
    from view_models.places import short_id

    (label / f"{short_id('first')}.json").write_text(json.dumps({"title": PICTURE, "note": PICTURE}))
    for page in ("home", "runs", "distill", "compare", "export"):
        texts = drawn(open_page(page))
        assert any("seen" in one for one in texts), page
        assert [one for one in texts if _LIVE.search(one)] == [], page
