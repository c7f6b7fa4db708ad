#!/usr/bin/env bash
# Train on several GPUs (or, without a GPU, in several CPU processes).
set -euo pipefail
if (($# < 2)); then
    echo "Usage: $0 CONFIG GPUS [options of train.py]" >&2
    echo "Several nodes: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each." >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh" train.py "$2" "$1" "${@:3}"
