#!/usr/bin/env bash
# The classic table: four data sets, each with none, SE and CBAM, one run a cell by the classic command; then the table.
# At 224 px (Flowers, EuroSAT) a cell is too much for a CPU: use a GPU, or --image_size 64. What is done is not trained again.
#
#   scripts/classic_table.sh                 all twelve cells
#   scripts/classic_table.sh --epochs 1      flags go to run_experiment.py
#   DRY=1 scripts/classic_table.sh           prints the commands
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
run() {
  echo "+ $*"
  [ -n "${DRY:-}" ] || "$@"
}

for dataset in ${DATASETS:-CIFAR10 CIFAR100 Oxford102Flowers EuroSAT}; do
  for attention in none se cbam; do
    run python "$here/run_experiment.py" --dataset "$dataset" --attention_type "$attention" "$@"
  done
done
run attnbench report "${ATTNBENCH_STORE:-runs}"
