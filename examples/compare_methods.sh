#!/usr/bin/env bash
# Compare two methods with two seeds each. The training is far too short to tell which is better.
# Run this in an empty folder.
set -euo pipefail
python -c 'from pathlib import Path; from balancegan.data.digits import write_digits; write_digits(Path("digits"))'

settings=(--preset tiny --image-size 16 --pretrain-steps 30 --steps 30 --images 200 --device cpu)
balancegan compare ./digits --methods bagan-gp,sgbgan --seeds 2 "${settings[@]}"
# A second call only reads the results; it trains nothing.
balancegan compare ./digits --methods bagan-gp,sgbgan --seeds 2 "${settings[@]}" --json > comparison.json
python - <<'PY'
import json

document = json.load(open("comparison.json"))
for row in document["table"][0]["measures"]["fid"]["rows"]:
    print(row["method"], row["values"][0]["mean"])
PY
