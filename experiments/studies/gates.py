"""The encoder-decoder mask against the gates of SE, ECA and CBAM on the same trunk (beyond the paper).

The gates were published after the paper and add almost no compute. Each replaces the mask in Attention-56: it has the
same input as the mask and is combined with the trunk in the same way, by attention residual learning.

    python run_ablation.py --study gates

Cost: 5 cells with Attention-56's trunk; per run on a core: quick 0.3 to 0.5 min, short 4 to 7 min. paper: 160k steps of
64 images each, for a GPU.
Expect: no prediction; we know of no published comparison.
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
