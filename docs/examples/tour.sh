#!/usr/bin/env bash
# From training to an exported network on the built-in data, in a few minutes: train, tables, figures, test, look,
# export. Run it in an empty folder. ROOT is this repository.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
say() { printf '\n$ %s\n' "$*"; "$@"; }

# Attention residual learning against naive attention learning, at one depth and one seed.
say python "$ROOT/run_ablation.py" --study arl_vs_nal --cells depth=56 --seeds 0 --profile "${1:-quick}"
say python -m experiments.runs
say python "$ROOT/analysis/make_tables.py" --table 3 --archive none
say python "$ROOT/analysis/make_figures.py" --archive none

run=$(python -m experiments.runs | awk '$2 == "d56" && $3 == "arl" {print $1}')
say python -m experiments.evaluate "$run"

# Write a few test images to files, then show the network's predictions and where it looks.
python - <<'PYTHON'
from pathlib import Path

from PIL import Image

from ran.data import cluttershapes

images, labels = cluttershapes.draw("test", range(4), difficulty=0.0, side=cluttershapes.SIDE)  # as `quick` does
Path("images").mkdir(exist_ok=True)
for i, (image, label) in enumerate(zip(images, labels)):
    Image.fromarray(image.transpose(1, 2, 0)).save(f"images/{i}-{cluttershapes.CLASSES[label]}.png")
PYTHON
say python -m experiments.predict "$run" images --top 3 --masks masks
say python -m experiments.export "$run" --format pt2 --out network.pt2
