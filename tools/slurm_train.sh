#!/usr/bin/env bash
# Train on the GPUs of a Slurm cluster.
set -euo pipefail
if (($# < 3)); then
    echo "Usage: [GPUS=4] [GPUS_PER_NODE=4] [CPUS_PER_TASK=5] [PORT=29500] [SRUN_ARGS=...] \\" >&2
    echo "    $0 PARTITION JOB_NAME CONFIG [options of train.py]" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/slurm_run.sh" train.py "$@"
