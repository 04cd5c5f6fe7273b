"""Training settings and number of units for Attention-56, at the paper's budget of multiply-adds.

Sampled: learning rate, weight decay, batch size, schedule, label smoothing, activation of the mask, and p, t, r (number
of units before and after the split, in the trunk, and between two poolings of the mask). Derived: the largest width
that does not exceed the multiply-adds of the base, and the number of steps, so that all trials see the same number of
images.

    python run_ablation.py --search attention56 --trials 40
    python run_ablation.py --search attention56 --confirm

The first command searches for the lowest error on the validation images at seed 0 and prunes by the median. The second
compares the best trial with the base at seeds that the search did not use; that comparison is the result. With
`--objectives error,macs` the width is sampled too, between half and one and a half times the base, without pruning.

Cost: a trial costs at most as much as a run of Attention-56. quick: about half a minute each on a core. paper: 160k
steps of 64 images each, on 45,000 training images, for a GPU.
Expect: learning rate and batch size matter most. Part of the best trial's gain over the base is luck, which --confirm
removes.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from experiments.search_spec import Search

SEARCH = Search(
    name="attention56",
    title="Attention-56 at its budget of multiply-adds",
    space={
        "optim.lr": FloatDistribution(0.01, 1.0, log=True),
        "optim.weight_decay": FloatDistribution(1e-5, 5e-3, log=True),
        "train.batch_size": CategoricalDistribution((32, 64, 128)),
        "optim.schedule": CategoricalDistribution(("step", "one_cycle", "cosine")),
        "optim.label_smoothing": FloatDistribution(0.0, 0.2),
        "model.mask_activation": CategoricalDistribution(("mixed", "channel", "spatial")),
        "model.p": IntDistribution(1, 2),
        "model.t": IntDistribution(1, 3),
        "model.r": IntDistribution(1, 2),
    },
    derived=("width", "steps"),
    width_range=(0.5, 1.5, 0.125),
    pruner="median",
)
