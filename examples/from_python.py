"""The same job from Python: inspect a folder, train briefly, look at the images, fill the folder. Under a minute."""

from pathlib import Path

import balancegan
from balancegan.data.digits import write_digits


def main() -> None:
    data = write_digits(Path("digits"))  # 170 zeros, 60 threes, 30 fours, 20 sixes; no download
    found = balancegan.inspect(data)
    print(f"imbalance rate {found.imbalance_rate:g}: {found.minority.count} images of {found.minority.name}")

    # Far too few steps for good images. `width` is a field of the configuration, as with --set.
    tiny = {"preset": "tiny", "image_size": 16, "pretrain_steps": 30, "steps": 30, "width": 16}
    run = balancegan.train(data, method="sgbgan", device="cpu", **tiny)
    print(f"{run.steps} steps, {run.images_per_second:.0f} images per second: {run.path}")

    images = run.sample("six", n=16)
    print("images:", images.shape, images.dtype)
    assert (run.sample("six", seeds=[3]) == images[3]).all(), "a seed names an image"

    # filter="none" keeps near-copies, of which so short a training makes many; the report would take a minute or two.
    balanced = balancegan.augment(run, target_ir=1, share=0.5, filter="none", report=False)
    for row in balanced.classes:
        print(f"{row.name}: {row.real} real, {row.synthetic} synthetic")
    print(f"imbalance rate {balanced.imbalance_rate_after:g} in {balanced.path}")


if __name__ == "__main__":
    main()
