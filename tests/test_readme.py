"""The README's promises that a program can check."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import medidistill
from medidistill.cli import main
from medidistill.config import PhantomConfig
from medidistill.ingest import generate_phantom


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_library_lines_run_as_written(root: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), flags=re.DOTALL)
    folder = generate_phantom(tmp_path / "xrays", PhantomConfig(patients_per_class=8, images_per_patient=1, size=64))
    shutil.copy(next(iter(sorted(folder.rglob("*.dcm")))), tmp_path / "xray.dcm")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=850)
    distilled = medidistill.load(tmp_path / "bundle")
    assert (len(distilled), distilled.recipe["init"]) == (24, "noise")  # four small images in the bytes of one


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/bundle.md", "docs/library.md"]
)
def test_links_and_named_folders_exist(root: Path, page: str) -> None:
    text = (root / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    missing = [link for link in links if not ((root / page).parent / link).exists()]
    assert missing == []


def test_the_commands_named_exist(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (root / "README.md").read_text()
    commands = set(re.findall(r"bin/medidistill (\w+)", text))
    assert commands
    for command in commands:
        with pytest.raises(SystemExit) as done:
            main([command, "--help"])
        assert done.value.code == 0
        for option in re.findall(rf"bin/medidistill {command}.* (--\w+)", text):
            assert option in capsys.readouterr().out


def test_the_layout_is_the_tree(root: Path) -> None:
    """Top-level names are those of the package; where a package is shown from inside, each of its modules is named."""
    text = (root / "docs" / "architecture.md").read_text()
    tree = re.search(r"```\n(medidistill/\n.*?)```", text, flags=re.DOTALL)
    assert tree is not None
    named, inside = [], {}
    for line in tree[1].splitlines():
        if re.match(r"  \S", line):
            named.append(line.split()[0].strip("/"))
        elif re.match(r"    \S", line):
            names = re.split(r" {2,}", line.strip())[0].split()
            inside.setdefault(named[-1], []).extend(name.strip("/") for name in names)
    package = {path.name for path in (root / "medidistill").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert set(named) == package - {"__init__.py", "__main__.py", "__pycache__"}
    assert {"cli", "distillation", "pipeline"} <= inside.keys()
    for folder, patterns in inside.items():
        modules = {path.name for path in (root / "medidistill" / folder).iterdir()} - {"__init__.py", "__pycache__"}
        assert [one for one in patterns if not fnmatch.filter(modules, one)] == [], folder
        assert sorted(one for one in modules if not any(fnmatch.fnmatch(one, p) for p in patterns)) == [], folder
