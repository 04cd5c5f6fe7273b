"""BatchNorm and ReLU for CUDA in Triton: the operations of channels_last.cpp, of maps whose channels are innermost.

**Nothing here was run on a GPU.** Tests run the kernels in Triton's interpreter on the CPU, and compile them for GPUs.

A map of P pixels and C channels is a matrix of P rows. Sums over its rows are taken in two stages and without atomics:
programs of the first stage add up chunks of rows, whose number depends on the shape alone, and the second stage adds up
the chunks in their order in double. So the same map gives the same bits each time. Arithmetic on values is in float32.

Import this module only where it is used. It needs triton, which PyTorch for CUDA brings on Linux; without it the import
raises ImportError. `ops.why_no_triton` tells beforehand.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# Triton reads annotations as types of its own, so kernels have none.

import torch
from torch import Tensor, nn

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError(f"fused kernels on CUDA need triton: pip install triton ({error})") from error

TILE = 2048
"""elements of a map that a program holds at once"""
WIDEST = 64
"""channels of a tile, at most"""
CHUNKS = 256
"""chunks of a map, at most: two for each processor of a large GPU"""
PIVOTS = tl.constexpr(16)
"""pixels whose mean is taken off before squares are added up"""
STAGE_TWO = {"DEPTH": 32, "COLUMNS": 16}
"""chunks and channels that a program of the second stage holds at once"""


def forward(x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Returns relu of the normalised batch, and the batch's mean and 1/std; updates the running statistics of `norm`.

    Args:
        x: (B, C, H, W), float32 or bfloat16, channels_last, with more than one value a channel.
        weight: (C,), float32.
        bias: (C,), float32.
        norm: its running statistics are float32 (C,), its momentum a number.

    Returns:
        y as x in shape, type and layout; and (2, C) in float32.
    """
    y, statistics = torch.empty_like(x), _of_channels(x, 2)
    sizes, tile = _sizes(x), _tile(x)
    sums, chunks, tiles = _chunks(x)
    tables = (norm.running_mean, norm.running_var, statistics)
    with torch.cuda.device_of(x):
        _add_squares[chunks, _columns(x, tile)](x, sums, sizes, tiles, **tile)
        _finish[(_columns(x, STAGE_TWO),)](
            x, sums, tables, (*sizes, chunks), MOMENTUM=norm.momentum, EPS=norm.eps, **STAGE_TWO
        )
        _activate[_tiles(x, tile), _columns(x, tile)](x, y, (weight, bias), statistics, sizes, **tile)
    return y, statistics


def infer(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Returns relu(norm(x)) by the running statistics; x as in `forward`."""
    y, sizes, tile = torch.empty_like(x), _sizes(x), _tile(x)
    tables = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    with torch.cuda.device_of(x):
        _infer[_tiles(x, tile), _columns(x, tile)](x, y, tables, sizes, EPS=norm.eps, **tile)
    return y


def backward(
    grad: Tensor, passed: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of x, weight and bias. Which values the ReLU let through is computed again from x.

    Args:
        grad: gradient of y, in the shape, type and layout of x.
        passed: gradient to add to that of x, likewise, or None.
        x: as in `forward`.
        weight: as in `forward`.
        bias: as in `forward`.
        statistics: what `forward` returned.

    Returns:
        (B, C, H, W) as x, (C,) and (C,) in float32.
    """
    dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    sizes, tile = _sizes(x), _tile(x)
    sums, chunks, tiles = _chunks(x)
    affine, gradients = (weight, bias), (dweight, dbias)
    maps = (x, grad, grad if passed is None else passed, dx)
    with torch.cuda.device_of(x):
        _add_gradients[chunks, _columns(x, tile)]((x, grad), affine, statistics, sums, sizes, tiles, **tile)
        _finish_gradients[(_columns(x, STAGE_TWO),)](sums, statistics, gradients, (sizes[1], chunks), **STAGE_TWO)
        _descend[_tiles(x, tile), _columns(x, tile)](
            maps, affine, statistics, gradients, sizes, PASSED=passed is not None, **tile
        )
    return dx, dweight, dbias


def _sizes(x: Tensor) -> tuple[int, int]:
    """Returns the number of pixels and of channels."""
    return x.numel() // x.shape[1], x.shape[1]


def _tile(x: Tensor) -> dict[str, int]:
    """Returns the numbers of rows and columns of a program's tile, powers of two as Triton needs them."""
    columns = min(WIDEST, triton.next_power_of_2(x.shape[1]))
    return {"ROWS": TILE // columns, "COLUMNS": columns}


def _tiles(x: Tensor, tile: dict[str, int]) -> int:
    return triton.cdiv(_sizes(x)[0], tile["ROWS"])


def _columns(x: Tensor, tile: dict[str, int]) -> int:
    return triton.cdiv(x.shape[1], tile["COLUMNS"])


def _chunks(x: Tensor) -> tuple[Tensor, int, int]:
    """Returns the buffer of the chunks' sums, (chunks, 2, C), the number of chunks, and of tiles in each."""
    count = _tiles(x, _tile(x))
    tiles = triton.cdiv(count, CHUNKS)
    chunks = triton.cdiv(count, tiles)
    return _of_channels(x, chunks, 2), chunks, tiles


def _of_channels(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(*shape, x.shape[1], dtype=torch.float32, device=x.device)


# Tables of channels: where a program reads them, and the tile's masks.


@triton.jit
def _channel(channels, COLUMNS: tl.constexpr):
    c = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    return c, c < channels


@triton.jit
def _place(first, c, sizes, ROWS: tl.constexpr):
    """Returns the offsets of a tile that begins at a row, and its mask."""
    rows = first + tl.arange(0, ROWS)
    pixels, channels = sizes
    return rows[:, None] * channels + c[None, :], (rows < pixels)[:, None] & (c < channels)[None, :]


@triton.jit
def _pivot(x, c, sizes):
    """Returns the mean of a few pixels, by channel: the same in all programs."""
    pixels, channels = sizes
    j = tl.arange(0, PIVOTS)
    n = tl.minimum(pixels, PIVOTS)
    rows = j.to(tl.int64) * pixels // n
    mask = (j < n)[:, None] & (c < channels)[None, :]
    values = tl.load(x + rows[:, None] * channels + c[None, :], mask, 0.0).to(tl.float32)
    return tl.sum(values, 0) / n


@triton.jit
def _normalised(deviation, scale, bias):
    """The same instruction in both directions, so that both see the same sign."""
    return tl.fma(deviation, tl.broadcast_to(scale, deviation.shape), tl.broadcast_to(bias, deviation.shape))


@triton.jit
def _relu(value):
    return tl.where(value < 0, 0.0, value)  # NaN stays


@triton.jit
def _behind(grad, deviation, scale, bias):
    """The gradient where the ReLU let its input through."""
    return tl.where(_normalised(deviation, scale, bias) <= 0, 0.0, grad)


@triton.jit
def _add_squares(x, sums, sizes, tiles, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    channels = sizes[1]
    c, here = _channel(channels, COLUMNS)
    pivot = _pivot(x, c, sizes)[None, :]
    chunk = tl.program_id(0).to(tl.int64)
    first = tl.zeros((ROWS, COLUMNS), tl.float32)
    second = tl.zeros((ROWS, COLUMNS), tl.float32)
    for tile in range(0, tiles):
        at, mask = _place((chunk * tiles + tile) * ROWS, c, sizes, ROWS)
        deviation = tl.where(mask, tl.load(x + at, mask, 0.0).to(tl.float32) - pivot, 0.0)
        first += deviation
        second += deviation * deviation
    out = sums + chunk * 2 * channels + c
    tl.store(out, tl.sum(first, 0), here)
    tl.store(out + channels, tl.sum(second, 0), here)


@triton.jit
def _totals(sums, c, channels, chunks, DEPTH: tl.constexpr, COLUMNS: tl.constexpr):
    """Returns both sums over the chunks, in double and in a fixed order."""
    first = tl.zeros((DEPTH, COLUMNS), tl.float64)
    second = tl.zeros((DEPTH, COLUMNS), tl.float64)
    for begin in range(0, chunks, DEPTH):
        k = begin + tl.arange(0, DEPTH)
        mask = (k < chunks)[:, None] & (c < channels)[None, :]
        at = sums + k[:, None] * 2 * channels + c[None, :]
        first += tl.load(at, mask, 0.0).to(tl.float64)
        second += tl.load(at + channels, mask, 0.0).to(tl.float64)
    return tl.sum(first, 0), tl.sum(second, 0)


@triton.jit
def _finish(
    x, sums, tables, sizes, MOMENTUM: tl.constexpr, EPS: tl.constexpr, DEPTH: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    running_means, running_vars, statistics = tables
    pixels, channels, chunks = sizes
    c = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    here = c < channels
    deviations, squares = _totals(sums, c, channels, chunks, DEPTH, COLUMNS)
    off = deviations / pixels
    var = squares / pixels - off * off
    var = tl.where(var < 0, 0.0, var)  # NaN stays
    mean = _pivot(x, c, (pixels, channels)).to(tl.float64) + off
    tl.store(statistics + c, mean.to(tl.float32), here)
    tl.store(statistics + channels + c, (1.0 / tl.sqrt(var + EPS)).to(tl.float32), here)
    running_mean = tl.load(running_means + c, here, 0.0).to(tl.float64)
    running_var = tl.load(running_vars + c, here, 0.0).to(tl.float64)
    unbiased = var * pixels / (pixels - 1)
    tl.store(running_means + c, ((1.0 - MOMENTUM) * running_mean + MOMENTUM * mean).to(tl.float32), here)
    tl.store(running_vars + c, ((1.0 - MOMENTUM) * running_var + MOMENTUM * unbiased).to(tl.float32), here)


@triton.jit
def _tables(affine, statistics, c, here, channels):
    """Returns mean, scale and bias of a training step, each (1, COLUMNS)."""
    invstd = tl.load(statistics + channels + c, here, 0.0)
    scale = invstd * tl.load(affine[0] + c, here, 0.0)
    return tl.load(statistics + c, here, 0.0)[None, :], scale[None, :], tl.load(affine[1] + c, here, 0.0)[None, :]


@triton.jit
def _activate(x, y, affine, statistics, sizes, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    c, here = _channel(sizes[1], COLUMNS)
    mean, scale, bias = _tables(affine, statistics, c, here, sizes[1])
    at, mask = _place(tl.program_id(0).to(tl.int64) * ROWS, c, sizes, ROWS)
    value = _normalised(tl.load(x + at, mask, 0.0).to(tl.float32) - mean, scale, bias)
    tl.store(y + at, _relu(value).to(y.dtype.element_ty), mask)


@triton.jit
def _infer(x, y, tables, sizes, EPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    weight, bias, running_mean, running_var = tables
    c, here = _channel(sizes[1], COLUMNS)
    std = tl.sqrt(tl.load(running_var + c, here, 1.0).to(tl.float64) + EPS)
    scale = (tl.load(weight + c, here, 0.0).to(tl.float64) / std).to(tl.float32)
    mean = tl.load(running_mean + c, here, 0.0)
    at, mask = _place(tl.program_id(0).to(tl.int64) * ROWS, c, sizes, ROWS)
    deviation = tl.load(x + at, mask, 0.0).to(tl.float32) - mean[None, :]
    value = _normalised(deviation, scale[None, :], tl.load(bias + c, here, 0.0)[None, :])
    tl.store(y + at, _relu(value).to(y.dtype.element_ty), mask)


@triton.jit
def _add_gradients(
    maps, affine, statistics, sums, sizes, tiles, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    x, grad = maps
    channels = sizes[1]
    c, here = _channel(channels, COLUMNS)
    mean, scale, bias = _tables(affine, statistics, c, here, channels)
    chunk = tl.program_id(0).to(tl.int64)
    of_grad = tl.zeros((ROWS, COLUMNS), tl.float32)
    of_both = tl.zeros((ROWS, COLUMNS), tl.float32)
    for tile in range(0, tiles):
        at, mask = _place((chunk * tiles + tile) * ROWS, c, sizes, ROWS)
        deviation = tl.load(x + at, mask, 0.0).to(tl.float32) - mean
        g = _behind(tl.load(grad + at, mask, 0.0).to(tl.float32), deviation, scale, bias)
        of_grad += g
        of_both += tl.where(mask, g * deviation, 0.0)
    out = sums + chunk * 2 * channels + c
    tl.store(out, tl.sum(of_grad, 0), here)
    tl.store(out + channels, tl.sum(of_both, 0), here)


@triton.jit
def _finish_gradients(sums, statistics, gradients, sizes, DEPTH: tl.constexpr, COLUMNS: tl.constexpr):
    channels, chunks = sizes
    c = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    here = c < channels
    of_grad, of_both = _totals(sums, c, channels, chunks, DEPTH, COLUMNS)
    invstd = tl.load(statistics + channels + c, here, 0.0).to(tl.float64)
    tl.store(gradients[0] + c, (of_both * invstd).to(tl.float32), here)
    tl.store(gradients[1] + c, of_grad.to(tl.float32), here)


# dx = scale * (g - sum(g)/P - (x - mean) * invstd^2 * sum(g (x - mean))/P) + dpass, g the gradient behind the ReLU.
@triton.jit
def _descend(
    maps, affine, statistics, gradients, sizes, PASSED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    x, grad, passed, dx = maps
    pixels, channels = sizes
    c, here = _channel(channels, COLUMNS)
    mean, scale, bias = _tables(affine, statistics, c, here, channels)
    slope = tl.load(gradients[0] + c, here, 0.0) * tl.load(statistics + channels + c, here, 0.0) / pixels
    mean_grad = tl.load(gradients[1] + c, here, 0.0) / pixels
    at, mask = _place(tl.program_id(0).to(tl.int64) * ROWS, c, sizes, ROWS)
    deviation = tl.load(x + at, mask, 0.0).to(tl.float32) - mean
    g = _behind(tl.load(grad + at, mask, 0.0).to(tl.float32), deviation, scale, bias)
    value = scale * (g - mean_grad[None, :] - deviation * slope[None, :])
    if PASSED:
        value += tl.load(passed + at, mask, 0.0).to(tl.float32)
    tl.store(dx + at, value.to(dx.dtype.element_ty), mask)
