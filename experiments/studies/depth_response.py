"""Does naive attention learning weaken the deeper stages? Response of each stage over training (Figure 4).

Claim: under NAL the mean absolute response of the stages' outputs vanishes after the first stage; under ARL it stays
similar to that of a ResNet without masks. Paper (relative to stage 1, stages 2 and 3): ARL 0.524, 0.299; NAL 0.016,
0.009; ResNet-164 0.566, 0.302. The paper shows trained networks; here each evaluation logs the response.

    python run_ablation.py --study depth_response

Cost: 3 cells, of which the two Attention-164 are shared with arl_vs_nal; per run on a core: quick 0.7 to 1.3 min, short
10 to 20 min. paper: 160k steps of 64 images each, for a GPU.
Expect: under NAL a hundredth of stage 1 or less from the first evaluation on, otherwise a large part of it.
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
