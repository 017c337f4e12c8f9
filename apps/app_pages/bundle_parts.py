"""A bundle as both sides see it, the hospital that sends and the one that receives."""

from __future__ import annotations

import re

import streamlit as st

from app_pages.parts import plain_text, show_tiles, without_pictures
from medidistill.words import start_words
from view_models.bundles import BundleView
from view_models.training import tiles

__all__ = ["show_bundle"]


def show_bundle(bundle: BundleView) -> None:
    """Draw the images, the card and the files of a bundle."""
    for note in bundle.notes:
        st.caption(plain_text(note[:1].upper() + note[1:] + "."))
    distilled = bundle.distilled
    if distilled is not None:
        st.subheader("The images", anchor=False)
        began = start_words(str(distilled.recipe.get("init")))
        if began is not None:
            shown = tiles(distilled.images, distilled.class_names, distilled.normalisation, distilled.labels.tolist())
            st.caption(f"Synthetic: they began as {began}. They need not look like X-rays to teach a network.")
            show_tiles(shown[:24])
        else:
            st.error("These images began as copies of patients' X-rays and may still show them; they are not shown.")
    st.subheader("The card", anchor=False)
    with st.container(border=True, height=420):
        card = re.sub(r"^#", "###", bundle.card, flags=re.MULTILINE)  # headings of the card are not those of the page
        st.markdown(without_pictures(card))
    with st.expander(f"Files ({len(bundle.files)})"):
        st.dataframe(bundle.files, hide_index=True)
