#!/usr/bin/env bash
# Trains a small network on satellite images with cross-entropy and with cross-entropy + CPG, and compares them on a
# page, work_dirs/demo/index.html. Sets up the environment first (tools/setup_env.sh). Run it again to resume.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
start=$SECONDS
bash tools/setup_env.sh demo
export PATH=$PWD/.venv/bin:$PATH
setup_s=$((SECONDS - start))

python tools/dataset_converters/blue_marble.py --out_dir data/blue_marble

name=fast_scnn_1xb8-600i_blue-marble-256x256
max_iters=$(sed -n 's/^max_iters = //p' "configs/demo/$name.py")
work_dirs=()
for name in "$name" "${name/scnn/scnn_cpg3}"; do
    work_dir=work_dirs/$name
    work_dirs+=("$work_dir")
    # Checkpoints are written atomically.
    if [ ! -f "$work_dir/iter_$max_iters.pth" ]; then
        echo
        echo "Training $name"
        python tools/train.py "configs/demo/$name.py" --work-dir "$work_dir" --progress --resume
    fi
done
echo
python tools/analysis/demo_report.py "${work_dirs[@]}" --out work_dirs/demo
echo
echo "Written to $PWD:"
echo "  .venv                         the environment ($setup_s s)"
echo "  data/blue_marble              the dataset"
for work_dir in "${work_dirs[@]}"; do echo "  $work_dir"; done
echo "  work_dirs/demo/index.html     scores and figures (after setup: $((SECONDS - start - setup_s)) s)"
echo "  work_dirs/demo/overview.png   a figure of that page"
