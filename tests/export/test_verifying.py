from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from medidistill.errors import ConfigError, IngestError, MedidistillError
from medidistill.export import examine, load, require_verified, sign, verify
from medidistill.export.signing import PASSPHRASE
from medidistill.export.sums import sums_text
from medidistill.results.privacy_section import PrivacySection

from .bundle_example import make_set, write

EASY = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def reseal(folder: Path) -> None:
    """What somebody does who changes a bundle and knows of its checksums."""
    (folder / "SHA256SUMS").write_text(sums_text(folder))


def change_recipe(folder: Path, **changes: object) -> None:
    recipe = json.loads((folder / "recipe.json").read_text()) | changes
    (folder / "recipe.json").write_text(json.dumps(recipe))
    reseal(folder)


def test_any_changed_byte_is_named(bundle: Path) -> None:
    draw = random.Random(0)
    for name in sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()):
        whole = (bundle / name).read_bytes()
        place = draw.randrange(len(whole))
        for changed in (
            whole[:place] + bytes([whole[place] ^ (1 << draw.randrange(8))]) + whole[place + 1 :],
            whole[:-1],
            whole + b"\n",
        ):
            (bundle / name).write_bytes(changed)
            problems = verify(bundle)
            assert problems, name
            if name != "SHA256SUMS":
                assert f"{name}: changed" in problems
        (bundle / name).write_bytes(whole)
    assert verify(bundle) == []


@EASY
@given(data=st.data())
def test_no_other_list_of_checksums_passes(written: Path, tmp_path: Path, data: st.DataObject) -> None:
    shutil.copytree(written, tmp_path / "b", dirs_exist_ok=True)
    whole = (tmp_path / "b" / "SHA256SUMS").read_bytes()
    place = data.draw(st.integers(0, len(whole)))
    cut = data.draw(st.integers(place, min(len(whole), place + 3)))
    changed = whole[:place] + data.draw(st.binary(max_size=3)) + whole[cut:]
    (tmp_path / "b" / "SHA256SUMS").write_bytes(changed)
    assert (verify(tmp_path / "b") == []) == (changed == whole)


@pytest.mark.parametrize(
    "line",
    [
        "0" * 64 + "  ../outside.txt",
        "0" * 64 + "  /etc/hostname",
        "0" * 64 + "  png/../../outside.txt",
        "0" * 64 + "  C:/outside.txt",
        "0" * 64 + "  ./README.md",
        "0" * 64 + "  png//x",
        "0" * 64 + "  a\\b",
        "0" * 63 + "  README.md",
        "0" * 64 + " README.md",
        "",
    ],
)
def test_a_list_that_points_elsewhere_is_refused(bundle: Path, line: str) -> None:
    (bundle.parent / "outside.txt").write_text("x")
    with (bundle / "SHA256SUMS").open("a") as file:
        file.write(f"{line}\n")
    count = len((bundle / "SHA256SUMS").read_text().splitlines())
    assert verify(bundle)[0].startswith(f"SHA256SUMS: line {count} ")


def test_names_twice_or_alike_are_refused(bundle: Path) -> None:
    first = (bundle / "SHA256SUMS").read_text().splitlines()[0]
    with (bundle / "SHA256SUMS").open("a") as file:
        file.write(f"{first}\n")
    assert "names 'README.md' again" in verify(bundle)[0]
    (bundle / "readme.md").write_text("another")
    reseal(bundle)
    assert "README.md: its name differs from another in case alone" in verify(bundle)


def test_links_pipes_and_empty_folders_are_named(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bundle / "loop").symlink_to(bundle)
    (bundle / "away").symlink_to(tmp_path / "elsewhere")
    (bundle / "empty").mkdir()
    os.mkfifo(bundle / "pipe")
    (bundle / "README.md").unlink()
    (bundle / "README.md").symlink_to("/dev/zero")
    assert verify(bundle) == [
        "README.md: changed, not a plain file any more",
        "away: extra, not listed in SHA256SUMS",
        "empty/: extra, not listed in SHA256SUMS",
        "loop: extra, not listed in SHA256SUMS",
        "pipe: extra, not listed in SHA256SUMS",
    ]


def test_linked_tensors_are_not_loaded(bundle: Path, tmp_path: Path) -> None:
    (bundle / "distilled.safetensors").rename(tmp_path / "moved")
    (bundle / "distilled.safetensors").symlink_to(tmp_path / "moved")
    with pytest.raises(IngestError, match="a link; a bundle holds plain files"):
        load(bundle)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 99}, "format 99 is newer than 4; upgrade medidistill"),
        ({"format": "2"}, "states no format"),
        ({"alpha": 7.0}, "alpha is not what distilled.safetensors holds"),
        ({"classes": ["a", "b", "c"]}, "classes is not what distilled.safetensors holds"),
        ({"privacy": {}}, "privacy"),
        ({"privacy": {"audited": True, "statement": "fine"}}, "verdict"),
        ({"images": 8}, "images is not what"),
        ({"sources": [{"name": "x"}]}, "licence"),
    ],
)
def test_a_recipe_that_does_not_fit_is_named_even_when_resealed(
    bundle: Path, changes: dict[str, object], said: str
) -> None:
    change_recipe(bundle, **changes)
    problems = verify(bundle)
    assert any(said in problem for problem in problems), problems
    assert all(problem.startswith(("recipe.json", "png/", "dicom/")) for problem in problems)
    with pytest.raises(IngestError, match="does not verify"):
        require_verified(bundle)


@pytest.mark.parametrize(
    "text",
    ["", "[" * 100_000, "[]", "null", '{"format": 1e999}', '{"format": NaN}', '{"format": ' + "9" * 5000 + "}", "\x00"],
)
def test_a_broken_recipe_is_one_problem(bundle: Path, text: str) -> None:
    (bundle / "recipe.json").write_text(text)
    reseal(bundle)
    (problem,) = verify(bundle)
    assert problem.startswith("recipe.json")
    with pytest.raises(IngestError):
        require_verified(bundle)


def tensors(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    made = make_set()
    return {"images": made.images, "labels": made.labels} | changes


HEADER = make_set().header()
DEEP = '{"kind": "distilled_set", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
BROKEN = {
    "empty": b"",
    "wrong magic": b"PK\x03\x04" + bytes(60),
    "a pickle": b"\x80\x04\x95" + bytes(60),
    "a header of 2^63 bytes": (2**63 - 1).to_bytes(8, "little") + b"{}",
    "a header longer than the file": (1000).to_bytes(8, "little") + b"{}",
    "cut": save(tensors(), {"medidistill": json.dumps(HEADER)})[:-5],
    "no header": save(tensors()),
    "a list for a header": save(tensors(), {"medidistill": "[1]"}),
    "a deep header": save(tensors(), {"medidistill": DEEP}),
    "a number of 5000 digits": save(tensors(), {"medidistill": '{"kind": ' + "9" * 5000 + "}"}),
    "another kind": save(tensors(), {"medidistill": json.dumps(HEADER | {"kind": "x"})}),
    "a newer format": save(tensors(), {"medidistill": json.dumps(HEADER | {"format": 99})}),
    "training as text": save(tensors(), {"medidistill": json.dumps(HEADER | {"training": "ab"})}),
    "augment as a list": save(
        tensors(), {"medidistill": json.dumps(HEADER | {"training": HEADER["training"] | {"augment": [1]}})}
    ),
    "alpha as text": save(tensors(), {"medidistill": json.dumps(HEADER | {"alpha": "x"})}),
    "class names as numbers": save(tensors(), {"medidistill": json.dumps(HEADER | {"class_names": [1, 2, 3]})}),
    "a class twice": save(tensors(), {"medidistill": json.dumps(HEADER | {"class_names": ["a", "a", "b"]})}),
    "a list for a recipe": save(tensors(), {"medidistill": json.dumps(HEADER | {"recipe": [["a", 1]]})}),
    "fewer classes": save(tensors(), {"medidistill": json.dumps(HEADER | {"class_names": ["a"]})}),
    "images as whole numbers": save(tensors(images=torch.ones(9, 1, 16, 16, dtype=torch.int64))),
    "half precision": save(tensors(images=torch.ones(9, 1, 16, 16).half()), {"medidistill": json.dumps(HEADER)}),
    "labels as floats": save(tensors(labels=torch.zeros(9)), {"medidistill": json.dumps(HEADER)}),
    "labels in two dimensions": save(
        tensors(labels=torch.zeros(9, 2, dtype=torch.int64)), {"medidistill": json.dumps(HEADER)}
    ),
    "images not square": save(tensors(images=torch.ones(9, 1, 16, 8)), {"medidistill": json.dumps(HEADER)}),
    "no image": save(
        {"images": torch.ones(0, 1, 16, 16), "labels": torch.zeros(0, dtype=torch.int64)},
        {"medidistill": json.dumps(HEADER)},
    ),
    "not a number": save(tensors(images=torch.full((9, 1, 16, 16), torch.nan)), {"medidistill": json.dumps(HEADER)}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_tensors_are_an_error_in_one_line(bundle: Path, what: str) -> None:
    (bundle / "distilled.safetensors").write_bytes(BROKEN[what])
    reseal(bundle)
    assert any("distilled.safetensors" in problem for problem in verify(bundle))
    with pytest.raises(IngestError, match=r"distilled\.safetensors"):
        load(bundle)


def test_a_huge_recipe_is_not_read(bundle: Path) -> None:
    with (bundle / "recipe.json").open("wb") as file:
        file.truncate(2**40)
    problems = verify(bundle)
    assert "recipe.json: 1099511627776 bytes; larger than any file of a bundle" in problems
    assert any("a bundle has no more than" in problem for problem in problems)


def test_a_bundle_of_the_first_format_is_read(bundle: Path) -> None:
    recipe = json.loads((bundle / "recipe.json").read_text()) | {"format": 1}
    for key in ("created", "evaluation", "notice", "sources", "licence", "privacy", "merged_from"):
        del recipe[key]
    (bundle / "recipe.json").write_text(json.dumps(recipe))
    (bundle / "croissant.json").unlink()
    shutil.rmtree(bundle / "dicom")
    reseal(bundle)
    found = examine(bundle)
    assert found.problems == ()
    assert any("format 1, older than 3" in note for note in found.notes)
    assert len(load(bundle)) == 9


def test_parts_that_every_bundle_has_are_missed(bundle: Path) -> None:
    (bundle / "croissant.json").unlink()
    next((bundle / "dicom").iterdir()).unlink()
    reseal(bundle)
    assert verify(bundle) == [
        "croissant.json: not listed in SHA256SUMS, every bundle has it",
        "dicom/: 8 files for 9 images",
    ]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("site", "other"):
        secret, public = folder / f"{name}.key", folder / f"{name}.pub"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", secret], check=True)
        subprocess.run(["openssl", "pkey", "-in", secret, "-pubout", "-out", public], check=True)
        secret.chmod(0o600)
    return folder


def test_a_signature_holds_for_this_bundle_and_key_alone(bundle: Path, keys: Path) -> None:
    assert examine(bundle).notes == ("not signed",)
    assert "not signed" in examine(bundle, public_key=keys / "site.pub").problems[0]
    fingerprint = sign(bundle, keys / "site.key")
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(keys / "site.pub")]
    files = ["-in", "SHA256SUMS", "-sigfile", "SHA256SUMS.sig"]
    subprocess.run([*command, *files], cwd=bundle, check=True, capture_output=True)
    assert examine(bundle, public_key=keys / "site.pub").notes == (f"signed by the key {fingerprint}",)
    assert verify(bundle) == []
    assert "not made by this key" in examine(bundle, public_key=keys / "other.pub").problems[0]
    (bundle / "README.md").write_text("Anonymous.")
    reseal(bundle)
    assert verify(bundle) == []
    assert "not made by this key" in examine(bundle, public_key=keys / "site.pub").problems[0]
    (bundle / "SHA256SUMS.sig").write_bytes(b"short")
    assert "must be 64 bytes" in examine(bundle, public_key=keys / "site.pub").problems[0]
    with pytest.raises(ConfigError, match="signed already"):
        sign(bundle, keys / "site.key")


def test_keys_that_cannot_be_used_are_told_apart(
    bundle: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, curve = tmp_path / "locked.key", tmp_path / "curve.key"
    options = ["-aes-256-cbc", "-passout", "pass:correct"]
    subprocess.run(["openssl", "pkey", "-in", keys / "site.key", *options, "-out", locked], check=True)
    subprocess.run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", curve], check=True)
    for path in (locked, curve):
        path.chmod(0o600)
    for path, said in (
        (tmp_path / "absent", "cannot be read as a key"),
        (keys / "site.pub", "others than its owner can read"),
        (locked, f"it is encrypted: set {PASSPHRASE}"),
        (curve, "must be an Ed25519 key"),
    ):
        with pytest.raises(ConfigError, match=said):
            sign(bundle, path)
    with pytest.raises(ConfigError, match="not a public key"):
        examine(bundle, public_key=keys / "site.key")
    monkeypatch.setenv(PASSPHRASE, "wrong")
    with pytest.raises(ConfigError, match="wrong passphrase"):
        sign(bundle, locked)
    assert not (bundle / "SHA256SUMS.sig").exists()
    monkeypatch.setenv(PASSPHRASE, "correct")
    sign(bundle, locked)
    assert examine(bundle, public_key=keys / "site.pub").problems == ()


def test_a_privacy_section_that_says_too_little_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="would not fit the schema"):
        write(tmp_path / "bundle", privacy=PrivacySection(audited=True, statement="Audited."))
    assert list(tmp_path.iterdir()) == []


@EASY
@given(data=st.data())
def test_untrusted_tensors_never_end_in_a_traceback(written: Path, tmp_path: Path, data: st.DataObject) -> None:
    whole = (written / "distilled.safetensors").read_bytes()
    place = data.draw(st.integers(0, 2500))
    file = tmp_path / "x.safetensors"
    file.write_bytes(whole[:place] + data.draw(st.binary(max_size=4)) + whole[place + data.draw(st.integers(0, 4)) :])
    try:
        assert len(load(file)) == 9
    except MedidistillError as error:
        assert str(file) in str(error)  # noqa: PT017 (most changes are errors, some are harmless)
