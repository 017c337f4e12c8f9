"""An exchange between ranks, a run of the core alone and a whole run."""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.networks import made_up_images
from benchmarks.gpu.scale import Scale, keep, name_of, or_error, seconds_of, wait
from medidistill.config import DistillConfig, ExpertConfig, NetworkConfig, TrainingConfig
from medidistill.distillation import (
    DistillProblem,
    distill,
    train_experts,
)
from medidistill.distillation.objective import Sample
from medidistill.distilled_set import Normalisation
from medidistill.networks import make_network, predict, train
from medidistill.seeding import stream
from tests.support.peak_memory import Peak

_WHOLE_RUN_NEEDS = ("monai", "pydicom", "sklearn", "scipy", "pandas", "pydantic", "ruamel.yaml", "matplotlib", "jinja2")


def ranks(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """Start one rank by torchrun and return what it says."""
    launched = ["torch.distributed.run", "--standalone", "--nproc-per-node=1", "--module", "benchmarks.gpu_all"]
    given = ["--only", "_rank", "--scale", name_of(scale), "--device", str(device)]
    done = subprocess.run(
        [sys.executable, "-m", *launched, *given], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-1500:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one_rank(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """Exchange samples as one rank of a group, although a rank alone would not."""
    import torch.distributed as dist

    from medidistill.distillation.ranks import _join

    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    begun = time.perf_counter()
    group = _join(backend)
    joined = time.perf_counter() - begun
    images = torch.randn(10 * scale.ipc, 1, scale.large, scale.large, device=device)
    sample = Sample(0.5, images, torch.rand(10 * scale.ipc, 10, device=device), torch.tensor(0.1, device=device))

    def exchange() -> list[Sample]:
        return group._exchange(sample)

    (back,) = exchange()
    same = all(torch.equal(getattr(back, name), getattr(sample, name)) for name in ("images", "targets", "alpha"))
    seconds = seconds_of(exchange, device, 5 * scale.repeats)
    backends = str(dist.get_backend_config())
    dist.destroy_process_group()
    return {"backend": backends, "joined": joined, "seconds": seconds, "bytes": 4 * images.numel(), "same": same}


def core_run(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """Experts, a distillation by snapshots and one by MTT, and networks from each set; nothing but torch."""
    side, classes = (64 if scale.large > 64 else scale.large), 3
    images, labels = (part.to(device) for part in made_up_images(2 * scale.images, classes, side))
    half = len(images) // 2
    real, unseen = (images[:half], labels[:half]), (images[half:], labels[half:])
    network, training = NetworkConfig(width=min(32, scale.large_width)), TrainingConfig(steps=scale.training)
    found: dict[str, Any] = {"side": side, "images": half, "outer_steps": scale.outer, "methods": {}}
    with tempfile.TemporaryDirectory() as place:
        begun = time.perf_counter()
        pool = ExpertConfig(count=4, epochs=scale.epochs, batch_size=min(64, half))
        files = train_experts(
            *real, num_classes=classes, network=network, config=pool, seed=0, folder=Path(place), stack_size=4
        )
        wait(device)
        found["experts"] = time.perf_counter() - begun
        keep(found)
        for objective in ("snapshots", "trajectory"):
            config = DistillConfig(
                objective=objective,
                ipc=scale.ipc,
                outer_steps=scale.outer,
                inner_steps=5,
                max_start=max(1, scale.epochs - 3),
                expert_epochs=1,
                max_snapshot=2,
                validate_every=0,
            )
            problem = DistillProblem(files, [str(k) for k in range(classes)], Normalisation(), training, 0, real)

            def one(problem: DistillProblem = problem, config: DistillConfig = config) -> dict[str, float]:
                peak, begun = Peak(device), time.perf_counter()
                made = distill(problem, config, device=device)
                wait(device)
                took, used = time.perf_counter() - begun, peak.bytes()
                begun = time.perf_counter()
                right = []
                for number in range(2):
                    fresh = make_network(
                        network,
                        channels=1,
                        image_size=side,
                        num_classes=classes,
                        generator=stream(number, "fresh"),
                    ).to(device)
                    given = made.distilled
                    train(fresh, given.images.to(device), given.targets.to(device), training, stream(number, "batches"))
                    right.append((predict(fresh, unseen[0]).argmax(1) == unseen[1].cpu()).float().mean().item())
                return {
                    "distill": took,
                    "peak_bytes": used,
                    "networks": time.perf_counter() - begun,
                    "accuracy": statistics.fmean(right),
                }

            found["methods"][objective] = or_error(one)
            keep(found)
    return found


def whole_run(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """`medidistill run` from a folder of X-rays to the bundle, its stages' times."""
    missing = [name for name in _WHOLE_RUN_NEEDS if not _is_installed(name)]
    if missing:
        return {"skipped": f"not installed: {', '.join(missing)}"}
    if not data or not (Path(data) / "labels.csv").is_file():
        return {"skipped": "--data names no folder of X-rays with labels.csv"}
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "medidistill", "run", "--input", data, "--output", f"{place}/run"]
        command += ["--config", "covid-cxr", "--device", str(device), "--quiet"]
        command += [] if scale.compile else ["--until", "ingest"]  # the rehearsal
        begun = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took = time.perf_counter() - begun
        events = map(json.loads, (Path(place) / "run" / "events.jsonl").read_text().splitlines())
        stages = {one["stage"]: one["seconds"] for one in events if one.get("event") == "stage_finished"}
    return {"seconds": took, "stages": stages, "code": done.returncode, "said": done.stderr[-500:]}


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
