"""Look at runs in the browser: `medidistill app --root DIR`. Draws only; `view_models` reads."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).parent))  # `streamlit run` does so too; AppTest does not

from view_models import RunView, distilled_images, find_runs, read_run, report_pictures

from medidistill.errors import MedidistillError

_COLUMNS = 5


def _how_to_start(root: Path) -> None:
    st.info(f"No run below {root}. Make one, then reload this page:")
    st.code(
        "medidistill demo --output demo-output          # phantom X-rays, no data needed\n"
        "medidistill run --config quick --input XRAYS --output runs/first",
        language="bash",
    )


def _show(run: RunView) -> None:
    st.header(run.title)
    if run.notice:
        st.warning(run.notice)
    st.caption(f"{run.name}; finished stages: {', '.join(run.finished) or 'none yet'}")
    if run.test_openings > 1:
        st.warning(f"The test split was scored {run.test_openings} times; its figures are no longer a single look.")

    st.subheader("What the images are worth")
    if run.table:
        st.markdown(run.table)
    else:
        st.info("The comparison has not finished. Continue the run:")
        st.code(f"medidistill run --output {run.folder.path} --resume", language="bash")

    images = distilled_images(run)
    if images:
        st.subheader("Distilled images")
        st.caption("Synthetic. Distillation alone gives no formal privacy guarantee.")
        for start in range(0, len(images), _COLUMNS):
            for column, image in zip(st.columns(_COLUMNS), images[start : start + _COLUMNS], strict=False):
                column.image(image.content, caption=image.caption, clamp=True, width="stretch")

    pictures = report_pictures(run)
    if pictures:
        st.subheader("Report")
        for picture in pictures:
            st.image(picture.content, caption=picture.caption)
        st.download_button("Download the report", run.folder.report.read_bytes(), "report.html", "text/html")


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="medidistill", layout="wide")
    st.title("medidistill")
    st.caption("Research use, not for diagnosis.")
    root = Path(os.environ.get("MEDIDISTILL_RUNS", ".")).resolve()
    runs = find_runs(root)
    if not runs:
        _how_to_start(root)
        return
    chosen = st.sidebar.selectbox(
        "Run", runs, format_func=lambda path: str(path.relative_to(root)) if path != root else path.name
    )
    try:
        _show(read_run(root, chosen))
    except MedidistillError as error:
        st.error(str(error))


main()
