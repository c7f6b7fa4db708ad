#!/usr/bin/env bash
# Shared by slurm_train.sh and slurm_test.sh: runs a tool of this folder under srun, with one task per GPU.
# Arguments: TOOL PARTITION JOB_NAME [arguments of the tool].
set -euo pipefail
tool=$1 partition=$2 job_name=$3
shift 3

gpus=${GPUS:-4}
if [[ ! $gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "Error: GPUS must be the total number of processes, but got '$gpus'." >&2
    exit 2
fi
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 4 ? gpus : 4))}
cpus_per_task=${CPUS_PER_TASK:-5}
read -ra srun_args <<<"${SRUN_ARGS:-}"
# Rendezvous port of the tasks; jobs that share a node need different ones.
export MASTER_PORT=${PORT:-${MASTER_PORT:-29500}}

exec srun --partition="$partition" \
    --job-name="$job_name" \
    --gres=gpu:"$gpus_per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="$cpus_per_task" \
    --kill-on-bad-exit=1 \
    "${srun_args[@]}" \
    python -u "$(dirname "${BASH_SOURCE[0]}")/$tool" "$@" --launcher slurm
