"""When an output folder may be written into, and what `--force` may delete."""

from __future__ import annotations

import pytest

from medidistill.config import RunConfig
from medidistill.errors import ConfigError, ResourceError
from medidistill.pipeline.config_io.config_file import load_config
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.record import RunRecord


@pytest.fixture
def held(tmp_path):
    folder = RunFolder.create(tmp_path / "out", RunConfig())
    (folder.path / "ingest").mkdir()
    (folder.path / "ingest" / "x").write_text("kept")
    return folder


def finish_ingest(folder):
    record = RunRecord()
    record.stage("ingest", inputs="x")
    record.save(folder.record_file)


def test_while_nothing_has_finished_settings_and_input_may_change(tmp_path):
    folder = RunFolder.create(tmp_path / "out", RunConfig(), source=tmp_path / "mistyped")
    config = load_config(None, ["ingest.max_quarantine=0.5", "seed=4"])
    RunFolder.create(folder.path, config, resume=True, source=tmp_path / "right")
    assert load_config(folder.config_file) == config
    assert folder.noted_source() == tmp_path / "right"
    finish_ingest(folder)
    RunFolder.create(folder.path, config, resume=True, source=tmp_path / "another")
    assert folder.noted_source() == tmp_path / "right"  # refused where it is used, see `source_of`


def test_new_folder_gets_the_configuration(tmp_path):
    config = load_config(None, ["distill.ipc=3"])
    folder = RunFolder.create(tmp_path / "deep" / "out", config)
    assert load_config(folder.config_file) == config
    assert folder.holds_run()


def test_existing_run_is_refused_and_left_as_it_was(held):
    before = {path: path.stat().st_mtime_ns for path in held.path.rglob("*")}
    with pytest.raises(ConfigError, match="already holds a run; --resume continues it, --force"):
        RunFolder.create(held.path, RunConfig())
    assert {path: path.stat().st_mtime_ns for path in held.path.rglob("*")} == before


def test_resume_keeps_and_names_a_changed_key(held):
    assert RunFolder.create(held.path, RunConfig(), resume=True) == held
    assert (held.path / "ingest" / "x").read_text() == "kept"
    finish_ingest(held)
    with pytest.raises(ConfigError, match=r"seed: 0 -> 4"):
        RunFolder.create(held.path, RunConfig(seed=4), resume=True)


def test_force_deletes_the_run_and_nothing_else(held):
    (held.path / "notes.txt").write_text("mine")
    folder = RunFolder.create(held.path, RunConfig(seed=4), force=True)
    assert not folder.ingest.exists()
    assert (held.path / "notes.txt").read_text() == "mine"
    assert load_config(folder.config_file).seed == 4


@pytest.mark.parametrize("how", [{}, {"force": True}, {"resume": True}])
def test_foreign_folder_is_never_touched(tmp_path, how):
    (tmp_path / "run.yaml").write_text("somebody: else\n")
    (tmp_path / "ingest").mkdir()
    with pytest.raises(ConfigError, match="not empty and not a medidistill run"):
        RunFolder.create(tmp_path, RunConfig(), **how)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ingest", "run.yaml"]


def test_force_does_not_follow_links(held, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "x").write_text("mine")
    (held.path / "experts").symlink_to(precious)
    RunFolder.create(held.path, RunConfig(), force=True)
    assert (precious / "x").read_text() == "mine"


def test_a_file_and_a_missing_run_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder.create(tmp_path / "file", RunConfig())
    with pytest.raises(ConfigError, match="holds no medidistill run"):
        RunFolder.open(tmp_path)


def test_second_process_is_kept_out(held):
    with held.locked(), pytest.raises(ResourceError, match="another medidistill process"), held.locked():
        pass
    with held.locked():
        pass
