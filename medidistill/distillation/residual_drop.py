"""A mask that leaves out what is matched best already.

    L = sum_j v_j d_j^2 / sum_j v_j m_j^2,        v_j = 0 for the share of the moving parameters with the smallest d_j^2

anew in each sample, constant in the gradient. EDF (Wang et al. 2025, arXiv 2410.17193) drops the parameters of lowest
loss in each step, since they carry patterns that all images share; 12.5 to 25 % did best there. Parameter pruning
(`pruning.py`) leaves out the other end.
"""

from __future__ import annotations

from torch import Tensor

from medidistill.distillation.pruning import HardMask

__all__ = ["ResidualDrop"]


class ResidualDrop(HardMask):
    """Leave out `drop_share` of the moving parameters: those of smallest residual."""

    def select(self, residual: Tensor, movement: Tensor) -> Tensor:
        """Keep all but the smallest residuals."""
        return self.all_but_largest(-residual, self.config.drop_share)
