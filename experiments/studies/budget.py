"""How far does a small training budget speak about the paper's? ARL's effect against images seen (beyond the paper)

Attention-56 and -164 with attention residual learning and with naive attention learning, after 5,000, 20,000, 40,000
and 80,000 images of CIFAR-10, half width. The paper trains on 10 million; its differences are 0.37 and 2.87 points
(Table 3). Each budget has its whole learning rate cycle. `arl_vs_nal` shares the runs of 40,000 images.

    python run_ablation.py --study budget
    python analysis/make_figures.py --figure budget

Cost: 16 cells, of which `arl_vs_nal` trains 4. About 2 core hours per seed for the other 12, estimated from its runs.
Expect: a difference that shrinks as both networks learn, at 164 layers more slowly; where it would end is not drawn.
"""

from experiments.study import Comparison, Study, axis

STUDY = Study(
    name="budget",
    title="Attention residual learning against images seen",
    profile="short",
    seeds=(0, 1, 2),
    axes=(
        axis("steps", (156, 625, 1250, 2500), field="train.steps", header="steps", short="t{}".format),
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
