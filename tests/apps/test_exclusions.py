"""Files excluded in the viewer: the next run on the folder leaves them out, and they can be taken back."""

from __future__ import annotations

import pytest

from medidistill.errors import ConfigError
from medidistill.ingest.sources.exclusions import write_exclusions
from medidistill.pipeline import load_config

from .upload_files import picture


@pytest.fixture
def folder(root):
    for k, label in enumerate(("Normal", "Pneumonia")):
        (root / "xrays" / label).mkdir(parents=True)
        for i in range(4):
            (root / "xrays" / label / f"{i}.png").write_bytes(picture(4 * k + i))
    return root / "xrays"


def test_list_begins_with_that_of_the_folder_and_never_writes_there(places, folder):
    from view_models.exclusions import exclude_file, excluded_files, exclusions_setting, include_file

    assert excluded_files(places, folder) == {}
    write_exclusions(folder / "exclusions.csv", {"Normal/0.png": "the site said so"})
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    exclude_file(places, folder, "Pneumonia/1.png", "  a catheter  ")
    assert excluded_files(places, folder) == {"Normal/0.png": "the site said so", "Pneumonia/1.png": "a catheter"}
    include_file(places, folder, "Normal/0.png")
    include_file(places, folder, "Pneumonia/1.png")
    assert excluded_files(places, folder) == {}  # the folder's list does not come back
    assert exclusions_setting(places, folder).startswith(str(places.runs / "exclusions"))
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    with pytest.raises(ConfigError, match="say why"):
        exclude_file(places, folder, "Normal/1.png", " ")


def test_page_lists_excluded_files_and_takes_them_back(places, folder, open_page, text_of):
    from view_models.exclusions import exclude_file, excluded_files

    exclude_file(places, folder, "Normal/0.png", "a *marked* film")
    test = open_page("data", data_here=str(folder))
    assert [one.value for one in test.metric if one.label == "Images with a label"] == ["7"]
    assert "1 file is excluded by hand" in text_of(test)
    assert "Normal/0.png" not in text_of(test)  # names of files are shown with the images alone
    test.toggle("show_samples").set_value(True).run()
    assert not test.exception
    assert "Normal/0.png" in text_of(test)
    test.button("include_Normal/0.png").click().run()
    assert not test.exception
    assert excluded_files(places, folder) == {}
    assert [one.value for one in test.metric if one.label == "Images with a label"] == ["8"]


def test_new_run_on_the_folder_is_given_the_list(places, folder, root):
    from view_models.exclusions import chosen_exclusions, exclude_file
    from view_models.new_run import Changes, plan_settings
    from view_models.presets import presets

    preset = next(one for one in presets() if one.name == "quick")
    assert chosen_exclusions(places, folder) is None
    exclude_file(places, folder, "Normal/0.png", "cut off")
    changes = Changes(exclusions=chosen_exclusions(places, folder))
    settings = plan_settings(preset, changes, ("Normal", "Pneumonia"), "a run")
    config = load_config("quick", settings)
    assert config.ingest.exclusions == str(next((root / "exclusions").iterdir()))
