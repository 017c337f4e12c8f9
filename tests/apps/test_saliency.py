"""A map over a film: at the resolution of the film, in the right place, no more pixels than a browser needs."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def overlay(root):
    from view_models.saliency import overlay

    return overlay


@pytest.mark.parametrize(
    ("side", "zoom", "shown"), [(300, 1.0, 300), (300, 2.0, 150), (3000, 1.0, 1400), (3000, 4.0, 750)]
)
def test_every_pixel_is_shown_up_to_what_a_browser_is_sent(overlay, side, zoom, shown):
    assert overlay(np.zeros((side, side), np.float32), zoom=zoom).shape == (shown, shown, 3)


def test_map_lies_where_its_cell_lies_and_the_film_stays_below_it(overlay):
    film = np.zeros((64, 64), np.float32)
    heat = np.zeros((8, 8), np.float32)
    heat[0, 7] = 1.0  # top right
    pixels = overlay(film, heat, strength=1.0).astype(int)
    bright = pixels.sum(axis=2)
    row, column = np.unravel_index(bright.argmax(), bright.shape)
    assert row < 16
    assert column > 48
    corner = overlay(film, heat, strength=1.0, zoom=2.0, across=1.0, down=0.0)
    assert corner.sum() > overlay(film, heat, strength=1.0, zoom=2.0, across=0.0, down=1.0).sum()
    np.testing.assert_array_equal(overlay(film + 0.5, heat, strength=0.0), overlay(film + 0.5))
