#!/usr/bin/env bash
# Test on several GPUs (or, without a GPU, in several CPU processes).
set -euo pipefail
if (($# < 3)); then
    echo "Usage: $0 CONFIG CHECKPOINT GPUS [options of test.py]" >&2
    echo "Several nodes: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each." >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh" test.py "$3" "$1" "$2" "${@:4}"
