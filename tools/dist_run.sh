#!/usr/bin/env bash
# Shared by dist_train.sh and dist_test.sh: runs a tool of this folder under torchrun, with one process per GPU.
# Arguments: TOOL GPUS [arguments of the tool]. On several nodes, set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
tool=$1
gpus=$2
shift 2

if [[ ! $gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "Error: GPUS must be the number of processes on this node, but got '$gpus'." >&2
    exit 2
fi

# The defaults of torchrun and MMEngine; setting them avoids their warnings.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" \
    "$(dirname "${BASH_SOURCE[0]}")/$tool" "$@" --launcher pytorch
