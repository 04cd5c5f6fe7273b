"""How should Attention-56 be trained, and how should its units be spent? At the paper's budget of multiply-adds.

Drawn: learning rate, weight decay, batch size, schedule, label smoothing, activation of the mask, and p, t, r (units
before and after the split, of the trunk, and between two poolings of the mask). Derived: the width, the largest whose
multiply-adds do not exceed the base's, and the number of steps, so that all trials see the same number of images.

    python run_ablation.py --search attention56 --trials 40
    python run_ablation.py --search attention56 --confirm

The first looks for the lowest error on the validation images, seed 0, and prunes by the median; the second compares
its best trial with the base at seeds that the search did not use, and that comparison is the result. With
`--objectives error,macs` the width is free between half and one and a half times the base's, and nothing is pruned.

Cost: a trial costs at most what a run of Attention-56 costs. quick: about half a minute each on two cores. paper: 160k
steps of 64 images each, on 45,000 training images; a GPU's work.
Expect: the learning rate and the batch size matter most; of a gain of the best trial over the base a part is luck,
which --confirm takes away.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from experiments.search import Search

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
