"""Does naive attention learning starve the deeper stages? The response of each stage over training (Figure 4).

Claim: the mean absolute response of the stages' outputs vanishes under NAL after the first stage, and under ARL stays
like that of a ResNet without masks. Paper (relative to stage 1, stages 2 and 3): ARL 0.524, 0.299; NAL 0.016, 0.009;
ResNet-164 0.566, 0.302. The paper shows trained networks; here the response is logged at each evaluation.

    python run_ablation.py --study depth_response

Cost: 9 runs; the two Attention-164 are arl_vs_nal's and run once. quick: a minute each on two cores. short: 5 to 8
minutes each. paper: 160k steps of 64 images each; a GPU's work.
Expect: under NAL about a hundredth of stage 1's or less from the first evaluation on, else most of it.
"""

from experiments.study import Comparison, Study, axis

STUDY = Study(
    name="depth_response",
    title="Response of the stages over training",
    axes=(
        axis(
            "network",
            {
                "attention164_arl": {"model.name": "attention164", "model.learning": "arl"},
                "attention164_nal": {"model.name": "attention164", "model.learning": "nal"},
                "resnet164": {"model.name": "resnet164"},
            },
            label={
                "attention164_arl": "Attention-164, ARL",
                "attention164_nal": "Attention-164, NAL",
                "resnet164": "ResNet-164",
            }.__getitem__,
        ),
    ),
    compare=Comparison(axis="network", baseline="attention164_arl"),
)
