"""Two tiny runs through data, training, tracking and table, in seconds. Their numbers mean nothing.

    python run_ablation.py --study smoke

Cost: seconds.
"""

from experiments.study import Comparison, Study, axis

STUDY = Study(
    name="smoke",
    title="Smoke test",
    profile="smoke",
    seeds=(0,),
    axes=(axis("learning", ("arl", "nal"), field="model.learning", label=str.upper),),
    compare=Comparison(axis="learning", baseline="arl"),
)
