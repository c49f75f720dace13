"""The same job from Python: inspect a folder, train briefly, and use the generator's images as arrays."""

from pathlib import Path

from balancegan.commands.train import TrainRequest, launch
from balancegan.compute.device import resolve_device
from balancegan.core.grid import save_grid
from balancegan.data.digits import write_digits
from balancegan.data.scan import scan
from balancegan.inspection.inspect import inspect_folder
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.samplers import Sampler


class Printer:
    """Prints the losses; anything with these three methods can watch a training."""

    def step(self, stage: str, step: int, total: int) -> None:
        pass

    def tick(self, row: dict) -> None:
        if row["step"] % 20 == 0:
            print(row["step"], row["stage"], {k: round(v, 2) for k, v in row.items() if k.startswith("loss/")})

    def note(self, text: str) -> None:
        print(text)


def main() -> None:
    data = write_digits(Path("digits"))
    found = inspect_folder(scan(data))
    print("imbalance rate:", found.to_json()["imbalance_rate"])

    flags = {"image_size": 16, "pretrain_steps": 40, "steps": 40}
    document = launch(TrainRequest(data=data, preset="tiny", flags=flags, device="cpu"), Printer())

    restored = restore(RunDir(document["run"]), resolve_device("cpu"))
    sampler = Sampler(restored.method, restored.device)
    rows = [sampler.images(label, seeds=range(10)) for label in range(len(restored.class_names))]
    print("uint8 arrays (n, C, S, S):", [row.shape for row in rows])
    save_grid(rows, Path("digits.png"), restored.class_names)


if __name__ == "__main__":
    main()
