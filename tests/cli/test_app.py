"""How the app is served: to this machine alone, and with nothing that a settings file could loosen."""

from __future__ import annotations

import pytest

from medidistill.cli import main
from medidistill.cli.app import server_options


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
    options = server_options(1, "distil.example")
    given = list(zip(options[::2], options[1::2], strict=True))
    assert ("--server.address", "localhost") in given
    assert ("--server.allowedHosts", "distil.example") in given
    assert ("--server.corsAllowedOrigins", "https://distil.example") in given


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "distil.example"], "needs --login"),
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
