"""Numbers of options that nothing could be done with are refused at once, by the option's name and its range."""

from __future__ import annotations

import pytest

from medidistill.cli import main
from medidistill.errors import ConfigError
from medidistill.ingest.pacs.query import Query

LISTENING = [["receive", "in"], ["intake", "listen", "in"]]
WRONG = [
    *([*command, option, value] for command in LISTENING for option, value in [("--port", "99999"), ("--port", "-1")]),
    *([*command, option, "-1"] for command in LISTENING for option in ("--count", "--idle")),
    ["pull", "in", "--peer", "a:1", "--port", "65536"],
    ["intake", "process", "in", "--settle", "nan"],
    ["intake", "process", "in", "--min-studies", "0"],
    ["intake", "process", "in", "--keep-clean", "-0.5"],
    ["train", "bundle", "--networks", "0"],
    ["merge", "a", "b", "--output", "c", "--name", "x", "--networks", "1.5"],
    ["phantom", "out", "--patients-per-class", "2"],
]


@pytest.mark.parametrize("command", WRONG, ids=" ".join)
def test_a_number_out_of_range_is_refused_by_the_name_of_the_option(tmp_path, monkeypatch, command, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"argument {command[-2]}: {command[-1]}: must be a " in line
    assert "number >= " in line or "number in [" in line
    assert not list(tmp_path.iterdir())


def test_help_of_phantom_names_the_ranges(capsys):
    with pytest.raises(SystemExit):
        main(["phantom", "--help"])
    assert "synthetic patients in each class, in [5, 100000] (default: 40)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("dates", ["20261301", "20260230-20260301", "-20260001", "20260301-20260201"])
def test_dates_that_are_no_days_are_refused(dates):
    with pytest.raises(ConfigError, match=f"--dates {dates}: .*(no day of the calendar|ends before it begins)"):
        Query(dates)
    Query("20240229-")
