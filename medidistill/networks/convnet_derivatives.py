"""First and mixed second derivatives of the ConvNet's loss, and its pull-back to images, written out by hand.

One block is y = W * a, n = (y - mean y) s with s = (var y + eps)^-1/2, z = gamma n + beta, a' = pool(relu z). A dot
marks the derivative along a direction v of the parameters, and d the derivative of the loss. With means over an
activation map,

    n. = s (y. - mean y. - n r)                                                   r = mean(n y.)
    dy = s c                                          c = e - mean e - n mean(n e),       e = gamma dz
    dy. = s (e. - mean e. - n. mean(n e) - n mean(n. e + n e.) - s r c)

and at the end, with p the softmax and u = dloss/dlogits, u. = p (logits. - <p, logits.>) / N. The Hessian's product
with v is the derivative of the gradient along v. In units of the convolutions of one forward pass this takes 8, and one
gradient 3; autograd of the gradient takes 9, and reads and writes the large activations several times as often.
`torch.compile` fuses what is between the convolutions. It would recompute the statistics of an activation map for every
pixel, a root and some divisions each; an opaque operation prevents that.

The first layer has few input channels, for which convolution kernels are slow: it is a matrix product with the images'
3 x 3 patches.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medidistill.networks.convnet import EPSILON, ConvNet
from medidistill.networks.functional import Criterion, ParameterLayout, cross_entropy

__all__ = ["ConvNetDerivatives", "Pullback"]

Pullback = Callable[[Tensor | None, Tensor | None], Tensor]
"""(derivative by the features (N, F), by the logits (N, K)) -> derivative by the images; at least one of the two."""

_OPTIONS = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)  # stride, padding, dilation, transposed, its padding, groups
_SIDE = 3
_MAP = (2, 3)


@dataclass(frozen=True)
class _Block:
    """What the backward pass needs of the forward pass; the dotted parts are None for a gradient alone."""

    inputs: Tensor
    weight: Tensor
    y: Tensor
    mean: Tensor
    scale: Tensor
    gamma: Tensor
    beta: Tensor
    dot: _Dot | None = None

    @property
    def n(self) -> Tensor:
        """Normalised activations."""
        return (self.y - self.mean) * self.scale


@dataclass(frozen=True)
class _Dot:
    """Derivatives along v."""

    inputs: Tensor
    weight: Tensor
    y: Tensor
    mean: Tensor
    r: Tensor
    gamma: Tensor
    beta: Tensor


class ConvNetDerivatives:
    """Derivatives of the cross-entropy of a `ConvNet` with instance norm at flat parameter vectors.

    Args:
        network: gives the layout; its own parameters are not read.
        adjoint_dtype: dtype of the convolutions that no ReLU depends on: all but those of the primal forward pass.
            bfloat16 is twice as fast on processors that have it, and leaves every ReLU where it was. None: that of the
            images.
    """

    def __init__(self, network: nn.Module, adjoint_dtype: torch.dtype | None = None) -> None:
        self.layout = ParameterLayout.of(network)
        self.adjoint_dtype = adjoint_dtype

    @classmethod
    def of(
        cls, network: nn.Module, criterion: Criterion, adjoint_dtype: torch.dtype | None = None
    ) -> ConvNetDerivatives | None:
        """Return the derivatives, or None where the formulas do not apply to this network and loss."""
        fits = isinstance(network, ConvNet) and network.norm == "instance" and criterion is cross_entropy
        return cls(network, adjoint_dtype) if fits else None

    def gradient(self, theta: Tensor, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and its gradient, (P,).

        Args:
            theta: (P,) parameters.
            x: (N, C, H, W) images.
            q: (N,) int64 classes or (N, K) label weights.
        """
        loss, gradient, *_ = self.gradient_and_activations(theta, x, q)
        return loss, gradient

    def gradient_and_activations(self, theta: Tensor, x: Tensor, q: Tensor) -> tuple[Tensor, ...]:
        """Return loss, gradient, and the activations that save `mixed` two of its eight convolutions.

        These are y of every block but the first, then dloss/da' of every block but the last.
        """
        blocks, matrix, bias = self._parts(theta)
        up, a = _forward(blocks, x)
        flat = a.flatten(1)
        log_p, q, u = _head(flat @ matrix.T + bias, q)
        loss = -(q * log_p).sum(1).mean()

        found = [u.sum(0), u.T @ flat]
        above, gradients = (u @ matrix).view(a.shape), []
        for k, block in reversed(list(enumerate(up))):
            dz, mean, along_n, dy = _backward(block, above)
            found += [_total(mean, dz), _total(along_n, dz)]
            found.append(_weight_gradient(k, [(dy, block.inputs)], block.weight))
            if k:
                above = _convolve_backward([(dy, block.weight)], block.inputs)
                gradients.append(above)
        maps = [*(block.y for block in up[1:]), *reversed(gradients)]
        return (loss, torch.cat([part.reshape(-1) for part in reversed(found)]), *maps)

    def features(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Pullback]:
        """Return the inputs of the last layer (N, F), the logits (N, K), and the pull-back of both to the images.

        Args:
            theta: (P,) parameters.
            x: (N, C, H, W) images.
        """
        blocks, matrix, bias = self._parts(theta)
        up, a = _forward(blocks, x)
        flat, shape = a.flatten(1), a.shape

        def pull_back(by_features: Tensor | None, by_logits: Tensor | None) -> Tensor:
            parts = [by_features] if by_features is not None else []
            parts += [by_logits @ matrix] if by_logits is not None else []
            return self._to_images(x, up, _sum(parts).view(shape))

        return flat, flat @ matrix.T + bias, pull_back

    def _to_images(self, x: Tensor, up: list[_Block], above: Tensor) -> Tensor:
        """Return what a change of the last maps, (N, C', H', W'), means for the images; 1 unit, in the lower dtype."""
        low = self._low
        for k, block in reversed(list(enumerate(up))):
            *_, dy = _backward(block, above)
            pair = (low(dy), low(block.weight))
            if k:
                above = _convolve_backward([pair], low(block.inputs)).to(x.dtype)
        return _convolve_backward_to_images([pair], x).to(x.dtype)

    def kept_elements(self, shape: torch.Size) -> int:
        """Return how many numbers `gradient_and_activations` keeps for images of `shape` (N, C, H, W)."""
        widths = [weight[0] for weight in self.layout.shapes if len(weight) == len(shape)]
        places = [(shape[2] >> k) * (shape[3] >> k) for k in range(1, len(widths))]
        return shape[0] * sum((above + here) * s for above, here, s in zip(widths, widths[1:], places, strict=False))

    def mixed(
        self, theta: Tensor, x: Tensor, q: Tensor, vector: Tensor, *maps: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return <gradient, v> and its derivatives by theta (P,), x (N, C, H, W) and q (N, K).

        Args:
            theta: (P,) parameters.
            x: (N, C, H, W) images.
            q: (N, K) label weights.
            vector: v, (P,).
            maps: what `gradient_and_activations` kept at the same place; computed again where none are given.
        """
        blocks, matrix, bias = self._parts(theta)
        kept_y, kept_gradients = maps[: len(blocks) - 1], maps[len(blocks) - 1 :]
        dots, matrix_dot, bias_dot = self._parts(vector)
        low = self._low
        up, a, a_dot = [], x, x
        for k, ((weight, gamma, beta), (weight_dot, gamma_dot, beta_dot)) in enumerate(zip(blocks, dots, strict=True)):
            a, weight, weight_dot = _inputs(k, a), _like_images(weight), _like_images(weight_dot)
            y = kept_y[k - 1] if k and maps else _convolve_forward(k, x, a, weight)
            plain = _block(a, weight, y, gamma, beta)
            y_dot = _convolve_forward(k, x, low(a), low(weight_dot)).to(x.dtype)
            if k:
                y_dot = y_dot + _convolve(low(a_dot), low(weight)).to(x.dtype)
            mean_dot, r = _mean(y_dot), _mean((plain.y - plain.mean) * y_dot) * plain.scale
            block = _Block(**{**vars(plain), "dot": _Dot(a_dot, weight_dot, y_dot, mean_dot, r, gamma_dot, beta_dot)})
            n, n_dot = block.n, _n_dot(block)
            z = n * _per_channel(gamma) + _per_channel(beta)
            z_dot = n * _per_channel(gamma_dot) + n_dot * _per_channel(gamma) + _per_channel(beta_dot)
            a, a_dot = _pool(z.relu()), _pool(z_dot * (z > 0).to(x.dtype))
            up.append(block)
        flat, flat_dot = a.flatten(1), a_dot.flatten(1)
        log_p, q, u = _head(flat @ matrix.T + bias, q)
        logits_dot = flat_dot @ matrix.T + flat @ matrix_dot.T + bias_dot
        p = log_p.exp()
        centred = logits_dot - (p * logits_dot).sum(1, keepdim=True)
        u_dot = p * centred * (q.sum(1, keepdim=True) / len(x))

        found = [u_dot.sum(0), u_dot.T @ flat + u.T @ flat_dot]
        above, above_dot = (u @ matrix).view(a.shape), (u_dot @ matrix + u @ matrix_dot).view(a.shape)
        by_image = x
        for k, block in reversed(list(enumerate(up))):
            dot = block.dot
            assert dot is not None
            n, n_dot, gamma, gamma_dot = block.n, _n_dot(block), _per_channel(block.gamma), _per_channel(dot.gamma)
            on = (n * gamma + _per_channel(block.beta) > 0).to(x.dtype)
            dz, dz_dot = _unpool(above, block.y) * on, _unpool(above_dot, block.y) * on
            mean, along_n = _mean(dz), _mean(dz * n)
            mean_dot, along_n_dot = _mean(dz_dot), _mean(dz_dot * n + dz * n_dot)
            found += [_total(mean_dot, dz), _total(along_n_dot, dz)]
            free = dz - mean - n * along_n
            core = gamma * free
            dy = block.scale * core
            dy_dot = (
                block.scale * (gamma_dot * free + gamma * (dz_dot - mean_dot - n_dot * along_n - n * along_n_dot))
                - (block.scale.square() * dot.r) * core
            )
            dy, dy_dot, weight, weight_dot = low(dy), low(dy_dot), low(block.weight), low(dot.weight)
            pairs = [(dy_dot, low(block.inputs))] + ([(dy, low(dot.inputs))] if k else [])
            found.append(_weight_gradient(k, pairs, weight).to(x.dtype))
            down = [(dy_dot, weight), (dy, weight_dot)]
            if k:
                above = kept_gradients[k - 1] if maps else _convolve_backward([(dy, weight)], pairs[0][1]).to(x.dtype)
                above_dot = _convolve_backward(down, pairs[0][1]).to(x.dtype)
            else:
                by_image = _convolve_backward_to_images(down, x).to(x.dtype)
        by_theta = torch.cat([part.reshape(-1) for part in reversed(found)])
        return (u * logits_dot).sum(), by_theta, by_image, -centred / len(x)

    def _parts(self, vector: Tensor) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor, Tensor]:
        """Return (weight, gamma, beta) of every block, and matrix and bias of the last layer."""
        *parts, matrix, bias = self.layout.unflatten(vector).values()
        return list(zip(parts[::3], parts[1::3], parts[2::3], strict=True)), matrix, bias

    @property
    def _low(self) -> Callable[[Tensor], Tensor]:
        return lambda tensor: tensor if self.adjoint_dtype is None else tensor.to(self.adjoint_dtype)


def _block(a: Tensor, weight: Tensor, y: Tensor, gamma: Tensor, beta: Tensor) -> _Block:
    mean = _mean(y)
    scale = _once(torch.rsqrt(_mean((y - mean).square()) + EPSILON))
    return _Block(a, weight, y, mean, scale, gamma, beta)


def _forward(blocks: list[tuple[Tensor, Tensor, Tensor]], x: Tensor) -> tuple[list[_Block], Tensor]:
    """Return what the backward pass needs of every block, and the last maps (N, C', H', W')."""
    up, a = [], x
    for k, (weight, gamma, beta) in enumerate(blocks):
        a, weight = _inputs(k, a), _like_images(weight)
        block = _block(a, weight, _convolve_forward(k, x, a, weight), gamma, beta)
        a = _pool((block.n * _per_channel(gamma) + _per_channel(beta)).relu())
        up.append(block)
    return up, a


def _backward(block: _Block, above: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return dz, its mean over a map, its mean along n, and dy, from the derivative by the block's pooled output."""
    n, gamma = block.n, _per_channel(block.gamma)
    dz = _unpool(above, block.y) * (n * gamma + _per_channel(block.beta) > 0).to(above.dtype)
    mean, along_n = _mean(dz), _mean(dz * n)
    return dz, mean, along_n, (block.scale * gamma) * (dz - mean - n * along_n)


@torch.library.custom_op("medidistill::computed_once", mutates_args=())
def _computed_once(values: Tensor) -> Tensor:
    """Return a copy; the compiler computes `values` once instead of wherever they are read."""
    return values.clone()


@_computed_once.register_fake
def _(values: Tensor) -> Tensor:
    return torch.empty_like(values)


def _once(values: Tensor) -> Tensor:
    if not torch.compiler.is_compiling():
        return values
    found: Tensor = _computed_once(values)
    return found


def _mean(maps: Tensor) -> Tensor:
    return _once(maps.sum(_MAP, keepdim=True) * (1 / maps[0, 0].numel()))


def _n_dot(block: _Block) -> Tensor:
    dot = block.dot
    assert dot is not None
    return block.scale * (dot.y - dot.mean - block.n * dot.r)


def _head(logits: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log softmax, the label weights (N, K) and dloss/dlogits."""
    log_p = torch.log_softmax(logits, dim=1)
    if q.ndim == 1:
        q = F.one_hot(q, logits.shape[1]).to(logits.dtype)
    return log_p, q, (log_p.exp() * q.sum(1, keepdim=True) - q) / len(q)


def _total(mean: Tensor, maps: Tensor) -> Tensor:
    return mean.sum((0, 2, 3)) * maps[0, 0].numel()


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def _like_images(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)


def _convolve(a: Tensor, weight: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.convolution(a, weight, None, *_OPTIONS)
    return found


def _inputs(k: int, a: Tensor) -> Tensor:
    """Return what block `k` multiplies its weight with: patches (N H W, C 9) of the images, or maps."""
    return a if k else _patches(a)


def _convolve_forward(k: int, images: Tensor, a: Tensor, weight: Tensor) -> Tensor:
    if k:
        return _convolve(a, weight)
    n, _, height, width = images.shape
    return (a @ weight.flatten(1).T).view(n, height, width, -1).permute(0, 3, 1, 2)


def _weight_gradient(k: int, pairs: list[tuple[Tensor, Tensor]], weight: Tensor) -> Tensor:
    """Return the sum of dy's products with the inputs, shaped like the weight."""
    if k:
        return _sum(_convolution_vjp(dy, a, weight, to_weight=True) for dy, a in pairs)
    return _sum((a.T @ _rows(dy)).T.reshape(weight.shape) for dy, a in pairs)


def _convolve_backward(pairs: list[tuple[Tensor, Tensor]], a: Tensor) -> Tensor:
    """Return the sum of dy's transposed convolutions with the weights, shaped like `a`."""
    return _sum(_convolution_vjp(dy, a, weight, to_weight=False) for dy, weight in pairs)


def _convolution_vjp(dy: Tensor, a: Tensor, weight: Tensor, *, to_weight: bool) -> Tensor:
    wanted = [not to_weight, to_weight, False]
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(dy, a, weight, None, *_OPTIONS, wanted)
    return found[int(to_weight)]


def _sum(parts: Iterable[Tensor]) -> Tensor:
    return functools.reduce(operator.add, parts)


def _convolve_backward_to_images(pairs: list[tuple[Tensor, Tensor]], images: Tensor) -> Tensor:
    n, channels, height, width = images.shape
    taps = _sum(weight.flatten(1).T @ _rows(dy).T for dy, weight in pairs)
    padded = F.pad(taps.view(channels, _SIDE, _SIDE, n, height, width), (1, 1, 1, 1))
    moved = [
        padded[:, i, j, :, 2 - i : 2 - i + height, 2 - j : 2 - j + width] for i in range(_SIDE) for j in range(_SIDE)
    ]
    return torch.stack(moved).sum(0).transpose(0, 1)


def _patches(images: Tensor) -> Tensor:
    """Return the 3 x 3 surroundings of every pixel, zeros beyond the border: (N H W, C 9)."""
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1))
    taps = [padded[:, :, i : i + height, j : j + width] for i in range(_SIDE) for j in range(_SIDE)]
    return torch.stack(taps, -1).permute(0, 2, 3, 1, 4).flatten(0, 2).flatten(1)


def _rows(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _pool(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps, 2)


def _unpool(above: Tensor, maps: Tensor) -> Tensor:
    """Return the pull-back of average pooling: a quarter to each of the four; an odd last row or column got none."""
    n, channels, height, width = above.shape
    spread = above.permute(0, 2, 3, 1)[:, :, None, :, None].expand(n, height, 2, width, 2, channels)
    spread = spread.reshape(n, 2 * height, 2 * width, channels).permute(0, 3, 1, 2) * 0.25
    rows, columns = maps.shape[2] - 2 * height, maps.shape[3] - 2 * width
    return F.pad(spread, (0, columns, 0, rows)) if rows or columns else spread
