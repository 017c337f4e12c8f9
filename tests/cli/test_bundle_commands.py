"""Verify, sign, train, merge and push, as a user types them."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import SecondaryCaptureImageStorage

from medidistill.chained_log import read_chain
from medidistill.cli import main
from medidistill.export import load, verify
from medidistill.files import load_tensors

from .conftest import Tiny


@pytest.fixture(scope="module")
def bundle(tiny: Tiny) -> Path:
    return tiny.finished / "bundle"


@pytest.fixture(scope="module")
def second(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of another method on the same phantoms."""
    output = Path(shutil.copytree(tiny.finished, tmp_path_factory.mktemp("second") / "run"))
    resume = ["run", "--output", str(output), "--resume", "--set", "deliver=mtt"]
    assert main([*resume, "--until", "export", "--quiet"]) == 0
    return output / "bundle"


def test_verify_and_sign(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "b"))
    secret, public = tmp_path / "site.key", tmp_path / "site.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", secret], check=True)
    subprocess.run(["openssl", "pkey", "-in", secret, "-pubout", "-out", public], check=True)
    secret.chmod(0o600)
    assert main(["verify", str(folder)]) == 0
    assert "note: not signed\nverified: " in capsys.readouterr().out
    assert main(["sign", str(folder), "--key", str(secret)]) == 0
    assert main(["verify", str(folder), "--public-key", str(public)]) == 0
    capsys.readouterr()
    with (folder / "README.md").open("a") as file:
        file.write("Anonymous.\n")
    (folder / "new.txt").write_text("x")
    assert main(["verify", str(folder)]) == 3
    shown = capsys.readouterr()
    assert "README.md: changed\n" in shown.out
    assert "new.txt: extra" in shown.out
    assert "2 problem(s), first: README.md: changed" in shown.err
    assert main(["sign", str(folder), "--key", str(secret)]) == 3


def test_train_and_score(bundle: Path, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "weights.safetensors"
    arguments = ["train", str(bundle), "--output", str(output), "--quiet"]
    assert main([*arguments, "--test", str(tiny.phantoms), "--networks", "2"]) == 0
    weights, header = load_tensors(output)
    distilled = load(bundle)
    network = distilled.train()
    assert header["classes"] == list(distilled.class_names)
    assert {name: value.tolist() for name, value in network.state_dict().items()} == {
        name: value.tolist() for name, value in weights.items()
    }
    assert "| tiny |" in capsys.readouterr().out
    before = output.read_bytes()
    assert main(arguments) == 2
    assert "exists, and nothing is overwritten" in capsys.readouterr().err
    assert output.read_bytes() == before


def test_train_beside_a_baseline_of_own_x_rays(
    bundle: Path, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores.json"
    arguments = ["train", str(bundle), "--output", str(tmp_path / "w.safetensors"), "--quiet", "--networks", "2"]
    assert main([*arguments, "--test", str(tiny.phantoms), "--baseline", "--scores", str(scores)]) == 0
    assert "| own X-rays |" in capsys.readouterr().out
    told = json.loads(scores.read_text())
    assert [row["arm"] for row in told["rows"]] == ["tiny", "own X-rays"]
    gaps = [gap for gap in told["differences"] if gap["metric"] == "balanced_accuracy"]
    assert [(gap["arm"], gap["minus"]) for gap in gaps] == [("tiny", "own X-rays")]
    accuracies = [row["balanced_accuracy"]["estimate"] for row in told["rows"]]
    assert gaps[0]["bootstrap"]["estimate"] == pytest.approx(accuracies[0] - accuracies[1])
    trained = told["rows"][1]["training_images"]
    assert trained > 3
    images = len((tiny.phantoms / "labels.csv").read_text().splitlines()) - 1
    assert trained + told["test_images"] <= images
    assert f"trained on {trained} images" in " ".join(told["notes"])


def test_baseline_without_a_folder_to_test_on_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(bundle), "--output", str(tmp_path / "w.safetensors"), "--baseline"]
    assert main(arguments) == 2
    assert "need --test" in capsys.readouterr().err
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--test", "nowhere"], 3, "--test nowhere: no such folder"),
        (["--test", "empty"], 3, "empty"),
        (["--test", "PHANTOMS", "--scores", "scores.json"], 2, "--scores scores.json: exists, and nothing is"),
    ],
)
def test_training_looks_at_the_test_first_and_writes_nothing_where_it_fails(
    bundle: Path,
    tiny: Tiny,
    tmp_path: Path,
    options: list[str],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "scores.json").write_text("{}")
    options = [str(tiny.phantoms) if one == "PHANTOMS" else one for one in options]
    assert main(["train", str(bundle), "--output", "w.safetensors", *options, "--quiet"]) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "w.safetensors").exists()
    assert (tmp_path / "scores.json").read_text() == "{}"


def test_merge_verifies_evaluates_and_writes(
    bundle: Path, second: Path, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "both"
    arguments = ["merge", str(bundle), str(second), "--output", str(output), "--quiet"]
    assert main([*arguments, "--evaluate", str(tiny.phantoms), "--networks", "2"]) == 0
    assert verify(output) == []
    recipe = json.loads((output / "recipe.json").read_text())
    assert recipe["images"] == 6
    assert [row["arm"] for row in recipe["evaluation"]["rows"]] == ["merged", "1: tiny", "2: tiny"]
    assert sum("Balanced accuracy, merged minus" in note for note in recipe["evaluation"]["notes"]) == 2
    assert len({part["sha256sums"] for part in recipe["merged_from"]}) == 2
    assert "A notice that must reach the reader." in recipe["notice"]
    capsys.readouterr()
    assert main(arguments) == 2
    assert main(["merge", str(bundle), str(bundle), "--output", str(tmp_path / "c"), "--quiet"]) == 2
    assert "holds the same images" in capsys.readouterr().err
    assert main(["merge", str(bundle), str(second), "--output", str(tmp_path / "c"), "--rename", "x"]) == 2
    assert not (tmp_path / "c").exists()


@contextlib.contextmanager
def archive():
    """Run an archive; give its address and what it has received."""
    received = []
    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context(SecondaryCaptureImageStorage)
    handlers = [(evt.EVT_C_STORE, lambda event: received.append(event.dataset) or 0)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield f"127.0.0.1:{server.socket.getsockname()[1]}", received
    finally:
        server.shutdown()


def test_push_sends_what_verifies(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.jsonl"
    options = ["--called-aet", "ARCHIVE", "--quiet", "--unreleased", "--log", str(log)]
    with archive() as (place, received):
        assert main(["push", str(bundle), "--pacs", place, *options]) == 0
        assert f"stored: 3 images in {place}" in capsys.readouterr().out
        folder = Path(shutil.copytree(bundle, tmp_path / "b"))
        (folder / "README.md").write_text("changed")
        assert main(["push", str(folder), "--pacs", place, *options]) == 3
    assert len(received) == 3
    assert main(["push", str(bundle), "--pacs", "nowhere"]) == 2
    with pytest.raises(SystemExit):
        main(["push", str(bundle)])
    entries = read_chain(log).entries
    assert [entry["event"] for entry in entries] == ["sending", "sent"]
    assert {(entry["released"], entry["where"]) for entry in entries} == {(False, place)}


def test_push_again_to_an_archive_that_refuses_duplicates(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held: set[str] = set()

    def store(event: evt.Event) -> int:
        known = event.dataset.SOPInstanceUID in held
        held.add(event.dataset.SOPInstanceUID)
        return 0x0111 if known else 0

    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context(SecondaryCaptureImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    place = f"127.0.0.1:{server.socket.getsockname()[1]}"
    send = ["push", str(bundle), "--pacs", place, "--called-aet", "ARCHIVE", "--quiet", "--unreleased"]
    try:
        for present, said in ((0, f"stored: 3 images in {place}\n"), (3, f"{place}, 3 of them were there already\n")):
            assert main([*send, "--log", str(tmp_path / "log.jsonl")]) == 0
            assert capsys.readouterr().out.endswith(said)
            last = read_chain(tmp_path / "log.jsonl").entries[-1]
            assert (last["event"], last["images"], last["present"]) == ("sent", 3, present)
    finally:
        server.shutdown()
    assert len(held) == 3


def test_push_refuses_what_no_gate_released(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, log = finished / "bundle", finished.parent / "release-log.jsonl"
    with archive() as (place, received):
        send = ["push", str(bundle), "--pacs", place, "--called-aet", "ARCHIVE", "--quiet"]
        assert main(send) == 4
        assert "not released" in capsys.readouterr().err
        assert received == []
        assert not log.exists()
        text = (finished / "run.yaml").read_text()
        (finished / "run.yaml").write_text(text.replace("policy: default", "policy: phantom"))
        assert main(["export", "--output", str(finished), "--release", "--quiet"]) == 0
        assert main(send) == 0
        assert len(received) == 3
    entries = read_chain(log).entries
    assert [entry["event"] for entry in entries] == ["releasing", "released", "sending", "sent"]
    assert len({entry["set"] for entry in entries}) == 1
    assert entries[2]["released"]


def test_push_sends_nothing_that_it_cannot_log(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished.parent / "file").write_text("")
    with archive() as (place, received):
        log = ["--unreleased", "--log", str(finished.parent / "file" / "log")]
        assert main(["push", str(finished / "bundle"), "--pacs", place, "--quiet", *log]) == 5
        assert received == []
