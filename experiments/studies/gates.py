"""The encoder-decoder mask against the gates of SE, ECA and CBAM on the same trunk (beyond the paper).

The gates came after the paper and cost next to nothing. Each takes the mask's place in Attention-56: it reads what the
mask reads and is combined with the trunk by attention residual learning, as the mask is.

    python run_ablation.py --study gates

Cost: 15 runs of Attention-56's trunk. quick: about half a minute each on two cores. short: 2 to 3 minutes each. paper:
160k steps of 64 images each; a GPU's work.
Expect: no prediction; nobody has published this comparison.
"""

from experiments.study import Comparison, Study, axis

_LABELS = {"encoder_decoder": "Encoder and decoder", "se": "SE", "eca": "ECA", "cbam": "CBAM", "none": "none"}

STUDY = Study(
    name="gates",
    title="The mask against the gates of other papers",
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
)
