"""What each extra installs is what its part imports; what is missing is said with the extra that brings it."""

from __future__ import annotations

import ast
import importlib.metadata
import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from medidistill.errors import ConfigError, MissingExtraError
from medidistill.extras import EXTRAS, require_extra

# the sources that an extra is for; what none names belongs to the core
RESULTS = ("medidistill/results", "medidistill/statistics")  # what several parts read and write
PARTS = {
    "ingest": ["medidistill/ingest", "medidistill/machine.py", "!medidistill/ingest/pacs"],
    "networks": ["medidistill/networks/zoo.py", "medidistill/evaluate/saliency.py"],
    "evaluate": ["medidistill/evaluate", *RESULTS, "!medidistill/evaluate/saliency.py"],
    "privacy": ["medidistill/privacy", *RESULTS, "!medidistill/privacy/accounting.py"],
    "export": ["medidistill/export", *RESULTS, "!medidistill/export/push.py", "!medidistill/export/signing.py"],
    "report": ["medidistill/report", *RESULTS],
    "run": ["medidistill/api", "medidistill/cli", "medidistill/pipeline", "medidistill/machine.py"],
    "app": ["apps"],
    "pacs": ["medidistill/dimse.py", "medidistill/ingest/pacs", "medidistill/export/push.py"],
    "sign": ["medidistill/export/signing.py"],
    "dp": ["medidistill/privacy/accounting.py"],
    "slurm": ["pipelines/slurm"],
}
# loaded by another package, by a name that no import statement holds
INDIRECT = {
    "core": {"numpy"},  # Tensor.numpy
    "ingest": {"pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "python-gdcm"},  # pydicom's decoders
    "login": {"Authlib", "httpx"},  # Streamlit's st.login
    "track": {"tensorboard"},  # torch.utils.tensorboard
}
MODULE_OF = {"scikit-learn": "sklearn", "pillow": "PIL", "ruamel.yaml": "ruamel", "dicom-anonymizer": "dicomanonymizer"}
NOT_OURS = {"airflow", "mlflow"}  # of the engine, or of a tracker that a site brings


def files_of(root: Path, extra: str) -> set[Path]:
    def below(name: str) -> set[Path]:
        return set((root / name).rglob("*.py")) if (root / name).is_dir() else {root / name}

    kept = set[Path]().union(*(below(name) for name in PARTS[extra] if name[0] != "!"))
    return kept.difference(*(below(name[1:]) for name in PARTS[extra] if name[0] == "!"))


def imported(files: Iterable[Path]) -> set[str]:
    """The packages that the files import anywhere but for type checkers, without the standard library and our own."""
    found: set[str] = set()
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        typed = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for statement in node.body
            for inner in ast.walk(statement)
        }
        for node in ast.walk(tree):
            if id(node) in typed:
                continue
            if isinstance(node, ast.Import):
                found |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    own = {"medidistill", "app_pages", "view_models"}
    return found - set(sys.stdlib_module_names) - own - NOT_OURS


def declared(root: Path) -> dict[str, tuple[set[str], set[str]]]:
    """What each group asks for itself, and what it gets by the extras that it names."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    table = {"core": project["dependencies"], **project["optional-dependencies"]}
    own, others = {}, {}
    for group, texts in table.items():
        requirements = [Requirement(text) for text in texts]
        own[group] = {one.name for one in requirements if one.name != "medidistill"}
        others[group] = set[str]().union(*(one.extras for one in requirements if one.name == "medidistill"))

    def whole(group: str) -> set[str]:
        return own[group].union(own["core"], *(whole(one) for one in others[group]))

    return {group: (own[group], whole(group)) for group in table}


def modules(names: Iterable[str]) -> set[str]:
    return {MODULE_OF.get(name.lower(), name.replace("-", "_")) for name in names}


@pytest.mark.parametrize("extra", sorted({*PARTS, *INDIRECT} - {"core"}))
def test_an_extra_declares_what_its_part_imports_and_nothing_else(root: Path, extra: str) -> None:
    own, whole = declared(root)[extra]
    found = imported(files_of(root, extra)) if extra in PARTS else set()
    assert found - modules(whole) == set(), "imported, not declared"
    indirect = INDIRECT.get(extra, set())
    assert modules(own - indirect) - found == set(), "declared, not imported"
    assert indirect <= own


def test_what_no_extra_is_for_imports_the_core_alone(root: Path) -> None:
    parts = set[Path]().union(*(files_of(root, extra) for extra in PARTS))
    core = imported(set((root / "medidistill").rglob("*.py")) - parts)
    assert core | INDIRECT["core"] == declared(root)["core"][0] == {"torch", "numpy", "safetensors"}


def test_all_is_every_extra_but_those_of_developers(root: Path) -> None:
    groups = declared(root)
    users = set(groups) - {"core", "all", "build", "supply", "test", "lint", "docs"}
    assert groups["all"][1] == set[str]().union(*(groups[extra][1] for extra in users))


def test_the_error_names_packages_that_the_extra_installs(root: Path) -> None:
    groups = declared(root)
    for extra, (_, known) in EXTRAS.items():
        assert {name.lower() for name in (other or module for module, other in known.items())} <= {
            name.lower() for name in groups[extra][1]
        } | {"dicomanonymizer"}


def test_a_missing_package_is_an_import_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        MissingExtraError, match=r"reading X-rays needs pydicom: pip install 'medidistill\[ingest\]'"
    ) as e:
        require_extra("ingest")
    assert isinstance(e.value, ImportError)
    assert isinstance(e.value, ConfigError)
    assert (e.value.name, e.value.extra, e.value.exit_code) == ("pydicom", "ingest", 2)
    again = pickle.loads(pickle.dumps(e.value))
    assert (str(again), again.packages) == (str(e.value), ("pydicom",))
    require_extra("ingest", "", "numpy")


# for each part that an extra is for: an import or a call in an environment of the core alone, and the error's begin
REFUSED = {
    "import medidistill.ingest": "reading X-rays needs pydicom, monai, pillow, scipy, pandas,",
    "import medidistill.evaluate": "comparing training sets needs scipy, scikit-learn, cattrs: pip install",
    "import medidistill.privacy.attacks.linkage": "measuring privacy needs scipy, scikit-learn, cattrs: pip install",
    "import medidistill.report": "writing a report needs matplotlib",
    "medidistill.distill": "a run needs pandas, psutil, pydantic, ruamel.yaml, tqdm: pip install 'medidistill[run]'",
    "medidistill.export.write_bundle": "writing a bundle or checking one needs pydicom, highdicom,",
    "medidistill.load(bundle).show()": "a contact sheet needs matplotlib: pip install 'medidistill[export]'",
    "medidistill.export.verify(bundle)": "writing a bundle or checking one needs pydicom, highdicom,",
    "medidistill.make_network(medidistill.config.NetworkConfig(name='resnet18'), channels=1, image_size=32,"
    " num_classes=2, generator=torch.Generator())": "network.name='resnet18' needs torchvision: pip install",
}
PROGRAM = """
import importlib.util, sys, torch
extras = ("pydicom", "scipy", "pydantic", "ruamel", "pandas", "tqdm", "PIL")
assert [name for name in extras if importlib.util.find_spec(name)] == []
import medidistill, medidistill.config, medidistill.export
from medidistill.config import DistillConfig, ExpertConfig, NetworkConfig, TrainingConfig
from medidistill.distillation import DistillProblem, distill, train_experts
from pathlib import Path

images, labels = torch.rand(12, 1, 16, 16), torch.arange(12) % 2
files = train_experts(
    images, labels, num_classes=2, network=NetworkConfig(width=4, depth=1),
    config=ExpertConfig(count=1, epochs=3, batch_size=6), seed=0, folder=Path("experts"), compile="off",
)
rules = DistillConfig(ipc=1, outer_steps=2, inner_steps=2, expert_epochs=1, max_start=1, compile="off")
problem = DistillProblem(files, ("well", "sick"), medidistill.Normalisation(), TrainingConfig(steps=1), seed=0)
made = distill(problem, rules)
bundle = sys.argv[1]
loaded = medidistill.load(bundle)
network = loaded.train()
assert loaded.predict(network, torch.rand(2, 1, 16, 16)).shape == (2, 3)
assert medidistill.DistilledSet.load(Path(bundle) / "distilled.safetensors").num_classes == 3
for line, message in REFUSED.items():
    try:
        exec(line)
    except medidistill.MissingExtraError as error:
        assert str(error).startswith(message), (line, str(error))
    else:
        raise SystemExit(f"{line}: not refused")
print(type(made).__name__)
"""


@pytest.fixture(scope="module")
def core_alone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment of the wheel, torch, NumPy, safetensors and what these need."""
    folder = tmp_path_factory.mktemp("core")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)]
    subprocess.run(build, check=True, capture_output=True, timeout=200)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    for name in needed(["torch", "numpy", "safetensors"]):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, timeout=200)
    return python


def needed(names: list[str]) -> set[str]:
    """Distributions and what they need, without their extras."""
    found: set[str] = set()
    while names:
        name = names.pop()
        if name in found:
            continue
        found.add(name)
        requirements = [Requirement(text) for text in importlib.metadata.distribution(name).requires or []]
        names += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.slow
def test_the_wheel_distils_and_trains_from_a_bundle_with_the_core_alone(core_alone: Path, tmp_path: Path) -> None:
    from tests.export.bundle_example import write

    bundle = write(tmp_path / "bundle")
    program = PROGRAM.replace("REFUSED", repr(REFUSED))
    command = [core_alone, "-I", "-c", program, bundle]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [core_alone.with_name("medidistill"), "run", "--input", "x", "--output", "y"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (shown.returncode, len(shown.stderr.splitlines())) == (2, 1), shown.stderr
    assert re.search(r"a run needs pandas.*pip install 'medidistill\[run\]'", shown.stderr)
