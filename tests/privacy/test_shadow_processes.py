"""Processes of an audit that cannot start, or that end in the middle, never leave it waiting."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medidistill.distilled_set import DistilledSet
from medidistill.errors import ResourceError
from medidistill.privacy.shadows import AuditData, ShadowPlan, plan_shadows, run_shadows

from .procedures import FIXED, Means, as_set, people

pytestmark = pytest.mark.slow  # each starts processes that import torch
REPOSITORY = Path(__file__).parents[2]


def small_audit() -> tuple[AuditData, ShadowPlan]:
    from medidistill.privacy.audit import make_pool

    release = as_set(torch.zeros(2, 1, 16, 16), torch.tensor([0, 1]), "noise")
    pool = make_pool(release, people(20, 0), people(20, 1, prefix="q"))
    return pool, plan_shadows(pool, FIXED, runs=4, canaries=100, seed=1)


@dataclass(frozen=True)
class Killed:
    """Ends its own process."""

    def __call__(self, images: Tensor, labels: Tensor, patients: Sequence[str], seed: int) -> DistilledSet:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@dataclass(frozen=True)
class KnownHereAlone:
    """A procedure whose module the processes of an audit cannot import."""

    def __call__(self, images: Tensor, labels: Tensor, patients: Sequence[str], seed: int) -> DistilledSet:
        return Means(2)(images, labels, patients, seed)


def test_a_process_that_is_killed_ends_the_audit_with_a_reason(tmp_path: Path) -> None:
    pool, plan = small_audit()
    with pytest.raises(ResourceError, match="ended before its work was done"):
        run_shadows(pool, plan, Killed(), procedure="a", students=1, folder=tmp_path, workers=2)
    assert multiprocessing.active_children() == []


def test_a_procedure_that_processes_cannot_import_runs_in_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import types

    module = types.ModuleType("known_here_alone")
    module.KnownHereAlone = KnownHereAlone  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "known_here_alone", module)
    monkeypatch.setattr(KnownHereAlone, "__module__", "known_here_alone")
    pool, plan = small_audit()
    found = [
        run_shadows(pool, plan, one, procedure="a", students=1, folder=tmp_path / str(workers), workers=workers)
        for one, workers in ((KnownHereAlone(), 2), (Means(2), 1))
    ]
    np.testing.assert_array_equal(found[0].log_probabilities, found[1].log_probabilities)


def test_a_script_without_a_main_guard_ends(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from tests.privacy.test_shadow_processes import Means, run_shadows, small_audit\n"
        "pool, plan = small_audit()\n"
        "folder = Path(__file__).parent / __name__\n"
        "run_shadows(pool, plan, Means(2), procedure='a', students=1, folder=folder, workers=2)\n"
        "print('done in', __name__)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "done in __main__" in done.stdout
