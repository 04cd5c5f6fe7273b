"""Two tiny runs that take the whole path in seconds: data, training, tracking, table. They measure nothing.

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
