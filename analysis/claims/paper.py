"""The paper's testable claims as data, and two of ours. `verdicts` compares them with the runs.

A claim is a conjunction of contrasts: combinations of quantities of a study's cells, each claimed to lie below or above
a bound. The paper's own effect is the same combination of published.csv's numbers.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from analysis.tables.cells import MINUS
from records.study_json import Value

ERROR, ERROR5, PARAMS = "error", "error5", "params"
RESPONSE = {2: "response2", 3: "response3"}  # of a stage, relative to stage 1's
VANISHED = 0.1  # of stage 1's response

CellValues = Mapping[str, Value]


@dataclass(frozen=True)
class Term:
    """One quantity of one cell. `published`: its table and cell in published.csv, if they are not the study's."""

    weight: int
    cell: CellValues
    quantity: str = ERROR
    published: tuple[str, CellValues] | None = None


@dataclass(frozen=True)
class Contrast:
    """A combination that is claimed to lie below (side -1) or above (side +1) a bound."""

    label: str
    terms: tuple[Term, ...]
    side: int = -1
    bound: float = 0.0

    @property
    def sentence(self) -> str:
        """What is claimed, as an inequality."""
        return f"{self.label} {'<' if self.side < 0 else '>'} {self.bound:g}"

    @property
    def quantity(self) -> str:
        """The quantity of all its terms."""
        return self.terms[0].quantity


@dataclass(frozen=True)
class Claim:
    """`contrasts` by the study that tests it; if several studies test it, the first with runs is used."""

    id: str
    sentence: str
    where: str
    """table or figure of the paper; "ours" for a claim that the paper does not make"""
    contrasts: Mapping[str, tuple[Contrast, ...]]
    text: tuple[tuple[CellValues, str], ...] = field(default=())
    """cells and quantities of the rows "text" in published.csv, for which the paper's text disagrees with its tables"""


def _less(
    label: str, better: CellValues, worse: CellValues, quantity: str = ERROR, published: CellValues | None = None
) -> Contrast:
    """The contrast that `better` has the smaller quantity; `published`: cell of Table 4 for the paper's `worse`."""
    elsewhere = None if published is None else ("4", published)
    return Contrast(
        label=label,
        terms=(
            Term(weight=1, cell=better, quantity=quantity),
            Term(weight=-1, cell=worse, quantity=quantity, published=elsewhere),
        ),
    )


def _minus(a: str, b: str) -> str:
    return f"{a} {MINUS} {b}"


def _depths(learning: str, depths: tuple[int, ...], *, falls: bool) -> tuple[Contrast, ...]:
    def term(weight: int, depth: int) -> Term:
        return Term(weight=weight, cell={"depth": depth, "learning": learning})

    return tuple(
        Contrast(
            label=_minus(f"Attention-{deep}", str(shallow)),
            terms=(term(1, deep), term(-1, shallow)),
            side=-1 if falls else 1,
        )
        for shallow, deep in itertools.pairwise(depths)
    )


def _networks(label: str, better: str, worse: str, quantity: str = ERROR) -> Contrast:
    return _less(label, {"network": better}, {"network": worse}, quantity)


def _responses(cells: Mapping[str, CellValues]) -> tuple[Contrast, ...]:
    """The contrasts on the responses of stages 2 and 3; `cells` maps a learning to its cell in a study."""
    return tuple(
        Contrast(
            label=f"{learning.upper()}, stage {stage}",
            terms=(
                Term(
                    weight=1,
                    cell=cell,
                    quantity=RESPONSE[stage],
                    published=("figure4", {"network": "attention164", "learning": learning, "stage": stage}),
                ),
            ),
            side=-1 if learning == "nal" else 1,
            bound=VANISHED,
        )
        for learning, cell in cells.items()
        for stage in RESPONSE
    )


def _noise(level: float, network: str) -> CellValues:
    return {"noise": level, "network": network}


_A92, _R164 = "attention92", "resnet164"
_A56, _R152 = "attention56_imagenet", "resnet152_imagenet"
_LEVELS = (0.1, 0.3, 0.5, 0.7)

CLAIMS = (
    Claim(
        id="arl_beats_nal",
        sentence="Attention residual learning beats naive attention learning at every depth",
        where="Table 3",
        contrasts={
            "arl_vs_nal": tuple(
                _less(
                    f"Attention-{depth}: {_minus('ARL', 'NAL')}",
                    {"depth": depth, "learning": "arl"},
                    {"depth": depth, "learning": "nal"},
                )
                for depth in (56, 92, 128, 164)
            )
        },
    ),
    Claim(
        id="arl_falls_with_depth",
        sentence="With attention residual learning the error falls with depth",
        where="Table 3",
        contrasts={"arl_vs_nal": _depths("arl", (56, 92, 128, 164), falls=True)},
    ),
    Claim(
        id="nal_rises_with_depth",
        sentence="With naive attention learning the error rises with depth after 92 layers",
        where="Table 3",
        contrasts={"arl_vs_nal": _depths("nal", (92, 128, 164), falls=False)},
    ),
    Claim(
        id="nal_vanishes",
        sentence="In Attention-164 the response of stages 2 and 3 vanishes under NAL (below 0.1 of stage 1's), "
        "not under ARL",
        where="Figure 4",
        contrasts={
            "arl_vs_nal": _responses({name: {"depth": 164, "learning": name} for name in ("nal", "arl")}),
            "depth_response": _responses({name: {"network": f"attention164_{name}"} for name in ("nal", "arl")}),
        },
    ),
    Claim(
        id="mixed_is_best",
        sentence="Mixed attention beats channel attention and spatial attention",
        where="Table 1",
        contrasts={
            "mask_type": tuple(
                _less(_minus("mixed", other), {"mask_activation": "mixed"}, {"mask_activation": other})
                for other in ("channel", "spatial")
            )
        },
    ),
    Claim(
        id="encoder_decoder_is_best",
        sentence="The encoder-decoder mask beats local convolutions, whichever way these are made as large",
        where="Table 4",
        contrasts={
            "mask_structure": tuple(
                _less(
                    _minus("encoder-decoder", f"local, same {same}"),
                    {"mask_structure": "encoder_decoder"},
                    {"mask_structure": structure},
                    published={"mask_structure": "local_conv"},
                )
                for structure, same in (("local_conv", "units"), ("local_conv_macs", "MACs"))
            )
        },
        text=(({"mask_structure": "encoder_decoder"}, "gain"),),
    ),
    Claim(
        id="robust_to_noise",
        sentence="Attention-92 beats ResNet-164 at every level of label noise",
        where="Table 5",
        contrasts={
            "noisy_labels": tuple(
                _less(
                    f"{100 * level:.0f} %: {_minus('Attention-92', 'ResNet-164')}",
                    _noise(level, _A92),
                    _noise(level, _R164),
                )
                for level in _LEVELS
            )
        },
    ),
    Claim(
        id="degrades_slowly",
        sentence="From 10 % to 70 % of wrong labels the error of Attention-92 rises less than that of ResNet-164",
        where="Table 5",
        contrasts={
            "noisy_labels": (
                Contrast(
                    label=f"rise: {_minus('Attention-92', 'ResNet-164')}",
                    terms=(
                        Term(weight=1, cell=_noise(_LEVELS[-1], _A92)),
                        Term(weight=-1, cell=_noise(_LEVELS[0], _A92)),
                        Term(weight=-1, cell=_noise(_LEVELS[-1], _R164)),
                        Term(weight=1, cell=_noise(_LEVELS[0], _R164)),
                    ),
                ),
            )
        },
    ),
    Claim(
        id="attention92_at_like_size",
        sentence="Attention-92 beats ResNet-164 at like size",
        where="Table 6",
        contrasts={"cifar": (_networks(_minus("Attention-92", "ResNet-164"), _A92, _R164),)},
    ),
    Claim(
        id="attention236_with_less",
        sentence="Attention-236 beats ResNet-1001 with fewer parameters",
        where="Table 6",
        contrasts={
            "cifar": (
                _networks(_minus("Attention-236", "ResNet-1001"), "attention236", "resnet1001"),
                _networks("parameters (M)", "attention236", "resnet1001", PARAMS),
            )
        },
    ),
    Claim(
        id="attention452_with_less",
        sentence="Attention-452 beats WRN-28-10 with fewer parameters",
        where="Table 6",
        contrasts={
            "cifar": (
                _networks(_minus("Attention-452", "WRN-28-10"), "attention452", "wrn28_10"),
                _networks("parameters (M)", "attention452", "wrn28_10", PARAMS),
            )
        },
        text=(({"network": "attention452"}, "cifar100_err"),),
    ),
    Claim(
        id="deeper_is_better",
        sentence="The error of attention networks falls from 92 over 236 to 452 layers",
        where="Table 6",
        contrasts={
            "cifar": tuple(
                _networks(_minus(f"Attention-{deep}", str(shallow)), f"attention{deep}", f"attention{shallow}")
                for shallow, deep in ((92, 236), (236, 452))
            )
        },
    ),
    Claim(
        id="attention56_beats_resnet152",
        sentence="Attention-56 beats ResNet-152, top-1 and top-5, with fewer parameters",
        where="Table 7",
        contrasts={
            "imagenet": (
                _networks(f"{_minus('Attention-56', 'ResNet-152')}, top-1", _A56, _R152),
                _networks(f"{_minus('Attention-56', 'ResNet-152')}, top-5", _A56, _R152, ERROR5),
                _networks("parameters (M)", _A56, _R152, PARAMS),
            )
        },
        text=(({"network": "attention56_imagenet"}, "params_ratio"),),
    ),
    Claim(
        id="not_the_compute",
        sentence="Attention-56 beats its trunk made deeper to the same MACs",
        where="ours",
        contrasts={"controls": (_networks(_minus("Attention-56", "its trunk, deeper"), "attention56", "trunk"),)},
    ),
    Claim(
        id="masks_help",
        sentence="Attention-56 beats the same network without masks",
        where="ours",
        contrasts={"controls": (_networks(_minus("Attention-56", "without masks"), "attention56", "no_mask"),)},
    ),
)
