"""Is it the attention or the compute? Attention-56 against its trunk alone (beyond the paper).

The mask branches take 29 % of Attention-56's multiply-adds. `no_mask` is the same trunk without them. `trunk` uses the
saved multiply-adds for depth: as many additional trunk units as fit, seven (3, 2 and 2 by stage), for 118.4M
multiply-adds against 122.8M. The paper compares only with deeper ResNets.

    python run_ablation.py --study controls

Cost: 3 cells of Attention-56's size; per run on a core: quick 0.3 to 0.5 min, short 4 to 7 min. paper: 160k steps of 64
images each, for a GPU.
Expect: a slightly higher error without masks; against the deeper trunk a difference within the spread between seeds.
"""

from experiments.study import Comparison, Study, axis

STUDY = Study(
    name="controls",
    title="Attention or compute",
    axes=(
        axis(
            "network",
            {
                "attention56": {"model.name": "attention56"},
                "no_mask": {"model.name": "attention56", "model.mask_structure": "none"},
                "trunk": {"model.name": "attention56_trunk"},
            },
            label={
                "attention56": "Attention-56",
                "no_mask": "Attention-56 without masks",
                "trunk": "Its trunk, deeper by 7 units",
            }.__getitem__,
        ),
    ),
    compare=Comparison(axis="network", baseline="attention56"),
)
