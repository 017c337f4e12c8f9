"""What is installed is what was tested, and nothing that is read can run."""

from __future__ import annotations

import ast
import datetime
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import advisories, locked

LOADERS = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}


def _pins(text: str) -> dict[str, str]:
    lines = [line.rstrip(" \\") for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    return {canonicalize_name(one.name): str(one.specifier) for one in map(Requirement, lines)}


def test_the_hashes_are_of_the_pinned_versions(root: Path) -> None:
    hashed_text = (root / "constraints-hashes.txt").read_text()
    pinned, hashed = _pins((root / "constraints.txt").read_text()), _pins(hashed_text)
    assert pinned == hashed, "run `make lock`"
    assert len(hashed) > 100
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", hashed_text)[1:]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert "://" not in hashed_text


def test_the_lock_has_a_way_to_each_requirement_of_the_project(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    groups = ["core", *project["optional-dependencies"]]
    lock = locked.read_lock(root)
    assert {one.name for one in locked.select(groups, root)} == lock.keys(), "run `make lock`"
    for requirement in map(Requirement, locked.requirement_texts(groups, root)):
        one = lock[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(one.version), f"{requirement}: run `make lock`"
        assert "medidistill" in one.needed_by
    core, app = ({one.name for one in locked.select(groups, root)} for groups in (["core"], ["core", "app"]))
    assert {"torch", "numpy", "safetensors", "sympy"} <= core  # sympy: by way of torch alone
    assert not core & {"pydicom", "scikit-learn", "streamlit", "monai"}
    assert core | {"pydicom", "scikit-learn", "streamlit", "monai", "psutil"} <= app  # by way of other extras
    assert not app & {"pytest", "ruff", "mypy", "hatchling", "opacus"}


def test_what_a_group_needs_is_what_pip_takes(root: Path) -> None:
    text = "\n".join(one.line() for one in locked.select(["core", "app"], root))
    for block in re.split(r"(?m)^(?=[a-z0-9])", text)[1:]:
        assert re.match(r"[a-z0-9.-]+==\S+( ; [^\\]+)? \\\n    --hash=sha256:[0-9a-f]{64}", block), block


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("six>=1 \\\n    --hash=sha256:" + "0" * 64 + "\n    # via medidistill\n", "needs a pinned version"),
        ("six==1\n    # via medidistill\n", "needs a pinned version, hashes"),
        ("six==1 \\\n    --hash=sha256:" + "0" * 64 + "\n", "and `# via`"),
        (2 * ("six==1 \\\n    --hash=sha256:" + "0" * 64 + "\n    # via medidistill\n"), "six is there twice"),
    ],
)
def test_a_lock_that_says_too_little_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / locked.LOCK).write_text(text)
    with pytest.raises(ValueError, match=said):
        locked.read_lock(tmp_path)


def test_the_advisory_check_says_as_of_when_and_no_answer_is_no_clean_bill() -> None:
    when = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)
    good = {"name": "six", "version": "1", "vulns": []}
    bad = {"name": "seven", "version": "2", "vulns": [{"id": "PYSEC-0", "fix_versions": ["3"]}]}
    unknown = {"name": "eight", "skip_reason": "not found"}
    lines, code = advisories.summary({"dependencies": [good]}, 1, "pypi", when)
    assert lines[0].startswith("advisories of 2026-01-02 03:04 UTC")
    assert code == 0
    lines, code = advisories.summary({"dependencies": [good, bad]}, 2, "pypi", when)
    assert (lines[-1], code) == ("- seven 2: PYSEC-0 (fixed in: 3)", 1)
    lines, code = advisories.summary({"dependencies": [good, unknown]}, 2, "osv", when)
    assert ("1 compared" in lines[1], lines[-1], code) == (True, "- not compared: eight (not found)", 2)


def test_no_module_unpickles_but_what_its_own_processes_send(root: Path) -> None:
    workers = root / "medidistill" / "networks" / "workers.py"
    files = {*(root / "medidistill").rglob("*.py"), *(root / "apps").rglob("*.py")} - {workers}
    assert len(files) > 100
    text = workers.read_text()
    assert text.count("pickle.loads(") == 3  # of a pipe's bytes, twice, and of an error that it has just pickled
    assert not re.search(r"\bopen\(|read_bytes|pickle\.load\(|Listener|socket", text)
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not LOADERS & {name.name.partition(".")[0] for name in node.names}, file
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in LOADERS, file
            if isinstance(node, ast.Call):
                called, options = ast.unparse(node.func), {one.arg: ast.unparse(one.value) for one in node.keywords}
                assert called != "torch.load" or options.get("weights_only") == "True", file
                assert called not in ("np.load", "numpy.load") or options.get("allow_pickle", "False") == "False", file
                assert called not in ("pandas.read_pickle", "pd.read_pickle", "eval", "exec"), file


def test_yaml_is_read_by_safe_loaders(root: Path) -> None:
    for file in (root / "medidistill").rglob("*.py"):
        text = file.read_text()
        for call in re.findall(r"yaml\.(\w*load\w*)\(([^)]*)\)", text):
            assert call[0].startswith("safe") or "Loader=_Loader" in call[1], file
        assert "yaml.Loader" not in text
        assert "UnsafeLoader" not in text
