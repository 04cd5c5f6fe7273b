"""Label errors made by people: Attention-92 against ResNet-164 on CIFAR-10N (beyond the paper).

Wrong labels in Table 5 are uniform over all classes; people confuse cats with dogs. CIFAR-10N (Wei et al., ICLR 2022)
has labels from three people for each training image: the majority (aggre, 9 % wrong), the first person (random1, 17 %),
and a wrong label whenever at least one person gave one (worse, 40 %).

    python run_ablation.py --study human_noise

Needs CIFAR-10 and <data.root>/cifar10n.npz, or the authors' CIFAR-10_human.pt. Like noisy_labels, `short` trains 20
passes over 2,000 images. Cost: 8 cells. short: 10 minutes per run on a core. paper: 160k steps of 64 images each,
for a GPU. Expect: more harm than from uniform noise of the same rate, because the wrong labels agree with each other.
"""

from experiments.study import Comparison, Study, axis
from records import names

STUDY = Study(
    name="human_noise",
    title="Labels given by people (CIFAR-10N)",
    axes=(
        axis(
            "labels",
            {
                name: {"data.noise_labels": None if name == "clean" else name}
                for name in ("clean", "aggre", "random1", "worse")
            },
        ),
        axis("network", ("resnet164", "attention92"), field="model.name", label=names.NETWORKS.__getitem__),
    ),
    compare=Comparison(axis="network", baseline="resnet164"),
    requires=("cifar10",),
    settings={"short": {"data.train_images": 2_000}},
)
