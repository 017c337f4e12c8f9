"""What the pages show, computed from run folders. Knows nothing of Streamlit."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medidistill.distilled_set import DistilledSet
from medidistill.errors import MedidistillError
from medidistill.pipeline import RunFolder, load_config
from medidistill.record import RunRecord

__all__ = ["Picture", "RunView", "distilled_images", "find_runs", "read_run", "report_pictures"]

_DEPTH = 3


@dataclass(frozen=True)
class RunView:
    """One run as the app shows it.

    Args:
        name: path below the root.
        folder: its files.
        title: title of the report.
        notice: the caution shown beside every figure.
        finished: stages that have finished.
        test_openings: how often the test split was scored.
        table: the comparison as Markdown; empty until it is there.
    """

    name: str
    folder: RunFolder
    title: str
    notice: str
    finished: tuple[str, ...]
    test_openings: int
    table: str


@dataclass(frozen=True)
class Picture:
    """A picture with its caption: PNG bytes, SVG text, or (H, W) float64 in [0, 1]."""

    content: bytes | str | npt.NDArray[np.float64]
    caption: str


def find_runs(root: Path) -> list[Path]:
    """Return the run folders at most three levels below `root`, newest first."""
    found = [
        file.parent
        for depth in range(_DEPTH + 1)
        for file in root.glob("*/" * depth + "run.yaml")
        if RunFolder(file.parent).holds_run()
    ]
    return sorted(found, key=lambda path: (path / "run.yaml").stat().st_mtime, reverse=True)


def read_run(root: Path, path: Path) -> RunView:
    """Read one run folder. Raises `MedidistillError` when its files are damaged."""
    folder = RunFolder(path)
    config = load_config(folder.config_file)
    record = RunRecord.load(folder.record_file) if folder.record_file.is_file() else RunRecord()
    table = folder.evaluate / "comparison.md"
    return RunView(
        name=str(path.relative_to(root)) if path != root else path.name,
        folder=folder,
        title=config.name,
        notice=config.notice,
        finished=tuple(sorted(record.stages, key=lambda stage: record.stages[stage]["finished"])),
        test_openings=len(record.test_openings),
        table=table.read_text(encoding="utf-8") if "evaluate" in record.stages and table.is_file() else "",
    )


def distilled_images(run: RunView) -> list[Picture]:
    """Return the distilled images of the newest method that has finished, for the eye."""
    for method in ("iadd", "mtt"):
        if f"distill/{method}" not in run.finished:
            continue
        try:
            distilled = DistilledSet.load(run.folder.distill(method) / "distilled.safetensors")
        except MedidistillError:
            continue
        shown = distilled.normalisation.to_display(distilled.images).mean(1).double().numpy()
        labels = [distilled.class_names[label] for label in distilled.labels.tolist()]
        return [Picture(image, label) for image, label in zip(shown, labels, strict=True)]
    return []


class _Figures(HTMLParser):
    """Collects the embedded pictures of a report with the text of their captions; takes nothing else from the page."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[Picture] = []
        self._caption: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a picture; start a caption."""
        source = dict(attrs).get("src") or ""
        kind, _, data = source.partition(",")
        if tag == "img" and kind in ("data:image/png;base64", "data:image/svg+xml;base64"):
            content = base64.b64decode(data)
            self.pictures.append(Picture(content.decode() if "svg" in kind else content, dict(attrs).get("alt") or ""))
        elif tag == "figcaption":
            self._caption = []

    def handle_data(self, data: str) -> None:
        """Collect the text of a caption."""
        if self._caption is not None:
            self._caption.append(data)

    def handle_endtag(self, tag: str) -> None:
        """Give the last picture its caption."""
        if tag == "figcaption" and self._caption is not None:
            text = " ".join("".join(self._caption).split())
            if self.pictures and text:
                self.pictures[-1] = Picture(self.pictures[-1].content, text)
            self._caption = None


def report_pictures(run: RunView) -> list[Picture]:
    """Return the pictures of the report, in order; none where there is no report yet."""
    if not run.folder.report.is_file():
        return []
    parser = _Figures()
    parser.feed(run.folder.report.read_text(encoding="utf-8"))
    return parser.pictures
