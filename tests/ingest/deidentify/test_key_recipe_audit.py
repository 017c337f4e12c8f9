"""Keys, recipes and the audit log: what they refuse."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from medidistill.errors import ConfigError, IngestError
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify_folder, load_key, load_recipe, verify_audit
from medidistill.ingest.deidentify.keys import KEY_VARIABLE


def test_key_comes_from_a_file_or_the_environment(key: Key, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_key(key_file).fingerprint == key.fingerprint
    monkeypatch.setenv(KEY_VARIABLE, key_file.read_text() + "\n")
    assert load_key().fingerprint == key.fingerprint
    assert "horse" not in repr(key) + key.fingerprint
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_bad_keys_are_refused(key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="no key"):
        load_key()
    with pytest.raises(ConfigError, match="no such file"):
        load_key(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is no file"):
        load_key(tmp_path)
    for mode in (0o640, 0o604, 0o644):
        key_file.chmod(mode)
        with pytest.raises(ConfigError, match="others can read it"):
            load_key(key_file)
    key_file.chmod(0o600)
    key_file.write_text("short")
    with pytest.raises(ConfigError, match="has 5 bytes: must be >= 32"):
        load_key(key_file)
    key_file.write_text("ab" * 32)
    with pytest.raises(ConfigError, match="fewer than 8"):
        load_key(key_file)


def test_a_recipe_asks_for_its_key(phantoms: list[Path], key: Key, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wrong key"):
        deidentify_folder(phantoms[0].parent, tmp_path / "o", DeidentifyConfig(key_fingerprint="00" * 8), key)
    right = DeidentifyConfig(key_fingerprint=key.fingerprint)
    assert deidentify_folder(phantoms[0].parent, tmp_path / "o", right, key).written


def test_recipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("dates: remove\nremove: [ExposureIndex]\nreplace: {InstitutionName: North}\nmodalities: [DX]\n")
    config = load_recipe(path)
    assert config == DeidentifyConfig(
        dates="remove", remove=("ExposureIndex",), replace=(("InstitutionName", "North"),), modalities=("DX",)
    )
    path.write_text("# nothing yet\n")
    with pytest.raises(ConfigError, match=r"site\.yaml: is empty, or holds comments alone"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date: shift", r"unknown key 'date' \(did you mean 'dates'\?\)"),
        ("dates: shfit", "must be one of shift, retain, remove"),
        ("remove: [PatientNam]", r"did you mean 'PatientName'\?"),
        ("remove: PatientName", "must be a list"),
        ("keep: [PatientName]", "neither kept nor replaced"),
        ("keep: ['(0010,0020)']", "neither kept nor replaced"),
        ("keep: ['(0009,0010)']", "private ones are always removed"),
        ("keep: [StationName]\nremove: [StationName]", "choose one"),
        ("replace: {Rows: '3'}", "holds no plain text"),
        ("max_quarantine: 2", r"must be in \[0, 1\]"),
        ("patient_characteristics: 'yes'", "must be true or false"),
        ("modalities: []", "at least one"),
        ("key_fingerprint: 12", "text in quotes"),
        ("- a", "must hold keys"),
        ("a: [", "not a readable YAML"),
    ],
)
def test_bad_recipes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)


@pytest.fixture
def log(phantoms: list[Path], key: Key, tmp_path: Path) -> Path:
    deidentify_folder(phantoms[0].parent, tmp_path / "out", DeidentifyConfig(), key)
    return tmp_path / "out" / "audit.jsonl"


def test_log_tells_what_was_done(log: Path, key: Key) -> None:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines][:2] == ["start", "written"]
    assert ["(0010,0020)", "Z"] in [change[:2] for change in lines[1]["changes"]]
    assert verify_audit(log) == verify_audit(log, key) == []
    assert log.stat().st_mode & 0o077 == 0


def test_every_change_of_the_log_shows(log: Path, key: Key) -> None:
    lines = log.read_text().splitlines(keepends=True)
    for number in range(len(lines)):
        log.write_text("".join([*lines[:number], lines[number].replace('"line": ', '"line": 1'), *lines[number + 1 :]]))
        assert verify_audit(log) != []
        log.write_text("".join(lines[:number] + lines[number + 1 :]))
        assert verify_audit(log) != []
    log.write_text("".join([lines[1], lines[0], *lines[2:]]))
    assert verify_audit(log) != []
    log.write_text("")
    assert "no end" in verify_audit(log)[0]
    log.write_text(lines[0] + "[]\nnot JSON\n")
    assert len(verify_audit(log)) == 3
    log.write_text("".join(lines))
    with pytest.raises(ConfigError, match="another key"):
        verify_audit(log, Key(b"another key of the same length 1234567"))
    with pytest.raises(IngestError, match="not a readable audit log"):
        verify_audit(log.parent)


def test_a_log_written_anew_has_no_seal(log: Path, key: Key) -> None:
    from medidistill.ingest.deidentify.change_log import AuditLog

    forger = Key(b"the key of somebody else entirely 0123")
    with AuditLog(log.with_name("forged.jsonl"), forger) as forged:
        forged.add("start")
        forged.add("end", seal=forger.digest("seal", "x").hex(), key=key.fingerprint)
    assert verify_audit(log.with_name("forged.jsonl")) == []
    assert verify_audit(log.with_name("forged.jsonl"), key) == ["seal: was not made with this key"]
