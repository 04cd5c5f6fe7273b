"""A slow, literal Residual Attention Network over a state dict, the standard for the fast one.

Written from the paper's equations and the authors' files, not from ran.models: it shares only the names of the
weights with it. (B, C, H, W), in the dtype of its inputs; the tests use float64.
"""

import math

import torch

EPS = 1e-5


def part(state, prefix):
    """Returns the entries of `state` below `prefix`, without it."""
    return {key.removeprefix(prefix + "."): value for key, value in state.items() if key.startswith(prefix + ".")}


def count(state):
    """Returns how many numbered children stand at the top of `state`."""
    return len({key.partition(".")[0] for key in state})


def batch_norm(state, x, training):
    """(x - mean) / sqrt(var + eps) * slope + bias, of the batch (biased variance) or with the running statistics."""
    if training:
        mean = x.mean((0, 2, 3))
        var = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
    else:
        mean, var = state["running_mean"], state["running_var"]
    mean, var, slope, bias = (v[:, None, None] for v in (mean, var, state["weight"], state["bias"]))
    return (x - mean) / (var + EPS).sqrt() * slope + bias


def relu(x):
    return x.clamp(min=0)


def conv(weight, x, stride=1):
    """A sum over the kernel's positions; zeros around, so that stride 1 keeps the size."""
    _, _, k, _ = weight.shape
    b, c, h, w = x.shape
    pad = k // 2
    padded = x.new_zeros(b, c, h + 2 * pad, w + 2 * pad)
    padded[:, :, pad : pad + h, pad : pad + w] = x
    rows, cols = (h - 1) // stride + 1, (w - 1) // stride + 1
    out = 0
    for i in range(k):
        for j in range(k):
            window = padded[:, :, i : i + stride * rows : stride, j : j + stride * cols : stride]
            out = out + torch.einsum("oc,bchw->bohw", weight[:, :, i, j], window[:, :, :rows, :cols])
    return out


def max_pool(x):
    """Caffe's 3x3/2 without padding: ceil((size-3)/2)+1 windows a side, the last clipped at the border."""
    height, width = x.shape[2:]
    rows, cols = math.ceil((height - 3) / 2) + 1, math.ceil((width - 3) / 2) + 1
    out = x.new_empty(*x.shape[:2], rows, cols)
    for i in range(rows):
        for j in range(cols):
            window = x[:, :, 2 * i : min(2 * i + 3, height), 2 * j : min(2 * j + 3, width)]
            out[:, :, i, j] = window.amax((2, 3))
    return out


def resize(x, height, width):
    """Bilinear with the corners aligned: output i is read at i*(in-1)/(out-1)."""
    for dim, out in ((2, height), (3, width)):
        size = x.shape[dim]
        lines = []
        for i in range(out):
            source = i * (size - 1) / (out - 1) if out > 1 else 0.0
            low = min(int(source), size - 1)
            high = min(low + 1, size - 1)
            weight = source - low
            lines.append((1 - weight) * x.select(dim, low) + weight * x.select(dim, high))
        x = torch.stack(lines, dim)
    return x


def unit(state, x, training, stride=1):
    """a = ReLU(BN(x)), a bottleneck branch, plus x or, in a projection unit, a convolution of a."""
    a = relu(batch_norm(part(state, "norm1"), x, training))
    h = conv(state["conv1.weight"], a)
    h = conv(state["conv2.weight"], relu(batch_norm(part(state, "norm2"), h, training)), stride)
    h = conv(state["conv3.weight"], relu(batch_norm(part(state, "norm3"), h, training)))
    if "shortcut.weight" in state:
        return h + conv(state["shortcut.weight"], a, stride)
    return h + x


def units(state, x, training, n):
    assert count(state) == n
    for i in range(n):
        x = unit(part(state, str(i)), x, training)
    return x


def mixed(z):
    """Eq. 4."""
    return 1 / (1 + torch.exp(-z))


def channel(z):
    """Eq. 5; zero where all of z is, which ReLU and a convolution without bias do give."""
    return z / (z**2).sum(1, keepdim=True).sqrt().clamp(min=1e-12)


def spatial(z):
    """Eq. 6, of each image alone."""
    mean = z.mean((2, 3), keepdim=True)
    std = (((z - mean) ** 2).mean((2, 3), keepdim=True) + EPS).sqrt()
    return 1 / (1 + torch.exp(-(z - mean) / std))


ACTIVATIONS = {"mixed": mixed, "channel": channel, "spatial": spatial}
LEARNINGS = {
    "arl": lambda trunk, mask: (1 + mask) * trunk,  # eq. 3
    "nal": lambda trunk, mask: mask * trunk,  # eq. 1
}


def head(state, m, training, activation):
    """Two 1x1 convolutions, each behind BN and ReLU, then the activation."""
    m = relu(batch_norm(part(state, "0"), m, training))
    m = conv(state["2.weight"], m)
    m = relu(batch_norm(part(state, "3"), m, training))
    return ACTIVATIONS[activation](conv(state["5.weight"], m))


def encoder_decoder(state, x, training, *, d, r, activation):
    """d poolings, r units after each, 2r at the lowest level; one unit in each skip; the head's two convolutions."""
    size = x.shape[2:]
    m, levels = x, {}
    for i in range(1, d):
        m = max_pool(m)
        m = units(part(state, f"down.{i - 1}"), m, training, r)
        levels[i] = m
    m = max_pool(m)
    m = units(part(state, "bottom"), m, training, 2 * r)
    for i in range(d, 1, -1):
        below = levels[i - 1]
        m = resize(m, *below.shape[2:])
        m = m + unit(part(state, f"skip.{i - 2}"), below, training)
        m = units(part(state, f"up.{d - i}"), m, training, r)
    return head(part(state, "head"), resize(m, *size), training, activation)


def local(state, x, training, *, activation, **_):
    """Three units at full resolution (section 4.1)."""
    return head(part(state, "head"), units(part(state, "units"), x, training, 3), training, activation)


def excite(state, described):
    """The two shared layers of SE and CBAM on one vector an image, (B, C) -> (B, C)."""
    hidden = relu(described @ state["excitation.0.weight"][:, :, 0, 0].T)
    return hidden @ state["excitation.2.weight"][:, :, 0, 0].T


def se(state, x, training, **_):
    """SE, arXiv 1709.01507, eq. 2 and 3."""
    return mixed(excite(state, x.mean((2, 3))))[:, :, None, None]


def eca(state, x, training, **_):
    """ECA, arXiv 1910.03151, eq. 7: each channel's gate from the means of its k neighbours."""
    means, kernel = x.mean((2, 3)), state["conv.weight"][0, 0]
    pad, channels = len(kernel) // 2, x.shape[1]
    z = torch.zeros_like(means)
    for c in range(channels):
        for i, weight in enumerate(kernel):
            if 0 <= c + i - pad < channels:
                z[:, c] += weight * means[:, c + i - pad]
    return mixed(z)[:, :, None, None]


def cbam(state, x, training, **_):
    """CBAM, arXiv 1807.06521, eq. 2 and 3; the mask is the product of both gates."""
    by_channel = mixed(excite(state, x.mean((2, 3))) + excite(state, x.amax((2, 3))))[:, :, None, None]
    x = by_channel * x
    by_position = mixed(conv(state["position.weight"], torch.stack((x.mean(1), x.amax(1)), 1)))
    return by_channel * by_position


STRUCTURES = {
    "encoder_decoder": encoder_decoder,
    "local_conv": local,
    "local_conv_macs": local,  # narrower bottlenecks, the same sums
    "se": se,
    "eca": eca,
    "cbam": cbam,
}


def attention_module(state, x, training, *, structure, d, p, t, r, activation, learning):
    x = units(part(state, "pre"), x, training, p)
    h = units(part(state, "trunk"), x, training, t)
    if structure != "none":
        mask = STRUCTURES[structure](part(state, "mask"), x, training, d=d, r=r, activation=activation)
        h = LEARNINGS[learning](h, mask)
    return units(part(state, "post"), h, training, p)


def network(state, x, spec, training):
    """Stem, stages of units (the first may stride) and attention modules, BN-ReLU, global average, classifier."""
    x = conv(state["stem.weight"], x)
    for s, stage in enumerate(spec.stages):
        for i in range(stage.units):
            x = unit(part(state, f"stages.{s}.units.{i}"), x, training, stage.stride if i == 0 else 1)
        for i in range(stage.modules):
            x = attention_module(
                part(state, f"stages.{s}.attention.{i}"),
                x,
                training,
                structure=spec.mask_structure,
                d=stage.poolings,
                p=spec.p,
                t=spec.t,
                r=spec.r,
                activation=spec.mask_activation,
                learning=spec.learning,
            )
    x = relu(batch_norm(part(state, "norm"), x, training)).mean((2, 3))
    return x @ state["head.weight"].T + state["head.bias"]
