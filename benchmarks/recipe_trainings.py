"""Short real trainings: what the recipe makes of their images, beside folders filled with generated images alone.

    python benchmarks/recipe_trainings.py DIR SET=FOLDER ... [--methods sgbgan,damage-gan-c,edm] [--minutes 3]
    python benchmarks/recipe_trainings.py DIR SET=FOLDER ... --methods edm --variants copies,quality,copies/own

Trains each method (`tiny`, 16 px) on each set. Writes a folder with `augment --target-ir 1` and one with
`--fill generated` as well, with their reports, and prints a line of JSON for each: the share, the search, the verdict,
and the seconds. DIR keeps the runs and the folders; what is there already is not made again.

With --variants, folders have no report, and each line is for one filter and one start of the images (--from), which
tells what each of them is worth in the search.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import balancegan
from balancegan.verdict.arms import CANDIDATE

SIZE = 16
BOUNDS = ("score", "score_low", "score_high")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path)
    parser.add_argument("sets", nargs="+", help="NAME=FOLDER")
    parser.add_argument("--methods", default="sgbgan,damage-gan-c,edm")
    parser.add_argument("--minutes", type=float, default=3.0, help="of training")
    parser.add_argument("--group-by", default="auto")
    parser.add_argument("--fills", default="auto,generated")
    parser.add_argument("--variants", help="FILTER or FILTER/START, such as quality/own")
    args = parser.parse_args(argv)
    for name, data in (pair.split("=", 1) for pair in args.sets):
        for method in args.methods.split(","):
            runs = args.dir / name / method
            run = next(runs.glob("[!.]*"), None) if runs.is_dir() else None
            run = run or balancegan.train(
                data,
                method=method,
                preset="tiny",
                image_size=SIZE,
                max_time=f"{round(60 * args.minutes)}s",
                out=runs,
                group_by=args.group_by,
                device="cpu",
            )
            for word in (args.variants or args.fills).split(","):
                began = time.perf_counter()
                if args.variants:
                    filter, _, start = word.partition("/")
                    how = {"filter": filter, "from_": start or "noise", "report": False}
                else:
                    how = {"fill": word}
                made = balancegan.augment(
                    run,
                    target_ir=1,
                    out=args.dir / name / f"{method}-{word.replace('/', '-')}",
                    device="cpu",
                    progress=False,
                    **how,
                )
                judged = made.get("utility") or {"verdict": None, "note": None}
                ours = [d for d in judged.get("differences", ()) if d["arm"] == CANDIDATE]
                row = {
                    "set": name,
                    "method": method,
                    "step": made["step"],
                    "how": word,
                    "share": round(made["share"], 3),
                    "rows": [
                        [r["share"], len(r["group"]), *(r[k] and round(r[k], 3) for k in BOUNDS)]
                        for r in made["recipe"]
                    ],
                    "why": made["in_words"][:1],
                    "short": made["short"],
                    "verdict": judged["verdict"] or judged["note"],
                    "against": {
                        d["against"]: [round(100 * x, 1) for x in d["balanced_accuracy"].values()] for d in ours
                    },
                    "seconds": round(time.perf_counter() - began),
                }
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
