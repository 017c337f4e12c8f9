"""The folder picker cannot leave its root, and names that come from outside become plain."""

from __future__ import annotations

import pytest

from medidistill.errors import ConfigError


@pytest.fixture
def places(root):
    from view_models import places

    return places


@pytest.fixture
def tree(tmp_path):
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    (allowed / "a" / "b").mkdir(parents=True)
    (allowed / ".hidden").mkdir()
    (outside / "secret").mkdir(parents=True)
    (allowed / "way-out").symlink_to(outside)
    (allowed / "way-up").symlink_to("..")
    (allowed / "shortcut").symlink_to(allowed / "a")
    (allowed / "file").write_text("")
    return allowed


def folders_here(test):
    """Return the list of folders that the page offers."""
    (found,) = (box for box in test.selectbox if "Open a folder" in box.label)
    return found


def test_inside_follows_links_before_it_judges(places, tree):
    assert places.inside(tree, tree / "a" / ".." / "a") == tree / "a"
    assert places.inside(tree, tree / "shortcut") == tree / "a"
    for way in ("way-out", "way-out/secret", "way-up", "../outside", "a/../../outside"):
        with pytest.raises(ConfigError, match="outside of the folders"):
            places.inside(tree, tree / way)


def test_a_neighbour_with_the_same_beginning_is_outside(places, tree):
    (tree.parent / "allowed-too").mkdir()
    with pytest.raises(ConfigError):
        places.inside(tree, tree.parent / "allowed-too")


def test_folders_on_offer_stay_inside(places, tree):
    assert [one.name for one in places.subfolders(tree, tree)] == ["a", "shortcut"]


def test_picker_falls_back_to_its_root_when_the_session_is_told_to_leave(open_page, root, tmp_path):
    (root / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    test = open_page("data", data_here=str(tmp_path / "theirs"))
    assert test.session_state["data_here"] == str(root)
    assert folders_here(test).options == ["(this folder)", "mine"]


def test_picker_goes_down_and_up(open_page, root):
    (root / "xrays" / "deep").mkdir(parents=True)
    test = open_page("data")
    folders_here(test).set_value("xrays").run()
    assert test.session_state["data_here"] == str(root / "xrays")
    assert folders_here(test).options == ["(this folder)", "deep"]
    test.button("data_up").click().run()
    assert test.session_state["data_here"] == str(root)
    assert folders_here(test).value == "(this folder)"


def test_picker_goes_down_once_when_a_browser_sends_the_choice_twice(open_page, root):
    (root / "xrays" / "deep").mkdir(parents=True)
    test = open_page("data")
    folders_here(test).set_value("xrays")
    sent = test._tree.get_widget_states()  # as a browser sends it, again where the page is drawn anew too soon
    test._run(sent)
    test._run(sent)
    assert test.session_state["data_here"] == str(root / "xrays")


@pytest.mark.parametrize(
    ("text", "name"),
    [("../../etc", "etc"), ("PHANTOM^Jane 1970", "phantom-jane-1970"), ("...", ""), ("x" * 90, "x" * 40)],
)
def test_names_become_plain(places, text, name):
    assert places.plain_name(text) == name


def test_folders_are_never_taken_twice(places, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first-2").mkdir()
    assert places.free_folder(tmp_path, "First").name == "first-3"
    assert places.free_folder(tmp_path, "///").name == "run"
