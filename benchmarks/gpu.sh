#!/usr/bin/env bash
# On a machine with NVIDIA GPUs: makes an environment with CUDA's packages, then compares `launcher up` with the plain
# script for 1, 2, 4, … GPUs, and prints a table for each.
#
#   benchmarks/gpu.sh [BATCH_SIZE_PER_GPU=512] [ROUNDS=3] [EPOCHS=5]
set -euo pipefail

batch=${1:-512}
rounds=${2:-3}
epochs=${3:-5}
cd "$(dirname "$0")/.."
python=.venv-gpu/bin/python

if ! command -v nvidia-smi >/dev/null; then
    echo "nvidia-smi is not there: this needs a machine with NVIDIA GPUs and their driver" >&2
    exit 1
fi
if [ ! -x "$python" ]; then
    "${PYTHON:-python3}" -m venv .venv-gpu
    "$python" -m pip install --quiet --editable '.[gpu,dev]'
fi

nvidia-smi --query-gpu=index,name,memory.total,driver_version --format=csv
mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader)
"$python" -c 'import tensorflow as tf; print(tf.__version__, tf.config.list_physical_devices("GPU"))'

for ((count = 1; count <= ${#gpus[@]}; count *= 2)); do
    visible=$(IFS=,; echo "${gpus[*]:0:count}")
    echo
    echo "## $count of ${#gpus[@]} GPUs, global batch $((batch * count))"
    # One worker with all of them, and a worker for each.
    workers=(1)
    if ((count > 1)); then workers+=("$count"); fi
    CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=$visible "$python" -m benchmarks.speed \
        --gpus "[$visible]" --workers "${workers[@]}" --batch-size $((batch * count)) --rounds "$rounds" \
        --epochs "$epochs" --json "gpu-$count.json"
done
