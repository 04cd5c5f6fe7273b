"""How should a network be trained when there is time for only about one pass over the images? (beyond the paper)

Attention-56 with attention residual learning, 40,000 images of CIFAR-10, half width: batch size and learning rate of a
one-cycle schedule, compared with the paper's protocol shortened to the same number of images. The first versions of the
profiles `quick` and `short` and the fast recipe of benchmarks/accuracy.py were chosen here, by validation error. Naive
attention learning, other masks and networks without masks are not tuned: they train with what was best for ARL, which
may favour it in comparisons.

    python run_ablation.py --study recipes

Cost: 7 runs of 4 to 7 minutes each on a core.
Expect: lower errors with more and smaller steps at so few images; the paper's protocol needs many more images.
"""

from experiments.study import Comparison, Study, axis


def _one_cycle(lr: float, batch: int) -> dict[str, object]:
    return {
        "optim.schedule": "one_cycle", "optim.lr": lr, "optim.weight_decay": 5e-4, "train.batch_size": batch,
        "train.steps": 40_000 // batch,
    }  # fmt: skip


STUDY = Study(
    name="recipes",
    title="A recipe for few images",
    profile="short",
    seeds=(0,),
    axes=(
        axis(
            "recipe",
            {
                "cycle_0.1_32": _one_cycle(0.1, 32),
                "cycle_0.2_32": _one_cycle(0.2, 32),
                "cycle_0.2_64": _one_cycle(0.2, 64),
                "cycle_0.4_32": _one_cycle(0.4, 32),
                "cycle_0.4_64": _one_cycle(0.4, 64),
                "cycle_0.8_64": _one_cycle(0.8, 64),
                "paper": {
                    "optim.schedule": "step", "optim.lr": 0.1, "optim.weight_decay": 1e-4, "train.batch_size": 64,
                    "train.steps": 625,
                },
            },
            label={
                "cycle_0.1_32": "one cycle to 0.1, batches of 32",
                "cycle_0.2_32": "one cycle to 0.2, batches of 32",
                "cycle_0.2_64": "one cycle to 0.2, batches of 64",
                "cycle_0.4_32": "one cycle to 0.4, batches of 32",
                "cycle_0.4_64": "one cycle to 0.4, batches of 64",
                "cycle_0.8_64": "one cycle to 0.8, batches of 64",
                "paper": "the paper's steps from 0.1, of 64",
            }.__getitem__,
        ),
    ),
    compare=Comparison(axis="recipe", baseline="cycle_0.2_64"),
)  # fmt: skip
