"""The ready-made pipelines as a user of the installed package gets them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medidistill.cli import main
from medidistill.pipeline.config_io.resources import PIPELINES, pipeline_folders


def test_every_folder_but_the_configurations_is_listed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = {path.name for path in (root / "pipelines").iterdir() if path.is_dir()}
    assert folders - {"configs", "__pycache__"} == set(PIPELINES) == set(pipeline_folders())
    assert main(["pipelines", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PIPELINES)


def test_a_copy_is_the_files_themselves_and_scripts_may_run(root: Path, tmp_path: Path) -> None:
    for name in PIPELINES:
        target = tmp_path / name
        assert main(["pipelines", "copy", name, str(target)]) == 0
        source = root / "pipelines" / name
        files = [p.relative_to(source) for p in source.rglob("*") if p.is_file() and p.suffix != ".pyc"]
        assert {p.relative_to(target) for p in target.rglob("*") if p.is_file()} == set(files)
        for file in files:
            assert (target / file).read_bytes() == (source / file).read_bytes()
            assert os.access(target / file, os.X_OK) is (source / file).read_bytes().startswith(b"#!")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["copy"], "name one of airflow, container"),
        (["copy", "nigthly", "x"], "did you mean 'nightly'"),
        (["copy", "nightly"], "name the new folder"),
        (["list", "nightly"], "takes no further argument"),
        (["copy", "nightly", "full"], "nothing is overwritten"),
        (["copy", "nightly", "file"], "nothing is overwritten"),
        (["copy", "nightly", "link"], "nothing is overwritten"),
    ],
)
def test_what_cannot_be_copied_is_refused_and_stays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/mine").write_text("mine")
    Path("file").write_text("mine")
    Path("link").symlink_to("nowhere")
    assert main(["pipelines", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert Path("full/mine").read_text() == Path("file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "link"]
