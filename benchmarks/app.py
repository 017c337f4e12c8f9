"""How fast the app answers: every page of a large finished run, and 20 sessions at once.

    python -m benchmarks.app --work DIR

A run with 5,000 test images and five arms is written into DIR (random predictions: the pages do not care), the app is
started as `medidistill app`, and sessions talk to it as a browser does, over its WebSocket. A time is that from the
click to the end of the page's script with all messages received; what the browser needs to draw them is not in it.
The views of the page Compare are clicked in a real Chromium, until their picture or table is there.
Writes `benchmarks/results/app.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from medidistill.config import RunConfig, as_dict
from medidistill.distilled_set import DistilledSet, LabelledImages, Normalisation
from medidistill.evaluate import ArmRun, compare
from medidistill.evaluate.clinical import ClinicalSettings, clinical_comparison
from medidistill.export import write_bundle
from medidistill.files import save_tensors, write_json, write_text
from medidistill.pipeline import RunFolder
from medidistill.record import RunRecord, hardware, versions

RESULTS = Path(__file__).parent / "results" / "app.json"
PAGES = ("", "distill", "compare", "gallery", "privacy", "export", "receive")
NAMES = ("COVID-19", "Normal", "Pneumonia")
SIZE, TEST, TRAIN, VAL, IPC = 64, 5000, 4000, 800, 10
SESSIONS, CLICKS = 20, 5
_PICTURES = ("Accuracy", "ROC curves", "Calibration", "Net benefit", "Probabilities", "What is taken for what")
VIEWS = dict.fromkeys(_PICTURES, "[data-testid=stImage] img") | {
    "Subgroups": "text=By site",
    "Files and checklist": "text=clinical.json",
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
PAUSE = 2.0  # seconds that a reader looks at a page, on average


def make_run(path: Path) -> RunFolder:
    """Write a finished run of the size that the pages must cope with; kept where it is there already."""
    if (path / "report.html").is_file():
        return RunFolder(path)
    config, rng = RunConfig(name="Benchmark of the app"), np.random.default_rng(0)
    folder, record = RunFolder.create(path, config), RunRecord(config=as_dict(config))
    splits = {}
    for split, count in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        labels = torch.arange(count) % len(NAMES)
        splits[split] = _prepared(folder, split, labels, rng)
    rows = "".join(f"i{i},{NAMES[i % 3]},p{i // 2},site-{i % 4},,,test,{SIZE},{SIZE},0\n" for i in range(TEST))
    write_text(folder.ingest / "manifest.csv", f"key,label,patient_id,site,sex,age,split,width,height,sha256\n{rows}")
    write_text(folder.ingest / "quarantine.csv", "key,reason\n")
    test = splits["test"]
    runs = [_arm(arm, test.labels.numpy(), splits["val"].labels.numpy(), rng) for arm in config.evaluate.arms]
    for run in runs:
        run.save(folder.evaluate / "cells" / f"{run.arm}-convnet.safetensors")
    comparison = compare(runs, test.labels, test.patient_ids, NAMES, bootstrap=100, confidence=0.95, seed=0)
    write_json(folder.evaluate / "comparison.json", comparison.to_dict())
    clinical = clinical_comparison(
        runs,
        test.labels.numpy(),
        test.patient_ids,
        NAMES,
        settings=ClinicalSettings(bootstrap=100),
        val_labels=splits["val"].labels.numpy(),
        subgroups={"site": test.sites},
    )
    write_json(folder.evaluate / "clinical.json", clinical.to_dict())
    for method in ("mtt", "iadd"):
        _distilled(folder, method, config)
    counts = {split: images.counts() for split, images in splits.items()}
    record.stage("ingest", inputs="0", images=counts, patients={}, quarantined=0)
    for stage in ("experts", "distill/mtt", "distill/iadd", "evaluate", "export", "report"):
        record.stage(stage, inputs="0")
    distilled = DistilledSet.load(folder.distill("iadd") / "distilled.safetensors")
    write_bundle(distilled, folder.bundle, name=config.name, record=record, comparison=comparison, notice="Random.")
    record.save(folder.record_file)
    write_text(folder.report, "<!doctype html><title>benchmark</title>")
    return folder


def _prepared(folder: RunFolder, split: str, labels: torch.Tensor, rng: np.random.Generator) -> LabelledImages:
    count = len(labels)
    images = torch.from_numpy(rng.random((count, 1, SIZE, SIZE), dtype=np.float32))
    patients = tuple(f"p-{split}-{i // 2}" for i in range(count))
    sites = tuple(f"site-{i % 4}" for i in range(count))
    header = {
        "kind": "prepared_split",
        "digest": "0",
        "normalisation": as_dict(Normalisation()),
        "class_names": NAMES,
        "patient_ids": patients,
        "keys": tuple(f"{split}/{i}.png" for i in range(count)),
        "sites": sites,
    }
    save_tensors(folder.ingest / f"{split}.safetensors", {"images": images, "labels": labels}, header, mode=0o600)
    return LabelledImages(images, labels, NAMES, patients, header["keys"], sites)  # type: ignore[arg-type]


def _arm(name: str, test: np.ndarray[Any, Any], val: np.ndarray[Any, Any], rng: np.random.Generator) -> ArmRun:
    def guesses(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        scores = rng.normal(size=(5, len(labels), len(NAMES))) + 1.5 * np.eye(len(NAMES))[labels]
        odds = np.exp(scores)
        shares: np.ndarray[Any, Any] = (odds / odds.sum(-1, keepdims=True)).astype(np.float32)
        return shares

    return ArmRun(
        arm=name,
        architecture="convnet",
        seed=0,
        chosen=RunConfig().evaluate.small_set_training,
        training_images=TRAIN if name == "full" else 3 * IPC,
        num_classes=len(NAMES),
        val_balanced_accuracy=(0.7,) * 5,
        test_probabilities=guesses(test),
        val_probabilities=guesses(val),
    )


def _distilled(folder: RunFolder, method: str, config: RunConfig) -> None:
    entries = [
        {"step": step, "loss": 1 / (1 + step / 50), "alpha": 0.03 + step * 1e-5, "seconds": 0.1}
        | ({"score": 0.5 + step * 1e-4} if step % 20 == 0 else {})
        for step in range(1, 1001)
    ]
    target = folder.distill(method)
    write_json(target / "history.json", {"status": "completed", "best_step": 1000, "entries": entries, "events": []})
    DistilledSet(
        images=torch.randn(3 * IPC, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)),
        labels=torch.arange(3).repeat_interleave(IPC),
        alpha=0.03,
        class_names=NAMES,
        normalisation=Normalisation(),
        network=config.network,
        training=config.evaluate.small_set_training,
        recipe={"method": method, "init": "noise", "seed": 0, "data": "0", "image_size": SIZE},
    ).save(target / "distilled.safetensors")


@contextlib.contextmanager
def served(root: Path) -> Iterator[int]:
    """Serve the app inside the block; gives its port."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "medidistill", "app", "--root", str(root), "--port", str(port)]
    environment = {**os.environ, "STREAMLIT_SERVER_HEADLESS": "true"}
    app = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://localhost:{port}/_stcore/health"):
                break
            if app.poll() is not None:
                raise SystemExit("the app did not start")
            time.sleep(0.3)
        yield port
    finally:
        os.killpg(app.pid, signal.SIGTERM)
        app.wait(60)


async def click(session: ClientConnection, page: str) -> tuple[float, int]:
    """Open a page; return the seconds until it has been sent, and its bytes."""
    message = BackMsg()
    message.rerun_script.page_name = page
    began, size = time.perf_counter(), 0
    await session.send(message.SerializeToString())
    while True:
        data = await session.recv()
        assert isinstance(data, bytes)
        size += len(data)
        answer = ForwardMsg()
        answer.ParseFromString(data)
        kind = answer.WhichOneof("type")
        if kind == "delta" and answer.delta.new_element.WhichOneof("type") == "exception":
            raise SystemExit(f"page {page or 'data'}: {answer.delta.new_element.exception.message}")
        if kind == "script_finished":
            return time.perf_counter() - began, size


async def one_session(port: int) -> dict[str, dict[str, float]]:
    """Open every page twice in one session."""
    found = {}
    async with connect(
        f"ws://localhost:{port}/_stcore/stream",
        subprotocols=["streamlit"],  # type: ignore[list-item]
        origin=f"http://localhost:{port}",  # type: ignore[arg-type]
        max_size=None,
    ) as session:
        await click(session, "")
        for page in PAGES:
            first, size = await click(session, page)
            again, _ = await click(session, page)
            found[page or "data"] = {"first_s": round(first, 3), "again_s": round(again, 3), "kB": round(size / 1000)}
    return found


def views(port: int) -> dict[str, dict[str, float]]:
    """Click every view of the page Compare twice in a browser."""
    from playwright.sync_api import sync_playwright

    found = {}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"http://localhost:{port}/compare")
        page.get_by_text("Can I train on the distilled set").wait_for()
        for name, sign in VIEWS.items():
            times = {}
            for turn in ("first_s", "again_s"):
                page.get_by_role("radio", name="Answer").click()
                page.get_by_text("Can I train on the distilled set").wait_for()
                page.wait_for_timeout(1000)
                began = time.perf_counter()
                page.get_by_role("radio", name=name).click()
                page.locator(sign).first.wait_for()
                page.locator("[data-stale=true]").first.wait_for(state="detached")
                times[turn] = round(time.perf_counter() - began, 3)
            found[name] = times
        browser.close()
    return found


async def many_sessions(port: int) -> list[float]:
    """Let sessions click about with pauses; return the seconds of every click after a session's first."""

    async def reader(number: int) -> list[float]:
        generator = random.Random(number)
        async with connect(
            f"ws://localhost:{port}/_stcore/stream",
            subprotocols=["streamlit"],  # type: ignore[list-item]
            origin=f"http://localhost:{port}",  # type: ignore[arg-type]
            max_size=None,
            open_timeout=120,
        ) as session:
            await click(session, "")
            times = []
            for _ in range(CLICKS):
                await asyncio.sleep(generator.uniform(0.5, 1.5) * PAUSE)
                times.append((await click(session, generator.choice(PAGES)))[0])
            return times

    return [one for times in await asyncio.gather(*map(reader, range(SESSIONS))) for one in times]


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    (work / "runs").mkdir(parents=True, exist_ok=True)
    make_run(work / "runs" / "large")
    with served(work / "runs") as port:
        pages = asyncio.run(one_session(port))
        compared = views(port)
        times = sorted(asyncio.run(many_sessions(port)))
    load = os.getloadavg()
    result = {
        "test_images": TEST,
        "arms": list(RunConfig().evaluate.arms),
        "pages": pages,
        "compare_views": compared,
        "concurrent": {
            "sessions": SESSIONS,
            "clicks": len(times),
            "median_s": round(statistics.median(times), 3),
            "p95_s": round(times[int(0.95 * len(times))], 3),
            "largest_s": round(times[-1], 3),
        },
        "load_average": [round(one, 1) for one in load],
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(RESULTS, result)
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
