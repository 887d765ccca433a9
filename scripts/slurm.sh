#!/usr/bin/env bash
# Train on several machines under Slurm. Before its time is over the job saves, and queues itself again.
#   sbatch scripts/slurm.sh configs/deit_s_imagenet.yaml data.root=/data/imagenet
# Change the lines below to your cluster; `sbatch --nodes=4 ...` on the command line wins over them.
#SBATCH --job-name=vtrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x_%j.log
# One task for each machine: its torchrun starts a process for each GPU. Slurm warns this shell alone
# (B:), 120 seconds before the limit; after a requeue the log goes on where it was.
set -euo pipefail

config=$1
shift
run=runs/slurm/$(basename "$config" .yaml)_$SLURM_JOB_ID # a requeue keeps the number of the job
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000)) # two jobs on one machine do not meet

# Without --signals-to-handle a SIGUSR1 would end torchrun and leave its processes behind.
srun --kill-on-bad-exit=1 torchrun \
    --nnodes="$SLURM_NNODES" \
    --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$first:$port" \
    --rdzv-id="$SLURM_JOB_ID" \
    --signals-to-handle=SIGTERM,SIGINT,SIGUSR1 \
    --no-python vtrain fit "$config" "$@" --run-dir "$run" --resume &
training=$!

warned=no
warn() { # srun passes the signal on to every task
    warned=yes
    kill -USR1 "$training"
}
trap warn USR1
code=0
wait "$training" || code=$?
if [ "$warned" = yes ]; then # a signal ends `wait` before what it waits for
    wait "$training" || code=$?
    if ! grep -q '"state": "finished"' "$run/status.json"; then
        scontrol requeue "$SLURM_JOB_ID"
        exit 0
    fi
fi
exit "$code"
