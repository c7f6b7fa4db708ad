#!/usr/bin/env bash
# Trains a small network on satellite images twice, with cross-entropy and with cross-entropy + CPG, and compares them.
# Sets everything up first (tools/setup_env.sh). Run it again after an interruption: what is finished is not done again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
start=$SECONDS
bash tools/setup_env.sh demo
export PATH=$PWD/.venv/bin:$PATH
setup_s=$((SECONDS - start))

python tools/dataset_converters/blue_marble.py --out_dir data/blue_marble

work_dirs=()
for name in fast_scnn_1xb8-600i_blue-marble-256x256 fast_scnn_cpg3_1xb8-600i_blue-marble-256x256; do
    work_dir=work_dirs/$name
    work_dirs+=("$work_dir")
    if [ ! -f "$work_dir/iter_600.pth" ]; then
        resume=$([ ! -f "$work_dir/last_checkpoint" ] || echo --resume)
        python tools/train.py "configs/demo/$name.py" --work-dir "$work_dir" $resume
    fi
done
echo
python tools/analysis/demo_report.py "${work_dirs[@]}" --out work_dirs/demo/demo.png
echo
echo "Made in $PWD:"
echo "  .venv                    the environment ($setup_s s)"
echo "  data/blue_marble         the data set"
for work_dir in "${work_dirs[@]}"; do echo "  $work_dir"; done
echo "  work_dirs/demo/demo.png  the comparison (from the data set on: $((SECONDS - start - setup_s)) s)"
