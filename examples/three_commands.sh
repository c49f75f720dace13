#!/usr/bin/env bash
# The three commands on a small folder of digits, shortened to under a minute; run it in an empty folder.
set -euo pipefail
python -c 'from pathlib import Path; from balancegan.data.digits import write_digits; write_digits(Path("digits"))'

balancegan inspect ./digits
balancegan train ./digits --method sgbgan --preset tiny --image-size 16 --pretrain-steps 60 --steps 60 --device cpu
balancegan sample --n 8 --out look.png
# So short a training knows few different digits; --filter none keeps all it makes. --no-utility leaves out the verdict,
# for which classifiers are trained for a minute or two.
balancegan augment --target-ir 1 --filter none --no-utility
# The same report for any two folders: of a balanced one only the synthetic images count.
balancegan evaluate ./digits ./balanced --no-utility --metrics fid,kid,prdc

python - <<'PY'
import collections
from torchvision.datasets import ImageFolder

data = ImageFolder("balanced/train")
print({data.classes[k]: n for k, n in sorted(collections.Counter(data.targets).items())})
PY
