#!/usr/bin/env bash
# Two processes train and sample together, here on the CPU; on a machine with GPUs take --nproc-per-node gpu and leave
# --device out. Run it in an empty folder.
set -euo pipefail
python -c 'from pathlib import Path; from balancegan.data.digits import write_digits; write_digits(Path("digits"))'

torchrun --nproc-per-node 2 -m balancegan train ./digits --method sgbgan --preset tiny --image-size 16 --set width=32 \
  --pretrain-steps 30 --steps 30 --device cpu
torchrun --nproc-per-node 2 -m balancegan augment --target-ir 2 --filter none --no-utility
# What they made is an ordinary run: it goes on in one process, or in any other number that divides the batch.
balancegan train ./digits --method sgbgan --preset tiny --image-size 16 --set width=32 --pretrain-steps 30 --steps 40 \
  --device cpu
