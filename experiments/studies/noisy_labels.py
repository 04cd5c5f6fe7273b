"""Training with wrong labels: Attention-92 against ResNet-164 (Table 5, section 4.1).

Claim: attention makes learning more robust to label noise; Attention-92 has the lower error at every noise level, and
its error grows more slowly. Paper (CIFAR-10 error at 10/30/50/70 %): ResNet-164 5.93/6.61/8.35/17.21, Attention-92
5.15/5.79/7.27/15.75. 0 %, which the paper does not report here, is the control.

    python run_ablation.py --study noisy_labels

A training label is wrong with the given probability, and then uniform over the other classes (eq. 7). The labels are
drawn once per seed and are the same for both networks. Validation labels are equally noisy, test labels are true. The
training error is logged against the labels used for training and against the true ones; the difference shows
memorization. That takes many passes, so `short` trains 20 passes over 2,000 images.

Cost: 10 cells; per run on a core: quick 0.5 to 0.8 min, short 10 to 12 min. paper: 160k steps of 64 images each, for a
GPU.
Expect: errors that rise with the noise, in `short` far more than in the paper because it has only 2,000 images; between
the networks a difference of a few points, whose sign varies between seeds.
"""

from experiments.study import Comparison, Study, axis
from records import names

STUDY = Study(
    name="noisy_labels",
    title="Noisy training labels",
    table="5",
    axes=(
        axis(
            "noise",
            (0.0, 0.1, 0.3, 0.5, 0.7),
            field="data.noise",
            header="label noise",
            label=lambda rate: f"{100 * rate:.0f} %",
            short="n{}".format,
        ),
        axis("network", ("resnet164", "attention92"), field="model.name", label=names.NETWORKS.__getitem__),
    ),
    compare=Comparison(axis="network", baseline="resnet164"),
    settings={"short": {"data.train_images": 2_000}},
)
