"""What holds for the package as a whole: floors, licences, pinned versions, the wheel."""

from __future__ import annotations

import email
import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medidistill.pipeline.config_io.resources import PIPELINES
from tools import locked

BLOCKED = [
    "jinja2",
    "matplotlib",
    "monai",
    "pandas",
    "PIL",
    "pydantic",
    "pydicom",
    "ruamel",
    "scipy",
    "sklearn",
    "streamlit",
    "torchvision",
    "tqdm",
]


def asked_for(root: Path, *groups: str) -> list[str]:
    """What pyproject.toml asks for in its groups, extras of extras among it, by the tool that installs it."""
    return locked.requirement_texts(groups, root)


def closure(requirements: list[str]) -> dict[str, importlib.metadata.Distribution]:
    """Every installed distribution that `requirements` lead to, extras and markers followed."""
    found: dict[str, importlib.metadata.Distribution] = {}
    extras: dict[str, set[str]] = {}
    queue = [Requirement(text) for text in requirements]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name in found and requirement.extras <= extras[name]:
            continue
        extras.setdefault(name, set()).update(requirement.extras)
        found[name] = importlib.metadata.distribution(name)
        for text in found[name].requires or []:
            one = Requirement(text)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras[name])):
                queue.append(one)
    return found


def licence(distribution: importlib.metadata.Distribution) -> str:
    """What the metadata say in a line: the expression, else classifiers and the first line of the licence."""
    metadata = distribution.metadata
    if metadata.get("License-Expression"):
        return str(metadata["License-Expression"])
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    return "; ".join([*classifiers, (metadata.get("License") or "").partition("\n")[0]])


def test_no_runtime_dependency_is_copyleft(root: Path) -> None:
    installed = closure(asked_for(root, "all"))
    assert {"torch", "streamlit", "pylibjpeg-openjpeg"} <= installed.keys()
    copyleft = {name: text for name, one in installed.items() if re.search(r"GPL|GNU|Affero", text := licence(one))}
    assert copyleft == {}
    # GPL; a site may install it by itself
    assert "pylibjpeg-libjpeg" not in installed


def test_every_dependency_is_pinned_to_what_is_installed(root: Path) -> None:
    needed = closure(asked_for(root, "test", "lint"))
    lines = (root / "constraints.txt").read_text().splitlines()
    pinned = {
        canonicalize_name(one.name): one for line in lines if line and line[0] != "#" for one in [Requirement(line)]
    }
    assert needed.keys() - pinned.keys() == set()
    assert all(str(one.specifier).startswith("==") for one in pinned.values())
    differing = {name: one.version for name, one in needed.items() if one.version not in pinned[name].specifier}
    assert differing == {}


def test_the_core_imports_without_anything_but_torch() -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
        "import medidistill, medidistill.distillation, medidistill.networks\n"
        "from medidistill.config import DistillConfig, NetworkConfig\n"
        "import torch\n"
        "network = medidistill.make_network(NetworkConfig(width=4), channels=1, image_size=16, num_classes=3,"
        " generator=torch.Generator())\n"
        "assert medidistill.predict(network, torch.zeros(2, 1, 16, 16)).shape == (2, 3)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    # the folder's own medidistill, not the installed one
    code = "from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("networks/zoo.py", "import medidistill.distillation", "floors: imports point downward"),
        ("evaluate/metrics.py", "import medidistill.export", "floors: imports point downward"),
        ("newcomer.py", "", "floors: imports point downward"),
        ("distillation/loop.py", "import scipy", "the core needs torch alone"),
        ("report/__init__.py", "import pydicom", "pydicom stays where DICOM is read or written"),
    ],
)
def test_the_floors_notice_a_violation(root: Path, tmp_path: Path, file: str, line: str, contract: str) -> None:
    shutil.copytree(root / "medidistill", tmp_path / "medidistill", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", tmp_path)
    with (tmp_path / "medidistill" / file).open("a") as source:
        source.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    broken = re.findall(r"^(.*) BROKEN", done.stdout, flags=re.MULTILINE)
    assert (done.returncode, broken) == (1, [contract]), done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    (file,) = folder.glob("*.whl")
    return file


def test_the_wheel_carries_what_runs_outside_the_checkout(root: Path, wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in (root / "medidistill").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    checkout = {path.relative_to(root).as_posix() for path in files}
    assert checkout <= names
    assert "medidistill/py.typed" in names
    for here, there in (("apps", "_apps"), ("pipelines/configs", "_configs")):
        files = [path for path in (root / here).rglob("*") if path.suffix in (".py", ".yaml", ".toml", ".json")]
        assert files
        assert {f"medidistill/{there}/{path.relative_to(root / here).as_posix()}" for path in files} <= names
    for name in PIPELINES:
        files = [path for path in (root / "pipelines" / name).rglob("*") if path.is_file() and path.suffix != ".pyc"]
        assert files
        below = {f"medidistill/_pipelines/{path.relative_to(root / 'pipelines').as_posix()}" for path in files}
        assert below <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "tests/" in name or "__pycache__" in name]


def test_the_wheel_says_where_it_runs_and_names_no_address_that_is_not_ours_to_name(root: Path, wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(archive.read(name))
    classifiers = metadata.get_all("Classifier")
    assert "Operating System :: POSIX :: Linux" in classifiers
    versions = [line.rpartition(" ")[2] for line in classifiers if line.startswith("Programming Language :: Python")]
    assert versions == ["3.11", "3.12", "3.13"]
    cited = set(re.findall(r'url: "([^"]+)"', (root / "CITATION.cff").read_text()))
    assert {line.rpartition(", ")[2] for line in metadata.get_all("Project-URL")} == cited


def test_no_link_of_the_description_needs_the_checkout(root: Path, wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(archive.read(name))
    told = metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    here = [link for link in re.findall(r"\]\(([^)]+)\)", (root / "README.md").read_text()) if "://" not in link]
    assert len(here) > 20
    links = re.findall(r"\]\(([^)]+)\)", told)
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert "docs/privacy.md" in told


@pytest.mark.parametrize(
    ("text", "links", "images", "told"),
    [
        ("[docs/a.md](docs/a.md#part)", "", "", "docs/a.md"),
        ("([why](docs/a.md#part))", "", "", "(why (docs/a.md))"),
        ("![A picture](p.png)\nx", "", "", "\nx"),
        ("[x](https://arxiv.org/abs/1) [y](#part)", "", "", "[x](https://arxiv.org/abs/1) [y](#part)"),
        ("[d](docs/a.md#part)", "https://e.example/blob/", "", "[d](https://e.example/blob/docs/a.md#part)"),
        ("![A](p.png)", "", "https://e.example/raw/", "![A](https://e.example/raw/p.png)"),
    ],
)
def test_links_of_a_readme_elsewhere(root: Path, text: str, links: str, images: str, told: str) -> None:
    spec = importlib.util.spec_from_file_location("hatch_build", root / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.readme_elsewhere(text, links, images) == told


def test_the_wheel_carries_the_bill_of_materials_of_its_lock(root: Path, wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if ".dist-info/sboms/" in name]
    document = json.loads(archive.read(name))
    pins = (line.partition(" ;")[0].split("==") for line in (root / "constraints.txt").read_text().splitlines()[1:])
    pinned = {canonicalize_name(one[0]): one[1] for one in pins}
    found = {one["name"]: one["version"] for one in document["components"]}
    assert found == {name: pinned[name] for name in found}
    needed = closure(asked_for(root, "all"))
    assert needed.keys() <= found.keys()
    assert "pytest" not in found
    refs = {one["bom-ref"] for one in document["components"]} | {document["metadata"]["component"]["bom-ref"]}
    assert {one["ref"] for one in document["dependencies"]} == refs
    assert {ref for one in document["dependencies"] for ref in one["dependsOn"]} <= refs
    assert all(one["externalReferences"][0]["hashes"] for one in document["components"])


def docker_copies(root: Path) -> tuple[list[str], list[str]]:
    """Return the sources that the Dockerfile copies, and its RUN commands, in order."""
    text = (root / "pipelines" / "container" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
    copied = [name for word, rest in lines if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]]
    return copied, [rest for word, rest in lines if word == "RUN"]


def test_the_dockerfile_copies_what_the_wheel_is_built_from(root: Path, wheel: Path, tmp_path: Path) -> None:
    """The wheel that is built from its copies alone is that of the checkout."""
    copied, _ = docker_copies(root)
    for name in copied:
        if (root / name).is_dir():
            shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(root / name, tmp_path / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist")]
    subprocess.run([*command, str(tmp_path)], check=True, capture_output=True, timeout=200)
    (built,) = (tmp_path / "dist").glob("*.whl")

    def contents(file: Path) -> dict[str, int]:
        return {one.filename: one.CRC for one in zipfile.ZipFile(file).infolist()}

    assert contents(built) == contents(wheel)


def test_the_dockerfile_installs_groups_of_the_lock_on_a_python_of_the_project(root: Path) -> None:
    text = (root / "pipelines" / "container" / "Dockerfile").read_text()
    copied, commands = docker_copies(root)
    assert {"tools", "constraints-hashes.txt"} <= set(copied)
    assert len(set(re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE))) == 1  # the environment moves between stages
    for version in re.findall(r"^FROM python:(\d\.\d+)", text, flags=re.MULTILINE):
        assert f'"Programming Language :: Python :: {version}"' in (root / "pyproject.toml").read_text()
    groups = [group for command in commands for group in re.findall(r"tools/locked\.py ([\w ]+?) >", command)]
    assert groups == ["core app", "build"]
    for group in groups:
        done = subprocess.run(
            [sys.executable, root / "tools" / "locked.py", *group.split()], check=True, capture_output=True, text=True
        )
        assert "--hash=sha256:" in done.stdout
    installs = [part for command in commands for part in command.split("&&") if "pip install" in part]
    assert len(installs) == 3
    assert all("--require-hashes --no-deps" in part or "--no-deps dist/" in part for part in installs)


def test_a_wheel_is_built_without_a_package_of_the_tests(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, root / "tools" / "locked.py", "build"], check=True, capture_output=True, text=True
    )
    names = {line.partition("==")[0] for line in done.stdout.splitlines() if "==" in line}
    assert {"build", "hatchling", "editables"} <= names
    assert not names & {"pytest", "torch", "ruff"}
    makefile = (root / "Makefile").read_text()
    assert "wheel: $(VENV)/.installed-build\n" in makefile
    assert "$(call locked,build)\n" in makefile


def test_the_command_works_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import sys, medidistill; assert 'site' in medidistill.__file__, medidistill.__file__\n"
        "from medidistill.pipeline import load_config; assert load_config('demo').distill.ipc >= 1\n"
        "from medidistill.cli import main; assert main(['pipelines', 'copy', 'nightly', 'copied']) == 0\n"
        "sys.exit(main(['--version']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert importlib.metadata.version("medidistill") in done.stdout
