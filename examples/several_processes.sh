#!/usr/bin/env bash
# Two processes train and sample together, here on the CPU. On a machine with GPUs, use --nproc-per-node gpu and drop
# --device. Run this in an empty folder.
set -euo pipefail
python -c 'from pathlib import Path; from balancegan.data.digits import write_digits; write_digits(Path("digits"))'

torchrun --nproc-per-node 2 -m balancegan train ./digits --method sgbgan --preset tiny --image-size 16 --set width=32 \
  --pretrain-steps 30 --steps 30 --device cpu
torchrun --nproc-per-node 2 -m balancegan augment --target-ir 2 --share 0.5 --filter none --no-utility
# The result is an ordinary run: one process can continue it, or any number of processes that divides the batch size.
balancegan train ./digits --method sgbgan --preset tiny --image-size 16 --set width=32 --pretrain-steps 30 --steps 40 \
  --device cpu
