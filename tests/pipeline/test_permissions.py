"""A run folder is closed to everybody but its owner, whatever the umask and whatever writes into it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medidistill.cli import main
from medidistill.cli.commands.app import give_demo
from medidistill.config import RunConfig
from medidistill.errors import ResourceError
from medidistill.files import (
    close_folder,
    private_folder,
    private_umask,
    publish_folder,
    save_tensors,
    write_bytes,
    write_json,
)
from medidistill.pipeline import RunFolder, working

UMASKS = [0o000, 0o022, 0o077]


@pytest.fixture
def umask():
    """Return a function that sets the umask; the old one comes back."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_others(folder: Path, but: Path | None = None) -> dict[str, str]:
    """Return what group or others may do anything with, `folder` among it, without what lies in `but`."""
    found = [folder, *folder.rglob("*")]
    return {
        path.relative_to(folder).as_posix(): f"{mode(path):04o}"
        for path in found
        if mode(path) & 0o077 and not path.is_symlink() and not (but and path.is_relative_to(but))
    }


def pictures(folder: Path) -> Path:
    """Make a folder of PNG files that everybody may read, with labels.csv: two classes, three splits."""
    rng, rows = np.random.default_rng(0), []
    folder.mkdir()
    for label in ("sick", "well"):
        for number, split in enumerate(("train", "train", "val", "test")):
            name = f"{label}-{number}.png"
            Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(folder / name)
            rows.append(f"{name},{label},{label}{number},{split}")
    (folder / "labels.csv").write_text("\n".join(["path,label,patient_id,split", *rows]) + "\n")
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


TINY = """\
name: tiny
threads: 1
ingest: {image_size: 16, cache: disk}
network: {width: 4, depth: 1}
experts: {count: 2, epochs: 3, batch_size: 8}
distill:
  {ipc: 1, outer_steps: 4, inner_steps: 2, expert_epochs: 1, max_start: 2, validate_every: 2, checkpoint_every: 2}
evaluate:
  {arms: [full, iadd], num_networks: 2, full_epochs: 1, bootstrap: 100,
   small_set_training: {steps: 2}, adaptive: {steps: 2}, saliency: {cases: 1}}
"""


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize("value", [0o000, *(pytest.param(one, marks=pytest.mark.slow) for one in (0o022, 0o077))])
def test_every_stage_leaves_a_closed_folder_and_a_bundle_by_the_umask(tmp_path, umask, value):
    (tmp_path / "tiny.yaml").write_text(TINY)
    source, out = pictures(tmp_path / "in"), tmp_path / "out"
    umask(value)
    begin = ["run", "--config", str(tmp_path / "tiny.yaml"), "--input", str(source), "--quiet"]
    assert main([*begin, "--output", str(out)]) == 0
    run = RunFolder(out)
    assert open_to_others(out, but=run.bundle) == {}
    assert mode(out) == 0o700
    assert mode(run.record_file) == 0o600
    assert mode(run.report) == 0o600
    assert {mode(path) for path in run.bundle.rglob("*") if path.is_file()} == {0o644 & ~value}
    assert {mode(path) for path in (run.bundle, *run.bundle.rglob("*")) if path.is_dir()} == {0o755 & ~value}
    # what is done later keeps it so
    assert main(["clean", str(out)]) == 0
    assert open_to_others(out, but=run.bundle) == {}
    assert os.umask(value) == value


@pytest.mark.parametrize("value", UMASKS)
@pytest.mark.parametrize("fails", [False, True])
def test_what_any_library_writes_is_closed(tmp_path, umask, value, fails):
    umask(value)
    run = RunFolder.create(tmp_path / "out", RunConfig(threads=1))
    other = tmp_path / "copied"
    other.write_bytes(b"x")
    other.chmod(0o666)
    try:
        with working(run, progress=False, command="medidistill report"):
            (run.path / "cache" / "deep").mkdir(parents=True)
            torch.save({"x": torch.zeros(1)}, run.path / "cache" / "torch.pt")
            pd.DataFrame({"x": [1]}).to_csv(run.path / "cache" / "table.csv")
            with sqlite3.connect(run.path / "cache" / "cells.sqlite") as cells:
                cells.execute("create table x (y)")
            shutil.copy(other, run.path / "cache" / "copy")
            shutil.copytree(tmp_path / "out" / "cache", run.path / "cache" / "tree", ignore=lambda *_: ["tree"])
            save_tensors(run.path / "cache" / "x.safetensors", {"x": torch.zeros(1)}, {})
            write_json(run.path / "cache" / "x.json", {})
            import matplotlib.figure

            matplotlib.figure.Figure().savefig(run.path / "cache" / "figure.png")
            (run.path / "cache" / "link").symlink_to(other)
            if fails:
                (run.path / ("x" * 300)).touch()
    except OSError:
        assert fails
    assert len(list(run.path.rglob("*"))) > 15
    assert open_to_others(run.path) == {}
    assert mode(other) == 0o666  # a link is not followed
    assert os.umask(value) == value


def test_a_run_of_an_earlier_version_is_closed_when_it_is_continued(tmp_path, umask):
    umask(0o022)
    run = RunFolder.create(tmp_path / "out", RunConfig(threads=1))
    (run.evaluate).mkdir()
    (run.evaluate / "comparison.csv").write_text("x")
    run.bundle.mkdir()
    (run.bundle / "README.md").write_text("x")
    for path in (run.path, run.evaluate, run.bundle):
        path.chmod(0o755)
    for path in (run.evaluate / "comparison.csv", run.bundle / "README.md", run.config_file):
        path.chmod(0o644)
    with working(run, progress=False, command="medidistill report"):
        assert open_to_others(run.path, but=run.bundle) == {}
    assert (mode(run.bundle), mode(run.bundle / "README.md")) == (0o755, 0o644)


@pytest.mark.parametrize("value", UMASKS)
def test_the_demo_of_the_app_is_closed_too(tmp_path, umask, value):
    umask(value)
    root = tmp_path / "runs"
    root.mkdir()
    give_demo(root)
    assert open_to_others(root / "demo", but=root / "demo" / "bundle") == {}


@pytest.mark.parametrize("value", UMASKS)
def test_files_outside_of_a_run_follow_the_umask(tmp_path, umask, value):
    umask(value)
    write_bytes(tmp_path / "plain", b"")
    write_bytes(tmp_path / "secret", b"", mode=0o600)
    write_bytes(tmp_path / "shown", b"", mode=0o644)
    assert (mode(tmp_path / "plain"), mode(tmp_path / "secret"), mode(tmp_path / "shown")) == (
        0o666 & ~value,
        0o600,
        0o644,
    )
    with private_umask():
        write_bytes(tmp_path / "closed", b"")
        with private_umask():
            (tmp_path / "bundle" / "png").mkdir(parents=True)
            write_bytes(tmp_path / "bundle" / "png" / "x", b"")
            publish_folder(tmp_path / "bundle")
    assert mode(tmp_path / "closed") == 0o600
    assert (mode(tmp_path / "bundle"), mode(tmp_path / "bundle" / "png" / "x")) == (0o755 & ~value, 0o644 & ~value)
    publish_folder(tmp_path / "bundle")
    assert mode(tmp_path / "bundle") == 0o755 & ~value


@pytest.mark.parametrize("value", UMASKS)
def test_blocks_of_two_threads_that_overlap_stay_private_and_give_the_umask_back(tmp_path, umask, value):
    """The first to begin ends first: the other is still at work, and nothing may be left closed after it."""
    umask(value)
    first_ended, both = threading.Event(), threading.Barrier(2)

    def other():
        with private_umask():
            both.wait(10)
            assert first_ended.wait(10)
            write_bytes(tmp_path / "late", b"")

    with ThreadPoolExecutor(1) as pool:
        with private_umask():
            ended = pool.submit(other)
            both.wait(10)
        first_ended.set()
        ended.result(10)
    assert mode(tmp_path / "late") == 0o600
    assert os.umask(value) == value


def test_refuses_a_file_system_that_keeps_no_modes(tmp_path, monkeypatch):
    """As on a share that is mounted with one mode for all: `chmod` succeeds and changes nothing."""
    folder = tmp_path / "share"
    folder.mkdir(mode=0o755)
    monkeypatch.setattr(Path, "chmod", lambda self, mode: None)
    with pytest.raises(ResourceError, match=r"share: others can read it \(mode 0755\)"):
        private_folder(folder)
    with pytest.raises(ResourceError, match="others can read it"):
        close_folder(folder)
