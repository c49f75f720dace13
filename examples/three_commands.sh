#!/usr/bin/env bash
# The three commands on a small folder of digits, shortened to two or three minutes. Run this in an empty folder.
set -euo pipefail
python -c 'from pathlib import Path; from balancegan.data.digits import write_digits; write_digits(Path("digits"))'

balancegan inspect ./digits
balancegan train ./digits --method sgbgan --preset tiny --image-size 16 --pretrain-steps 60 --steps 60 --device cpu
balancegan sample --n 8 --out look.png
# augment measures first whether generated images help a classifier. After such a short training they hardly can, so the
# classes are filled with variations of real images. --no-utility skips the verdict, another minute or two.
balancegan augment --target-ir 1 --no-utility
# The same report for any two folders. In a balanced folder, only the synthetic images count.
balancegan evaluate ./digits ./balanced --no-utility --metrics fid,kid,prdc

python - <<'PY'
import collections
from torchvision.datasets import ImageFolder

data = ImageFolder("balanced/train")
print({data.classes[k]: n for k, n in sorted(collections.Counter(data.targets).items())})
PY
