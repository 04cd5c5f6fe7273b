"""Does bfloat16 cost accuracy? (beyond the paper, whose networks were trained in float32)

Attention-56 with attention residual learning. Autocast runs convolutions, pools and masks in bfloat16; weights,
BatchNorm statistics and the loss are float32. Seeds are paired: same images, same initial weights.

    python run_ablation.py --study precision

Cost: 6 runs of 3 to 6 minutes each on a core with bfloat16 instructions; without them it is emulated, slowly.
Expect: no difference beyond the spread between seeds.
"""

from experiments.study import Comparison, Study, axis

STUDY = Study(
    name="precision",
    title="bfloat16 against float32",
    profile="short",
    seeds=(0, 1, 2),
    axes=(
        axis(
            "precision",
            ("float32", "bf16"),
            field="train.precision",
            label={"float32": "float32", "bf16": "bfloat16 by autocast"}.__getitem__,
        ),
    ),
    compare=Comparison(axis="precision", baseline="float32"),
)
