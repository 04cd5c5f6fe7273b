"""Mixed, channel and spatial attention: three activations of the mask (Table 1, section 3.2, eq. 4 to 6).

Claim: an unconstrained mask (mixed, a sigmoid) has a lower error than a mask constrained to channels (L2-normalized
over them) or to positions (normalized over each map). Paper (Attention-56, CIFAR-10 error, %): 5.52, 6.24, 6.33.

    python run_ablation.py --study mask_type

Cost: 3 cells of Attention-56; per run on a core: quick 0.3 to 0.5 min, short 6 to 7 min. paper: 160k steps of 64 images
each, for a GPU.
Expect: differences below a point in the paper's protocol; after few images others are possible, and another order.
"""

from experiments.study import Comparison, Study, axis

STUDY = Study(
    name="mask_type",
    title="Attention types: mixed, channel and spatial",
    table="1",
    axes=(
        axis(
            "mask_activation",
            ("mixed", "channel", "spatial"),
            field="model.mask_activation",
            header="attention",
            label=str.capitalize,
        ),
    ),
    compare=Comparison(axis="mask_activation", baseline="mixed"),
)
