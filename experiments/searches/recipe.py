"""How should Attention-56 be trained where only a few passes over the images can be paid?

Drawn: learning rate, momentum, weight decay, batch size, schedule and label smoothing. Derived: the number of steps, so
that all trials see the same number of images. The network is attention residual learning's; that of naive attention
learning is never looked at, so that a comparison of the two under the recipe found is not one of how each was tuned.

    python run_ablation.py --search recipe --profile short --trials 16
    python run_ablation.py --search recipe --profile short --confirm

Cost: a trial costs at most what a run of Attention-56 costs under the profile.
Expect: batch size and learning rate go together; label smoothing costs a short training more than it gives.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from experiments.search import Search

SEARCH = Search(
    name="recipe",
    title="A recipe for few passes over the images",
    space={
        "optim.lr": FloatDistribution(0.02, 1.0, log=True),
        "optim.momentum": CategoricalDistribution((0.8, 0.9, 0.95)),
        "optim.weight_decay": FloatDistribution(5e-5, 2e-3, log=True),
        "train.batch_size": CategoricalDistribution((32, 64, 128)),
        "optim.schedule": CategoricalDistribution(("one_cycle", "cosine")),
        "optim.label_smoothing": FloatDistribution(0.0, 0.1),
    },
    derived=("steps",),
    pruner="median",
)
