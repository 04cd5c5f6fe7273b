"""Training settings for Attention-92 when 40 % of the training labels are wrong (Table 5 keeps the usual settings).

Sampled: learning rate, weight decay, label smoothing, schedule, batch size, activation of the mask, attention residual
or naive attention learning. Derived: the number of steps, so that all trials see the same number of images. Validation
labels are as noisy as training labels, as they would be in practice. With 40 % of them wrong the lowest possible
validation error is about 40 %, and differences are about half as large as with true labels.

    python run_ablation.py --search noise_robust --trials 40
    python run_ablation.py --search noise_robust --confirm

The first command prunes by Hyperband. The second compares the best trial with the base at other seeds, on true test
labels.

Cost: a trial is a run of Attention-92. quick: less than a minute each on a core. short: 20 passes over 2,000 images,
7 to 12 minutes each. paper: 160k steps of 64 images each, on 45,000 training images, for a GPU.
Expect: more weight decay and label smoothing than without noise, and a learning rate that ends near 0.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from experiments.search_spec import Search
from ran.config import DataConfig, ModelConfig, RunConfig

SEARCH = Search(
    name="noise_robust",
    title="Attention-92 under 40 % label noise",
    base=RunConfig(model=ModelConfig(name="attention92"), data=DataConfig(noise=0.4)),
    space={
        "optim.lr": FloatDistribution(0.01, 1.0, log=True),
        "optim.weight_decay": FloatDistribution(1e-5, 1e-2, log=True),
        "optim.label_smoothing": FloatDistribution(0.0, 0.4),
        "optim.schedule": CategoricalDistribution(("step", "one_cycle", "cosine")),
        "train.batch_size": CategoricalDistribution((32, 64, 128)),
        "model.mask_activation": CategoricalDistribution(("mixed", "channel", "spatial")),
        "model.learning": CategoricalDistribution(("arl", "nal")),
    },
    derived=("steps",),
    width_range=(0.5, 1.5, 0.125),
    pruner="hyperband",
    settings={"short": {"data.train_images": 2_000}},
)
