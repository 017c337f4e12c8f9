"""Counts that may be shown: small cells hidden, and enough others that no hidden one can be worked out.

A table of counts with its totals is a system of equations. Hiding one small cell hides nothing, for the total of its
row gives it back. Here an attacker knows every shown number, that counts are >= 0, and all totals of columns; a
cell counts as hidden only if what is shown still allows it a range of at least `width`, found by two linear
programs. Until that holds for each hidden cell, a neighbour in its row or column is hidden too.

Source: Cox 1980, JASA 75 (complementary suppression); Willenborg, de Waal 2001, Elements of Statistical Disclosure
Control, Springer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.statistics import BoolArray, FloatArray, IntArray

__all__ = ["feasible_ranges", "suppress"]


def suppress(counts: npt.ArrayLike, small: npt.ArrayLike, width: int) -> BoolArray:
    """Return which cells of a table to hide, (L, K + 1); the last column is the total of the row.

    Args:
        counts: (L, K) whole numbers >= 0, levels by classes.
        small: (L, K + 1) cells that must not be shown, the last column for the totals of the rows.
        width: smallest range that must stay possible for a hidden cell.

    Returns:
        Hidden cells: `small` and what protects it. Totals of columns are taken as known and are never hidden; where
        that leaves nothing to hide behind, every cell is hidden.

    Raises:
        ConfigError: shapes or values do not fit.
    """
    table, hidden = np.asarray(counts, dtype=np.int64), np.array(small, dtype=bool)
    if table.ndim != 2 or hidden.shape != (len(table), table.shape[1] + 1) or table.min(initial=0) < 0 or width < 1:
        raise ConfigError(
            f"counts {table.shape}, small {hidden.shape}, width={width}: must be (L, K) >= 0, (L, K + 1) and >= 1"
        )
    whole = np.column_stack([table, table.sum(axis=1)])
    while hidden.any() and not hidden.all():
        low, high = feasible_ranges(table, hidden)
        open_cells = np.argwhere(hidden & (high - low < width))
        if len(open_cells) == 0:
            break
        # the least protected cell first: with few others in its row or column it discloses them
        lines = [min(_line_sums(whole, hidden, int(i), int(j))) for i, j in open_cells]
        row, column = (int(place) for place in open_cells[int(np.argmin(lines))])
        hidden[_complementary_cell(whole, hidden, row, column, width)] = True
    return hidden


def _line_sums(whole: IntArray, hidden: BoolArray, row: int, column: int) -> tuple[int, int]:
    """Return the sum of the hidden cells in the row and in the column, 0 where the cell is the only one.

    The sum is what shown numbers tell; the more there is to share out, the less a single cell is known.
    """
    lines = (hidden[row], whole[row]), (hidden[:, column], whole[:, column])
    in_row, in_column = (int(values[mask].sum()) if mask.sum() > 1 else 0 for mask, values in lines)
    return in_row, in_column


def _complementary_cell(whole: IntArray, hidden: BoolArray, row: int, column: int, width: int) -> tuple[int, int]:
    """Return the shown cell to hide for the sake of (row, column): large enough to hide behind, then few and small.

    Company is sought in the row or column that has less of it; a cell that shares its other line with a hidden cell
    closes a rectangle, after which nothing more is needed.
    """
    in_row, in_column = _line_sums(whole, hidden, row, column)
    line = np.zeros_like(hidden)
    if in_row <= in_column:
        line[row] = True
    if in_column <= in_row:
        line[:, column] = True
    candidates = np.argwhere(line & ~hidden)
    if len(candidates) == 0:
        candidates = np.argwhere(~hidden)

    def cost(place: tuple[int, int]) -> tuple[bool, bool, int]:
        i, j = place
        closes = hidden[:, j].any() if i == row else hidden[i].any()
        return bool(whole[i, j] < width), not closes, int(whole[i, j])

    return min(((int(i), int(j)) for i, j in candidates), key=cost)


def feasible_ranges(counts: npt.ArrayLike, hidden: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the smallest and largest value of each cell that the shown ones and the column totals allow."""
    from scipy.optimize import linprog

    table, mask = np.asarray(counts, dtype=np.float64), np.asarray(hidden, dtype=bool)
    whole = np.column_stack([table, table.sum(axis=1)])
    equations, totals = _equations(table)
    low, high = whole.copy(), whole.copy()
    unknown = np.flatnonzero(mask)
    known = np.flatnonzero(~mask)
    right = totals - equations[:, known] @ whole.ravel()[known]
    for place, cell in enumerate(unknown):
        aim = np.zeros(len(unknown))
        aim[place] = 1.0
        ends = []
        for sign in (1, -1):
            found = linprog(sign * aim, A_eq=equations[:, unknown], b_eq=right, bounds=(0, None), method="highs")
            assert found.fun is not None  # the true table is a solution, and totals of columns bound all of them
            ends.append(sign * float(found.fun))
        low.ravel()[cell], high.ravel()[cell] = ends
    return low, high


def _equations(table: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the equations (E, L (K + 1)) that any reader knows: rows add up to their total, columns to theirs."""
    levels, classes = table.shape
    rows = np.zeros((levels, levels, classes + 1))
    rows[np.arange(levels), np.arange(levels), :classes] = 1
    rows[np.arange(levels), np.arange(levels), classes] = -1
    columns = np.zeros((classes, levels, classes + 1))
    columns[np.arange(classes), :, np.arange(classes)] = 1
    equations = np.concatenate([rows, columns]).reshape(levels + classes, -1)
    return equations, np.concatenate([np.zeros(levels), table.sum(axis=0)])
