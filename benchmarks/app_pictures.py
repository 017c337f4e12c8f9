"""Pictures of every page of the app, of its demo, in a real Chromium: those of docs/tutorial.md.

    python -m benchmarks.app_pictures docs/pictures
    python -m benchmarks.app_pictures /tmp/look --dark --width 820 --height 1180

Each picture is as tall as its page, up to `_TALLEST`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.app import FLAGS, served
from medidistill.cli.commands.app import give_demo

_TALLEST = 2600  # pixels
_PATIENCE = 300_000  # ms
_MAIN = "[data-testid=stMain]"


def draw(port: int, folder: Path, width: int, height: int, *, dark: bool) -> None:
    """Save `app-PAGE.png` for every page, and for the views of Compare that look different."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", device_scale_factor=1
        )
        page.set_default_timeout(_PATIENCE)

        def shot(name: str) -> None:
            _settle(page)
            tall = int(page.evaluate(f"document.querySelector('{_MAIN}').scrollHeight"))
            page.set_viewport_size({"width": width, "height": min(_TALLEST, max(height, tall))})
            _settle(page)
            page.screenshot(path=folder / f"app-{name}.png")
            page.set_viewport_size({"width": width, "height": height})

        page.goto(f"http://localhost:{port}/")
        page.get_by_text("What the chosen run has read").click()
        page.get_by_text("Images by class and split").wait_for()
        _settle(page)  # a click while the page is drawn is lost
        page.get_by_text("Show some of these patients' images").click()
        shot("data")
        for name, sign in (
            ("distill", "How the distillation goes"),
            ("compare", "Can I train on the distilled set"),
            ("gallery", "Beside the nearest real images"),
            ("privacy", "How to read this with"),
            ("export", "The file to carry"),
            ("receive", "No bundle was opened yet"),
        ):
            page.goto(f"http://localhost:{port}/{name}")
            page.get_by_text(sign).first.wait_for()
            _settle(page)
            if name == "gallery":  # of phantoms: no patient is shown
                page.get_by_text("Show patients' images").click()
                page.get_by_text("in units of the image's own contrast").wait_for()
            shot(name)
            if name == "compare":
                for view, short in (("ROC curves", "roc"), ("Calibration", "calibration"), ("Subgroups", "subgroups")):
                    page.get_by_role("radio", name=view).click()
                    shot(f"compare-{short}")
                page.get_by_role("radio", name="What they look at").click()
                _settle(page)
                page.get_by_text("Show patients' images").click()
                shot("compare-looks")
        browser.close()


def _settle(page: Any) -> None:
    """Wait until nothing is drawn any more."""
    page.wait_for_timeout(1500)
    page.locator("[data-testid=stStatusWidget]").wait_for(state="detached")
    page.locator("[data-stale=true]").first.wait_for(state="detached")
    page.wait_for_timeout(1000)


def main() -> None:
    """Serve the demo, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--dark", action="store_true")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "runs"
        root.mkdir()
        give_demo(root)
        with served(root) as port:
            draw(port, chosen.folder, chosen.width, chosen.height, dark=chosen.dark)


if __name__ == "__main__":
    main()
