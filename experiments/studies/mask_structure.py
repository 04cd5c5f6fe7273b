"""The encoder-decoder mask against local convolutions of the same size (Table 4, section 4.1).

Claim: a mask with pooling and interpolation, which sees more than its neighbourhood, has a lower error than three units
at full resolution. Paper (Attention-56, CIFAR-10 error, %): local convolutions 6.48, encoder-decoder 5.52. The paper
gives the local mask "three Residual Units using the same number of FLOPs", which is impossible at full width:
`local_conv` keeps the units (24 % more multiply-adds in total), `local_conv_macs` the FLOPs with narrower bottlenecks.

    python run_ablation.py --study mask_structure

Cost: 3 cells, Attention-56 and its variants; per run on a core: quick 0.3 to 0.5 min, short 5 to 7 min. paper: 160k
steps of 64 images each, for a GPU.
Expect: a difference of one or two points, similar to the spread between seeds in the short profile.
"""

from experiments.study import Comparison, Study, axis

_LABELS = {
    "local_conv": "Local convolutions, same units",
    "local_conv_macs": "Local convolutions, same MACs",
    "encoder_decoder": "Encoder and decoder",
}

STUDY = Study(
    name="mask_structure",
    title="Structure of the soft mask branch",
    table="4",
    axes=(
        axis(
            "mask_structure",
            tuple(_LABELS),
            field="model.mask_structure",
            header="mask",
            label=_LABELS.__getitem__,
        ),
    ),
    compare=Comparison(axis="mask_structure", baseline="encoder_decoder"),
    # At an eighth of the width no local mask is as cheap as the encoder-decoder.
    settings={"smoke": {"model.width": 0.25}},
)
