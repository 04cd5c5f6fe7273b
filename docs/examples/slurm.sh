#!/usr/bin/env bash
# A study on N nodes of a Slurm cluster: sbatch --nodes 4 docs/examples/slurm.sh --study arl_vs_nal --profile paper --yes
# The first node is Ray's head and starts the launch. Ray ends with the launch, or when the time is up.
# Checkpoints and the checkout are on a file system that all nodes share. Before the time is up, Slurm sends SIGTERM: the
# launch writes its checkpoints and stops; the same sbatch continues.
#SBATCH --job-name=residual-attention
#SBATCH --ntasks-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
set -euo pipefail

: "${MLFLOW_TRACKING_URI:?name the MLflow server}"
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
port=$((10000 + SLURM_JOB_ID % 20000))
export RAY_USAGE_STATS_ENABLED=0

srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" ray start --head --port="$port" --block &
sleep 20
if [ "${#nodes[@]}" -gt 1 ]; then
    srun --nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) --overlap --exclude="$head" \
        ray start --address="$head:$port" --block &
    sleep 20
fi
srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" \
    python run_ablation.py --ray-address "$head:$port" --checkpoints checkpoints "$@" &
launch=$!
# Forwards the signal to the launch, which writes its checkpoints first.
trap 'kill -TERM "$launch"' TERM
status=0
wait "$launch" || status=$?
if [ "$status" -gt 128 ]; then  # the signal ended the wait, not the launch
    status=0
    wait "$launch" || status=$?
fi
exit "$status"
