"""What `doctor` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from balancegan.cli.console import Console
from balancegan.cli.tables import shown, table
from balancegan.core.text import human_time, significant

_PLACES = {"output": "output folder", "cache": "cache folder"}
_WEIGHTS = {"published": "here", "other": "not the published file", "missing": "missing"}


def show_doctor(console: Console, doc: dict[str, Any]) -> None:
    """Print the machine in a few lines, its speed, then notes and problems with what to do about them."""
    versions = doc["versions"]
    if versions:
        console.print(f"[bold]balancegan {versions['balancegan']}[/], {_versions(versions)}")
    rows = table("", "")
    rows.show_header = False
    for name, text in (*_devices(doc), *_places(doc["disk"])):
        rows.add_row(name, text)
    if doc["weights"]:
        rows.add_row("metric weights", ", ".join(f"{w['name']} {_WEIGHTS[w['state']]}" for w in doc["weights"]))
    speed = doc["speed"]
    if speed and speed["decoding"]:
        decoding = speed["decoding"]
        what = f"{decoding['format']} of {decoding['side']} px"
        rows.add_row("reading images", f"{decoding['images_per_second']:,.0f} per second in one process ({what})")
    console.print(rows)
    if speed and speed["presets"]:
        console.print("")
        console.print(_speeds(speed["presets"]))
        for row in speed["presets"]:
            if row["reason"]:
                console.print(f"[dim]{row['preset']}: {shown(row['reason'])}[/]")
        console.print("[dim]SGBGAN, estimated as in `train --dry-run`; training is usually faster[/]")
    console.print("")
    for kind, colour in (("notes", "yellow"), ("problems", "red")):
        for item in doc[kind]:
            console.print(f"[{colour}]{kind[:-1]}:[/] {shown(item['what'])}")
            console.print(f"  {shown(item['do'])}")
    if doc["ok"]:
        console.print("[green]This machine is ready.[/]")


def _versions(versions: dict[str, str]) -> str:
    """Return the most important versions; the JSON document has all of them."""
    return f"PyTorch {versions['torch']}, Python {versions['python']}"


def _devices(doc: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (device, description with memory) of every device; the chosen one is bold."""
    device, found = doc["device"], []
    for entry in device["available"]:
        memory = ""
        if entry["total_gib"] is not None:
            free = "?" if entry["free_gib"] is None else f"{entry['free_gib']:.1f}"
            memory = f", {free} of {entry['total_gib']:.1f} GiB free"
        chosen = entry["device"] == device["chosen"]
        text = shown(entry["name"]) + memory
        if entry["kind"] == "cpu":
            text += f", {_count(device['threads'], 'thread')} on {_count(device['cores'], 'core')}"
        found.append((entry["device"], f"[bold]{text}[/] (selected)" if chosen else text))
    return found


def _count(number: int | None, what: str) -> str:
    return f"{'?' if number is None else number} {what}{'' if number == 1 else 's'}"


def _places(disks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    found = []
    for disk in disks:
        free = "" if disk["free_gib"] is None else f", {disk['free_gib']:,.1f} GiB free"
        state = "writable" if disk["writable"] else f"[red]not writable: {shown(disk['reason'])}[/]"
        found.append((_PLACES[disk["what"]], f"{shown(_short(disk['path']))}: {state}{free}"))
    return found


def _short(path: str) -> str:
    """Return a path with the user's home shortened to `~`, which also hides the user's name."""
    try:
        home = Path.home()
    except RuntimeError:  # the user has no home
        return path
    return str("~" / Path(path).relative_to(home)) if Path(path).is_relative_to(home) else path


def _speeds(presets: list[dict[str, Any]]) -> Any:
    titles = ("side", "images/s", "s/step", "full training", "memory")
    rows = table("preset", *titles, right=titles)
    for row in presets:
        side = f"{row['image_size']} px"
        if row["reason"]:
            rows.add_row(row["preset"], side, "–", "–", "–", "–")
            continue
        rows.add_row(
            row["preset"],
            side,
            significant(row["images_per_second"]),
            significant(row["seconds_per_step"]),
            human_time(3600 * row["hours"]),
            f"{row['memory_gib']:.2g} GiB",
        )
    return rows
