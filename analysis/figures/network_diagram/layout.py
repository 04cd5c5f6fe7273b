"""The parts of a network, read from its spec.json: stages, modules, mask branches with the size of every map.

`draw.py` draws them. Sizes are sides of square maps in pixels, None if the size of the image is unknown.
"""

# ruff: noqa: RUF001 - 3×3 is printed with a true multiplication sign

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Unit:
    """A residual unit in words, and the number of layers along its longest path.

    C: channels of its output; B: of its bottleneck.
    """

    text: str
    layers: int = 3
    preactivated: bool = True


UNITS = {
    "preact_bottleneck": Unit("BN-ReLU-1×1 (B), BN-ReLU-3×3 (B), BN-ReLU-1×1 (C), + x"),
    "preact_basic": Unit("BN-ReLU-3×3 (B), BN-ReLU-3×3 (C), + x", layers=2),
    "postact_bottleneck": Unit("1×1-BN-ReLU (B), 3×3-BN-ReLU (B), 1×1-BN (C), + x, ReLU", preactivated=False),
    "inception_a": Unit("branches 1×1 | 1×1, 3×3 | 1×1, 3×3, 3×3 (B each), joined by 1×1 (C), + x", layers=4),
    "inception_b": Unit("branches 1×1 | 1×1, 1×7, 7×1 (B each), joined by 1×1 (C), + x", layers=4),
    "inception_c": Unit("branches 1×1 | 1×1, 1×3, 3×1 (B each), joined by 1×1 (C), + x", layers=4),
}
COMBINED = {"arl": "(1 + M) · T", "nal": "M · T"}
ACTIVATIONS = {"mixed": "sigmoid", "channel": "L2 norm over channels", "spatial": "normalise, sigmoid"}
LOCAL_UNITS = 3  # of the masks without pooling


class SpecError(ValueError):
    """A specification that cannot be drawn; the message is one line."""


@dataclass(frozen=True)
class Block:
    """One box of a mask branch. `level` counts the poolings above it; `note` is the paper's symbol."""

    text: str
    level: int
    size: int | None
    units: int = 0
    note: str = ""


@dataclass(frozen=True)
class Skip:
    """A connection from one block of the path to the sum before another, on one level, through `units` units."""

    start: int
    end: int
    level: int
    units: int


@dataclass(frozen=True)
class MaskBranch:
    """A mask branch: blocks in the order of the data, skips between them."""

    path: tuple[Block, ...]
    skips: tuple[Skip, ...]
    remark: str = ""
    """remark below the drawing"""
    values: str = "one value for each of T's"
    """description of the values of M"""

    @property
    def levels(self) -> int:
        """Poolings of its deepest block."""
        return max(block.level for block in self.path)

    @property
    def units(self) -> int:
        """Residual units in all."""
        return sum(block.units for block in self.path) + sum(skip.units for skip in self.skips)


@dataclass(frozen=True)
class StageLayout:
    """One stage; `mask` is None if it has no modules or its modules have no mask."""

    number: int
    channels: int
    bottleneck: int
    stride: int
    units: int
    modules: int
    size: int | None
    unit: str
    mask: MaskBranch | None


@dataclass(frozen=True)
class NetworkLayout:
    """A network as it is drawn."""

    image_size: int | None
    stem: tuple[str, ...]
    stem_channels: int
    stages: tuple[StageLayout, ...]
    p: int
    t: int
    r: int
    structure: str
    combined: str
    preactivated: bool
    """whether BN and ReLU stand before the pooling of the tail"""
    groups: int

    @property
    def trunk_depth(self) -> int | None:
        """Layers along the trunk: stem, longest paths of the units, classifier; None for units not known here."""
        if not all(stage.unit in UNITS for stage in self.stages):
            return None
        per_module = 2 * self.p + self.t
        return 2 + sum((s.units + s.modules * per_module) * UNITS[s.unit].layers for s in self.stages)


def read_spec(spec: Mapping[str, Any], image_size: int | None = None) -> NetworkLayout:
    """Returns the layout of a spec.json for square images of one size. Raises SpecError for an invalid specification.

    Units, stems and masks that are registered elsewhere are drawn as boxes with their name.
    """
    try:
        stem, size = _stem(str(spec["stem"]), image_size)
        stages = []
        for number, raw in enumerate(spec["stages"], 1):
            stage = StageLayout(
                number=number,
                channels=int(raw["channels"]),
                bottleneck=int(raw["bottleneck"]),
                stride=int(raw["stride"]),
                units=int(raw["units"]),
                modules=int(raw["modules"]),
                size=None if size is None else -(-size // int(raw["stride"])),
                unit=str(raw.get("unit") or spec["unit"]),
                mask=None,
            )
            size = stage.size
            mask = _mask(spec, stage, int(raw["poolings"])) if stage.modules else None
            stages.append(replace(stage, mask=mask))
        if not stages:
            raise SpecError("the specification has no stage")
        return NetworkLayout(
            image_size=image_size,
            stem=stem,
            stem_channels=int(spec["stem_channels"]),
            stages=tuple(stages),
            p=int(spec["p"]),
            t=int(spec["t"]),
            r=int(spec["r"]),
            structure=str(spec["mask_structure"]),
            combined=COMBINED.get(str(spec["learning"]), str(spec["learning"])),
            preactivated=stages[-1].unit in UNITS and UNITS[stages[-1].unit].preactivated,
            groups=int(spec.get("groups", 1)),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SpecError(f"no specification of a network: {type(error).__name__}: {error}") from None


def form_key(spec: Mapping[str, Any]) -> str:
    """Returns a key that is equal for specifications that differ only in widths and in numbers of units and modules."""
    masked = any(stage["modules"] for stage in spec["stages"])
    stages = [
        (s["stride"], s.get("unit"), *((bool(s["modules"]), s["poolings"]) if masked else ())) for s in spec["stages"]
    ]
    parts = [spec["stem"], spec["unit"], stages]
    if masked:
        parts += [spec[key] for key in ("p", "t", "r", "mask_structure")]
        if spec["mask_structure"] != "none":
            parts += [spec["learning"], spec["mask_activation"]]
    return repr(parts)


def pooled(size: int | None) -> int | None:
    """Returns the side of a map behind a 3x3 max pool of stride 2 whose last window is clipped."""
    return None if size is None else max(1, size // 2)


def _stem(name: str, size: int | None) -> tuple[tuple[str, ...], int | None]:
    """The stem's layers, and the side of its output."""
    half = None if size is None else -(-size // 2)
    match name:
        case "conv3":
            return ("conv 3×3",), size
        case "conv7_pool":
            return ("conv 7×7, /2", "max pool, /2"), pooled(half)
        case "conv7_padded_pool":
            return ("conv 7×7, /2", "max pool, /2"), None if half is None else -(-half // 2)
    return (name,), None


def _mask(spec: Mapping[str, Any], stage: StageLayout, poolings: int) -> MaskBranch | None:
    structure = str(spec["mask_structure"])
    if structure == "none":
        return None
    make = _MASKS.get(structure)
    if make is None:
        return MaskBranch(path=(Block(text=structure, level=0, size=stage.size),), skips=())
    return make(stage, poolings, int(spec["r"]), str(spec["mask_activation"]))


def _head(stage: StageLayout, activation: str) -> list[Block]:
    return [
        Block(text="1×1 conv, twice", level=0, size=stage.size),
        Block(text=ACTIVATIONS.get(activation, activation), level=0, size=stage.size),
    ]


def _encoder_decoder(stage: StageLayout, poolings: int, r: int, activation: str) -> MaskBranch:
    sizes = [stage.size]
    for _ in range(poolings):
        sizes.append(pooled(sizes[-1]))
    path = [_units(r, level, sizes[level], "r") for level in range(1, poolings)]
    path.append(_units(2 * r, poolings, sizes[poolings], "2r"))
    path += [_units(r, level, sizes[level], "r") for level in range(poolings - 1, 0, -1)]
    skips = [Skip(start=level - 1, end=2 * poolings - 1 - level, level=level, units=1) for level in range(1, poolings)]
    return MaskBranch(path=(*path, *_head(stage, activation)), skips=tuple(skips))


def _local(stage: StageLayout, poolings: int, r: int, activation: str, remark: str = "") -> MaskBranch:
    return MaskBranch(path=(_units(LOCAL_UNITS, 0, stage.size), *_head(stage, activation)), skips=(), remark=remark)


def _local_macs(stage: StageLayout, poolings: int, r: int, activation: str) -> MaskBranch:
    remark = "The mask's units have the bottleneck that makes its multiply-adds those of the encoder-decoder."
    return _local(stage, poolings, r, activation, remark)


def _gate(*texts: str, values: str = "one value a channel") -> Callable[[StageLayout, int, int, str], MaskBranch]:
    def make(stage: StageLayout, poolings: int, r: int, activation: str) -> MaskBranch:
        return MaskBranch(path=tuple(Block(text=text, level=0, size=None) for text in texts), skips=(), values=values)

    return make


_MASKS: dict[str, Callable[[StageLayout, int, int, str], MaskBranch]] = {
    "encoder_decoder": _encoder_decoder,
    "local_conv": _local,
    "local_conv_macs": _local_macs,
    "se": _gate("mean over positions", "C to C/16 to C", "sigmoid"),
    "eca": _gate("mean over positions", "conv along channels", "sigmoid"),
    "cbam": _gate("gate of channels", "gate of positions", "product", values="one value for each of T's"),
}


def _units(n: int, level: int, size: int | None, note: str = "") -> Block:
    return Block(text=f"{n} unit{'s' if n > 1 else ''}", level=level, size=size, units=n, note=note)
