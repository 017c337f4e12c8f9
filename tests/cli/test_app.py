"""How the app is served: to this machine alone, and with nothing that a settings file could loosen."""

from __future__ import annotations

import stat

import pytest

from medidistill.cli import main
from medidistill.cli.commands.app import give_demo, server_options
from medidistill.export import verify
from medidistill.pipeline import RunFolder, read_status


def test_server_answers_to_this_machine_alone_and_tells_nobody():
    options = server_options(8123)
    given = list(zip(options[::2], options[1::2], strict=True))
    assert dict(given)["--server.address"] == "localhost"
    assert dict(given)["--server.port"] == "8123"
    assert dict(given)["--server.enableXsrfProtection"] == "true"
    assert dict(given)["--browser.gatherUsageStats"] == "false"
    assert dict(given)["--client.showErrorDetails"] == "none"
    assert int(dict(given)["--server.maxUploadSize"]) <= 200
    assert [value for name, value in given if name == "--server.allowedHosts"] == ["localhost", "127.0.0.1", "::1"]


def test_another_name_is_added_and_the_address_stays():
    options = server_options(1, "distill.example")
    given = list(zip(options[::2], options[1::2], strict=True))
    assert ("--server.address", "localhost") in given
    assert ("--server.allowedHosts", "distill.example") in given
    assert ("--server.corsAllowedOrigins", "https://distill.example") in given


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "distill.example"], "needs --login"),
        (["--images", "nowhere"], "nowhere: no such folder"),
        (["--root", "file"], "is a file"),
    ],
)
def test_wrong_arguments_start_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["app", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_new_folder_of_runs_holds_a_finished_demo_and_others_are_left_alone(tmp_path):
    root = tmp_path / "new"
    root.mkdir()
    give_demo(root)
    run = RunFolder(root / "demo")
    assert run.holds_run()
    assert read_status(run.path)["state"] == "completed"
    assert verify(run.bundle) == []
    assert (run.evaluate / "external" / "comparison.json").is_file()
    assert (run.explained / "picture.png").is_file()
    assert stat.S_IMODE(run.ingest.stat().st_mode) == 0o700
    used = tmp_path / "used"
    used.mkdir()
    (used / "own").mkdir()
    give_demo(used)
    assert [one.name for one in used.iterdir()] == ["own"]
