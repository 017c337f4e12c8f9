"""What goes wrong for a new user: one line that says what, where and what to do; the exit code; nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess

import pytest

from medidistill.cli import main

from ..killing import finish


def _snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def fails(capsys):
    """Run the arguments; check the code and that stderr is one line that says all of `words`."""

    def check(arguments, code, *words):
        capsys.readouterr()
        assert main([*map(str, arguments), "--quiet"]) == code
        shown = capsys.readouterr()
        assert shown.out == ""
        (line,) = shown.err.splitlines()
        assert line.startswith("medidistill: error: ")
        assert "Traceback" not in line
        assert "internal error" not in line
        for word in words:
            assert word in line

    return check


@pytest.fixture
def ingest(pictures, tmp_path):
    """Return the arguments that read `pictures`."""
    return ["ingest", "--input", pictures, "--output", tmp_path / "out", "--set", "ingest.image_size=16"]


def _edit(pictures, old, new):
    table = pictures / "labels.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))


def test_good_input_passes(ingest, capsys):
    assert main([*map(str, ingest), "--quiet"]) == 0
    assert "train: 8 images of 4 patients (sick 4, well 4)" in capsys.readouterr().out


def test_missing_folder(ingest, tmp_path, fails):
    ingest[2] = tmp_path / "nowhere"
    fails(ingest, 3, "nowhere", "no such folder")


def test_empty_folder(ingest, tmp_path, fails):
    ingest[2] = tmp_path / "empty"
    ingest[2].mkdir()
    fails(ingest, 3, "empty")


def test_input_not_named(tmp_path, fails):
    fails(["run", "--output", tmp_path / "out"], 2, "--input")


def test_empty_class(ingest, fails):
    fails([*ingest, "--set", "ingest.classes=[sick, well, wel]"], 3, "'wel'", "did you mean 'well'?")


def test_unknown_label(ingest, pictures, fails):
    _edit(pictures, "sick-0-0.png,sick", "sick-0-0.png,sikc")
    fails([*ingest, "--set", "ingest.classes=[sick, well]"], 3, "'sikc'", "did you mean 'sick'?")


def test_split_that_shares_a_patient(ingest, pictures, fails):
    _edit(pictures, "sick-3-0.png,sick,sick3,test", "sick-3-0.png,sick,sick0,test")
    before = _snapshot(pictures)
    fails(ingest, 3, "patient", "train", "test")
    assert _snapshot(pictures) == before


def test_unreadable_and_constant_images_are_quarantined_with_a_reason(ingest, pictures, tmp_path, capsys):
    from PIL import Image

    (pictures / "sick-0-0.png").write_bytes(b"not a picture")
    (pictures / "sick-1-0.png").write_bytes((pictures / "sick-1-0.png").read_bytes()[:60])
    Image.new("L", (20, 20), 77).save(pictures / "well-0-0.png")
    assert main([*map(str, ingest), "--set", "ingest.max_quarantine=0.5", "--quiet"]) == 0
    assert "quarantined: 3" in capsys.readouterr().out
    table = (tmp_path / "out" / "ingest" / "quarantine.csv").read_text()
    for name in ("sick-0-0.png", "sick-1-0.png", "well-0-0.png"):
        assert name in table
    assert "constant image" in table


def test_too_many_unreadable_files(ingest, pictures, fails):
    for name in ("sick-0-0.png", "well-1-1.png"):
        (pictures / name).write_bytes(b"not a picture")
    fails(ingest, 6, "ingest.max_quarantine")


def test_ipc_larger_than_the_class(pictures, tmp_path, fails):
    run = ["run", "--input", pictures, "--output", tmp_path / "out", "--set", "ingest.image_size=16"]
    fails([*run, "--set", "distill.ipc=5"], 2, "distill.ipc=5", "class 'sick' has only 4", "use distill.ipc <= 4")


def test_unknown_key_and_unknown_command(tmp_path, fails, capsys):
    config = tmp_path / "mine.yaml"
    config.write_text("distill: {ipcc: 3}\n")
    fails(["run", "--config", config, "--input", tmp_path, "--output", tmp_path / "out"], 2, "mine.yaml", "'ipc'")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as ended:
        main(["distil"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "did you mean 'distill'?" in line


def test_impossible_combination_is_refused_before_work(tmp_path, fails):
    arguments = ["run", "--input", tmp_path, "--output", tmp_path / "out"]
    fails([*arguments, "--set", "distill.importance.enabled=false"], 2, "distill.importance.enabled", "evaluate.arms")
    assert not (tmp_path / "out").exists()


def test_existing_output_is_never_overwritten(tiny, finished, fails):
    before = _snapshot(finished)
    fails(tiny.arguments(finished), 2, "--resume", "--force")
    fails(tiny.arguments(finished, "--resume", "--set", "distill.ipc=2"), 2, "distill.ipc: 1 -> 2")
    fails(["run", "--input", finished, "--output", finished, "--resume"], 2, "this run was started with")
    assert _snapshot(finished) == before


def test_foreign_output_is_left_alone_even_by_force(tiny, tmp_path, fails):
    (tmp_path / "thesis.tex").write_text("years of work")
    for how in ((), ("--force",), ("--resume",)):
        fails(tiny.arguments(tmp_path, *how), 2, "not a medidistill run")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_stage_out_of_order(tmp_path, ingest, fails, capsys):
    fails(["experts", "--output", tmp_path / "out"], 2, f"--output {tmp_path / 'out'}: no such folder")
    assert main([*map(str, ingest), "--quiet"]) == 0
    fails(["distill", "--output", tmp_path / "out"], 2, "stage experts has not finished", "medidistill experts")
    fails(["evaluate", "--output", tmp_path / "out"], 2, "medidistill distill --method mtt")
    fails(["report", "--output", tmp_path / "out"], 2, "medidistill evaluate")


def test_damaged_cache_names_the_file_and_the_remedy(finished, fails):
    shutil.rmtree(finished / "experts")
    (finished / "ingest" / "train.safetensors").write_bytes(b"half")
    fails(["experts", "--output", finished], 3, "train.safetensors", "damaged")


def _limit_files():
    """Let this process write no file larger than 12 KiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (12288, resource.RLIM_INFINITY))


def test_write_that_fails_keeps_what_is_finished(finished, tmp_path):
    shutil.rmtree(finished / "experts")
    kept = _snapshot(finished / "ingest")
    log = tmp_path / "log"
    assert finish(["experts", "--output", str(finished), "--quiet"], log, prepare=_limit_files) == 5
    (line,) = log.read_text().splitlines()
    assert line.startswith(f"medidistill: error: cannot write {finished / 'experts'}")
    assert _snapshot(finished / "ingest") == kept
    assert not list((finished / "experts").glob("*"))
    assert main(["experts", "--output", str(finished), "--quiet"]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can only be mounted by root")
def test_full_disk(tiny, tmp_path, fails):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "none", disk], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a small file system")
    try:
        fails(tiny.arguments(disk / "out"), 5, "the disk is full", "--resume")
        assert not list(disk.rglob("*.part"))
        # more room, and the same command goes on
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        assert main([*tiny.arguments(disk / "out", "--resume", "--until", "export"), "--quiet"]) == 0
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # a mapped tensor may still be alive
