"""Mixed, channel and spatial attention: what the mask's activation may say (Table 1, section 3.2, eq. 4 to 6).

Claim: the mask left free to adapt (mixed, a sigmoid) beats one that is confined to channels (L2-normalised over them)
or to positions (normalised over each map). Paper (Attention-56, CIFAR-10 error, %): 5.52, 6.24, 6.33.

    python run_ablation.py --study mask_type

Cost: 9 runs of Attention-56. quick: about half a minute each on two cores. short: 2 to 4 minutes each. paper: 160k
steps of 64 images each; a GPU's work. Expect: differences of half a percent need the paper's length to show.
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
