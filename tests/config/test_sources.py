from __future__ import annotations

import re
from pathlib import Path

import pytest

from medidistill.config import RunConfig, SourceConfig, combine
from medidistill.errors import ConfigError
from medidistill.pipeline import dump_config, load_config


def sources(*licences: str) -> list[SourceConfig]:
    return [SourceConfig(f"S{number}", licence) for number, licence in enumerate(licences)]


@pytest.mark.parametrize(
    ("licences", "identifier", "commercial"),
    [
        ((), "unknown", None),
        (("CC0-1.0",), "CC0-1.0", True),
        (("CC0-1.0", "MIT"), "CC-BY-4.0", True),
        (("CC-BY-4.0", "CC-BY-NC-3.0"), "CC-BY-NC-4.0", False),
        (("CC-BY-SA-4.0", "CC-BY-4.0"), "CC-BY-SA-4.0", True),
        (("CC-BY-NC-SA-4.0", "CC-BY-NC-4.0"), "CC-BY-NC-SA-4.0", False),
        (("CC-BY-4.0", "LicenseRef-Clinic"), "other", None),
        (("CC-BY-NC-4.0", "LicenseRef-Clinic"), "other", False),
        (("CC-BY-4.0", ""), "unknown", None),
    ],
)
def test_the_strictest_source_decides(licences: tuple[str, ...], identifier: str, commercial: bool | None) -> None:
    found = combine(sources(*licences))
    assert (found.identifier, found.commercial) == (identifier, commercial)


@pytest.mark.parametrize(
    ("licences", "rows"),
    [
        (("MIT", "CC-BY-ND-4.0"), ["sources[1] (S1: CC-BY-ND-4.0)"]),
        (("CC-BY-SA-4.0", "MIT", "ODbL-1.0"), ["sources[0] (S0: CC-BY-SA-4.0)", "sources[2] (S2: ODbL-1.0)"]),
        (("CC-BY-SA-4.0", "CC-BY-NC-4.0"), ["sources[0] (S0: CC-BY-SA-4.0)", "sources[1] (S1: CC-BY-NC-4.0)"]),
    ],
)
def test_licences_that_do_not_go_together_are_refused_with_their_rows(
    licences: tuple[str, ...], rows: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        combine(sources(*licences))
    assert re.findall(r"sources\[\d\] \([^)]*\)", str(caught.value)) == rows
    with pytest.raises(ConfigError, match="sources"):
        RunConfig(sources=tuple(sources(*licences)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {name: A, licence: CC-BY-5.0}", r"sources\[0\]\.licence='CC-BY-5.0'.*did you mean 'CC-BY-4.0'"),
        ("- {name: A}\n- {name: B, licens: MIT}", r"unknown key 'sources\[1\]\.licens' \(did you mean 'licence'"),
        ("- {licence: MIT}", r"sources\[0\]\.name=''"),
        ("{name: A}", r"must be a list of sections"),
        ("- A", r"sources\[0\]='A': must be a section"),
    ],
)
def test_a_wrong_section_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.yaml").write_text("sources:\n" + "".join(f"  {line}\n" for line in text.splitlines()))
    with pytest.raises(ConfigError, match=said):
        load_config(tmp_path / "c.yaml")


def test_sources_survive_writing_and_reading(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("sources:\n- {name: Ä, licence: CC-BY-4.0, url: u, citation: c}\n- {name: B}\n")
    config = load_config(tmp_path / "c.yaml")
    assert [one.name for one in config.sources] == ["Ä", "B"]
    (tmp_path / "d.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "d.yaml") == config
