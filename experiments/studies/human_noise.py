"""Wrong labels as people make them: Attention-92 against ResNet-164 on CIFAR-10N (beyond the paper).

Table 5's wrong labels fall uniformly on all classes; people confuse cats with dogs. CIFAR-10N (Wei et al., ICLR 2022)
has the labels of three people for each training image: the majority's (aggre, 9 % wrong), the first one's (random1,
17 %), and a wrong one wherever anybody gave one (worse, 40 %).

    python run_ablation.py --study human_noise

Needs CIFAR-10 and <data.root>/cifar10n.npz, or the authors' CIFAR-10_human.pt. `short` trains 20 passes over 2,000
images, as noisy_labels. Cost: 24 runs. short: 4 to 8 minutes each on two cores. paper: 160k steps of 64 images each; a
GPU's work. Expect: a larger harm than uniform noise of the same rate does, for the wrong labels agree with each other.
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
