"""Hypotheses of the kinds that the paper's claims need, and the bounds that the paper leaves open."""

import itertools
from collections.abc import Mapping

from analysis.claims.claim import ERROR, ERROR5, MARGIN, RESPONSE, CellValues, Hypothesis, Term
from analysis.tables.cells import MINUS

# Deviation: "vanishes" has no number in the paper: below a tenth of stage 1's response, where Figure 4 shows 0.016.
VANISHED = 0.1
# Deviation: that ARL responds like ResNet-164 has no number in the paper: within a factor of 1.25, where Figure 4 shows
# 0.93 and 0.99.
ALIKE = 1.25
COUNTED = 1.05  # factor between counts: the paper's roundings, and ResNet-152's strides, which torchvision moved
DEPTHS = (56, 92, 128, 164)
LEVELS = (0.1, 0.3, 0.5, 0.7)
ATTENTION92, RESNET164 = "attention92", "resnet164"


def minus(a: str, b: str) -> str:
    """Returns a difference in print."""
    return f"{a} {MINUS} {b}"


def less(label: str, better: CellValues, worse: CellValues, quantity: str = ERROR) -> Hypothesis:
    """That `better` has the smaller quantity."""
    return Hypothesis(label=label, terms=(Term(1, better, quantity), Term(-1, worse, quantity)))


def networks(label: str, better: str, worse: str, quantity: str = ERROR) -> Hypothesis:
    """That one network has the smaller quantity."""
    return less(label, {"network": better}, {"network": worse}, quantity)


def at_depth(weight: float, depth: int, learning: str) -> Term:
    """The error at a depth."""
    return Term(weight, {"depth": depth, "learning": learning})


def steps(learning: str, depths: tuple[int, ...], *, falls: bool) -> tuple[Hypothesis, ...]:
    """That the error falls, or rises, from each depth to the next."""
    return tuple(
        Hypothesis(
            label=minus(f"Attention-{deep}", str(shallow)),
            terms=(at_depth(1, deep, learning), at_depth(-1, shallow, learning)),
            side=-1 if falls else 1,
        )
        for shallow, deep in itertools.pairwise(depths)
    )


def growing_gap() -> Hypothesis:
    """The slope of NAL - ARL by least squares, in points per 36 layers, which is one step of DEPTHS."""
    centred = [i - (len(DEPTHS) - 1) / 2 for i in range(len(DEPTHS))]
    total = sum(x**2 for x in centred)
    return Hypothesis(
        label=f"slope of {minus('NAL', 'ARL')} per 36 layers",
        terms=tuple(
            at_depth(sign * x / total, depth, learning)
            for x, depth in zip(centred, DEPTHS, strict=True)
            for sign, learning in ((1, "nal"), (-1, "arl"))
        ),
        side=1,
        margin=MARGIN / (len(DEPTHS) - 1),  # MARGIN from the shallowest to the deepest network
    )


def at_stage(cell: CellValues, stage: int, curve: CellValues, weight: float = 1) -> Term:
    """The response of a stage; `curve`: its curve of Figure 4."""
    return Term(weight, cell, RESPONSE[stage], published=("figure4", {**curve, "stage": stage}))


def responses(cells: Mapping[str, CellValues]) -> tuple[Hypothesis, ...]:
    """On the responses of stages 2 and 3; `cells` maps a learning to its cell in a study."""
    return tuple(
        Hypothesis(
            label=f"{learning.upper()}, stage {stage}",
            terms=(at_stage(cell, stage, {"network": "attention164", "learning": learning}),),
            side=-1 if learning == "nal" else 1,
            bound=VANISHED,
            margin=None,
            ratio=True,
        )
        for learning, cell in cells.items()
        for stage in RESPONSE
    )


def responds_like_resnet(attention: CellValues, resnet: CellValues) -> tuple[Hypothesis, ...]:
    """That Attention-164 with ARL responds like ResNet-164 in stages 2 and 3; by their cells in a study."""
    return tuple(
        Hypothesis(
            label=f"ARL / ResNet-164, stage {stage}",
            terms=(
                at_stage(attention, stage, {"network": "attention164", "learning": "arl"}),
                at_stage(resnet, stage, {"network": "resnet164"}, weight=-1),
            ),
            side=0,
            bound=1.0,
            margin=ALIKE,
            ratio=True,
        )
        for stage in RESPONSE
    )


def at_noise(weight: float, level: float, network: str) -> Term:
    """The error at a level of label noise."""
    # Table 5 has no row without noise; Table 6 has these networks.
    published = ("6", {"network": network}) if level == 0 else None
    return Term(weight, {"noise": level, "network": network}, published=published)


def rises_less(low: float, high: float) -> Hypothesis:
    """That Attention-92's error rises less between two levels of noise: a difference of differences."""
    return Hypothesis(
        label=f"rise: {minus('Attention-92', 'ResNet-164')}",
        terms=(
            at_noise(1, high, ATTENTION92),
            at_noise(-1, low, ATTENTION92),
            at_noise(-1, high, RESNET164),
            at_noise(1, low, RESNET164),
        ),
    )


def beats_local(structure: str, same: str) -> Hypothesis:
    """That the encoder-decoder mask beats a local one."""
    return Hypothesis(
        label=minus("encoder-decoder", f"local, same {same}"),
        terms=(
            Term(1, {"mask_structure": "encoder_decoder"}),
            Term(-1, {"mask_structure": structure}, published=("4", {"mask_structure": "local_conv"})),
        ),
    )


def share(label: str, part: str, whole: str, quantity: str, ratio: float) -> Hypothesis:
    """That a network has this share of another's count."""
    terms = (Term(1, {"network": part}, quantity), Term(-1, {"network": whole}, quantity))
    return Hypothesis(label=label, terms=terms, side=0, bound=ratio, margin=COUNTED, ratio=True)


def top(label: str, better: str, worse: str, *, equal: bool = False) -> tuple[Hypothesis, ...]:
    """On the errors of two networks on ImageNet, top-1 and top-5."""
    return tuple(
        Hypothesis(
            label=f"{label}, {name}",
            terms=(Term(1, {"network": better}, quantity), Term(-1, {"network": worse}, quantity)),
            side=0 if equal else -1,
        )
        for name, quantity in (("top-1", ERROR), ("top-5", ERROR5))
    )
