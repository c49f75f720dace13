"""Files beside images that are not read: what they are, and what to do with them."""

from __future__ import annotations

from collections import Counter

from balancegan.core.text import plural, printable

_IMAGES = {
    "convert it to PNG or TIFF": (
        ".jxl",
        ".tga",
        ".psd",
        ".exr",
        ".hdr",
        ".svg",
        ".eps",
        ".pdf",
        ".pcx",
        ".dds",
        ".xcf",
    ),
    "develop it to TIFF or PNG": (".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
    "export its slices as PNG or TIFF": (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".mgz"),
    "export its images as TIFF": (".czi", ".lif", ".nd2", ".oib", ".oif", ".vsi", ".svs", ".ndpi", ".mrxs", ".scn"),
    "extract its frames as PNG": (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".wmv"),
    "write its images as .npy or PNG": (".npz", ".mat", ".h5", ".hdf5", ".tfrecord", ".tfrecords", ".parquet", ".lmdb"),
    "unpack it": (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"),
}
_ADVICE = {suffix: advice for advice, suffixes in _IMAGES.items() for suffix in suffixes}


def kind_of(name: str) -> str:
    """Return a file's extension in lower case, both parts of .nii.gz; "" without one."""
    parts = name.rpartition("/")[2].lower().split(".")
    double = "." + ".".join(parts[-2:])
    return double if len(parts) > 2 and double in _ADVICE else f".{parts[-1]}" if len(parts) > 1 else ""


def unread(kinds: Counter[str]) -> str:
    """Say what kinds of files hold images that are not read, and what to do; "" if there are none."""
    known = [(kind, n) for kind, n in kinds.most_common() if kind in _ADVICE][:5]
    if not known:
        return ""
    total = sum(n for _, n in known)
    each = ", ".join(f"{n:,} {printable(kind)} ({_ADVICE[kind]})" for kind, n in known)
    return f"{plural(total, 'file is', 'files are')} in formats that are not read: {each}"
