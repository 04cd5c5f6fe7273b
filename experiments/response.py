"""Prints the response of each stage of a trained network relative to the first stage (Figure 4).

    python -m experiments.response RUN
    python -m experiments.response RUN --images 500

The response is the mean absolute value of the stage's output over the run's test images.
"""

import argparse
from collections.abc import Sequence

from experiments.after_training.options import add_data, network_parser, resolve_network
from records.command import entry


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status, 0. Raises UserError."""
    options = _parse(argv)
    from ran.data.datasets import load_splits
    from ran.probe import relative, stage_responses

    found = resolve_network(options)
    trained = found.trained
    images = load_splits(trained.test_data(), trained.config.seed).test.images[: options.images]
    with trained.arithmetic.on(trained.device):
        responses = stage_responses(trained.network, images, trained.interface.normalization)
    curve = " ".join(f"{r:.3f}" for r in relative(responses))
    absolute = " ".join(f"{r:.4g}" for r in responses)
    print(f"{found.name}, {len(images):,} test images: relative response {curve} (absolute {absolute})")
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = network_parser("response", __doc__)
    add_data(parser)
    parser.add_argument("--images", type=int, metavar="N", help="number of test images; default: all of the run's")
    options = parser.parse_args(argv)
    if options.images is not None and options.images < 1:
        parser.error(f"--images must be at least 1, got {options.images}")
    return options


if __name__ == "__main__":
    entry("response", main)
