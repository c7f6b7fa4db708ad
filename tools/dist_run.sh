#!/usr/bin/env bash
# What dist_train.sh and dist_test.sh share: one process per GPU of a tool in this folder, under torchrun.
# Arguments: TOOL GPUS [the tool's own]. Several nodes: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
tool=$1
gpus=$2
shift 2

if [[ ! $gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "Error: GPUS is the number of processes on this node, but got '$gpus'." >&2
    exit 2
fi

# The defaults of torchrun and mmengine, which they would announce at length.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" \
    "$(dirname "${BASH_SOURCE[0]}")/$tool" "$@" --launcher pytorch
