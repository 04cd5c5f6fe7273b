"""Attention networks against residual networks on CIFAR-10 and CIFAR-100 (Table 6, section 4.1).

Claim: Attention-92 has a lower error than ResNet-164, which is of similar size, Attention-236 than ResNet-1001 with
half its parameters, Attention-452 than WRN-28-10 with 28 %. Paper (CIFAR-10, CIFAR-100 error, %): ResNet-164 5.46,
24.33; ResNet-1001 4.64, 22.71; WRN-16-8 4.81, 22.07; WRN-28-10 4.17, 20.50; Attention-92 4.99, 21.71; -236 4.14, 21.16;
-452 3.90, 20.45.

    python run_ablation.py --study cifar
    python run_ablation.py --study cifar --data.name cifar100

Needs CIFAR. Cost: 7 cells per data set. paper: 160k steps of 64 images each, 0.2 to 5.2G multiply-adds per image, which
takes days on a GPU. short: 10 minutes to hours per run on a core, with networks of half the paper's width.
Expect: in the paper Attention-92 is half a point below ResNet-164 on CIFAR-10 and 2.6 points on CIFAR-100; the larger
networks differ by tenths of a point, which only the paper's number of steps and several seeds can show.
"""

from experiments.study import Comparison, Study, axis
from records import names

_NETWORKS = ("resnet164", "resnet1001", "wrn16_8", "wrn28_10", "attention92", "attention236", "attention452")

STUDY = Study(
    name="cifar",
    title="CIFAR networks",
    table="6",
    seeds=(0, 1, 2),
    axes=(axis("network", _NETWORKS, field="model.name", label=names.NETWORKS.__getitem__),),
    compare=Comparison(axis="network", baseline="resnet164"),
    requires=("cifar10", "cifar100"),
)
