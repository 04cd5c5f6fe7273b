"""Attention residual learning (ARL) against naive attention learning (NAL), at four depths (Table 3, section 4.1).

Claim: ARL, `(1+M)*T`, has a lower error than NAL, `M*T`, at every depth. The error falls with depth under ARL and rises
beyond 92 layers under NAL. Paper (CIFAR-10 error, %): 56/92/128/164 ARL 5.52/4.99/4.44/4.31, NAL 5.89/5.35/5.57/7.18.

    python run_ablation.py --study arl_vs_nal

Cost: 8 cells; per run on a core: quick 0.3 to 1.3 min on the built-in data set, short 6 to 20 min on CIFAR-10. paper:
160k steps of 64 images each, for a GPU.
Expect: a gap that grows with depth, in short runs from a few points at 56 layers to tens of points at 164.
"""

from experiments.study import Comparison, Study, axis

STUDY = Study(
    name="arl_vs_nal",
    title="Attention residual learning against naive attention learning",
    table="3",
    axes=(
        axis(
            "depth",
            {depth: {"model.name": f"attention{depth}"} for depth in (56, 92, 128, 164)},
            header="network",
            label="Attention-{}".format,
            short="d{}".format,
        ),
        axis("learning", ("arl", "nal"), field="model.learning", label=str.upper),
    ),
    compare=Comparison(axis="learning", baseline="arl"),
)
