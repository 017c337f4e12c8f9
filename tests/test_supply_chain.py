"""What is installed is what was tested, and nothing that is read can run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOADERS = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}


def _pins(text: str) -> dict[str, str]:
    lines = [line.rstrip(" \\") for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    return {canonicalize_name(one.name): str(one.specifier) for one in map(Requirement, lines)}


def test_the_hashes_are_of_the_pinned_versions(root: Path) -> None:
    hashed_text = (root / "constraints-hashes.txt").read_text()
    pinned, hashed = _pins((root / "constraints.txt").read_text()), _pins(hashed_text)
    differing = {name: (pinned.get(name), one) for name, one in hashed.items() if pinned.get(name) != one}
    assert differing == {}, "run `make hashes`"
    assert len(hashed) > 100
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", hashed_text)[1:]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert "://" not in hashed_text


def test_no_module_unpickles(root: Path) -> None:
    files = [*(root / "medidistill").rglob("*.py"), *(root / "apps").rglob("*.py")]
    assert len(files) > 100
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
