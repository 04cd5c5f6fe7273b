"""How far does a small training budget speak about the paper's? ARL's effect against images seen (beyond the paper)

Attention-56 and -164 with attention residual learning and with naive attention learning, after 5,000, 20,000 and
80,000 images of CIFAR-10, half width. The paper trains on 10 million; its differences are 0.37 and 2.87 points
(Table 3). Each budget has its whole learning rate cycle. `arl_vs_nal` has the same at 40,000 images, at more seeds.

    python run_ablation.py --study budget
    python analysis/make_figures.py --figure budget

Cost: 12 cells; per run on a core: short 0.7 to 40 min, estimated from the runs of `arl_vs_nal` by their steps.
Expect: a difference that shrinks as both networks learn, at 164 layers more slowly; where it would end is not drawn.
"""

from experiments.study import Comparison, Study, axis

STUDY = Study(
    name="budget",
    title="Attention residual learning against images seen",
    profile="short",
    seeds=(0, 1, 2),
    axes=(
        axis("steps", (156, 625, 2500), field="train.steps", header="steps", short="t{}".format),
        axis(
            "depth",
            {depth: {"model.name": f"attention{depth}"} for depth in (56, 164)},
            header="network",
            label="Attention-{}".format,
            short="d{}".format,
        ),
        axis("learning", ("arl", "nal"), field="model.learning", label=str.upper),
    ),
    compare=Comparison(axis="learning", baseline="arl"),
)
