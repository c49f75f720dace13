"""The cache, `augment` and `compare` may be killed anywhere too."""

import random
from functools import partial
from pathlib import Path

import pytest
from check import broken_files, broken_run
from crash import Command, eventually, serious, untidy
from helpers import tree, write_images

FLAGS = {"batch_size": 4, "pretrain_steps": 1, "steps": 2, "save_every": 3}


@pytest.fixture(scope="module")
def data(place):
    folder = write_images(place / "discs", {"ant": 12, "bee": 8, "cat": 6})
    before = tree(folder)
    yield folder
    assert tree(folder) == before


@pytest.fixture(scope="module")
def run(zygote, place, data):
    return Path(zygote.run("train", data=data, out=place / "runs", **FLAGS)["run"])


@pytest.fixture(scope="module")
def augment(zygote, place, run):
    out = place / "balanced"
    return Command(zygote, out, partial(zygote.start, "augment", run=run, out=out), broken_folder).undisturbed()


@pytest.fixture(scope="module")
def compare(zygote, place, data):
    out = place / "comparison"
    return Command(zygote, out, partial(zygote.start, "compare", data=data, out=out), broken_run).undisturbed()


@pytest.fixture
def store(zygote, place, data, tmp_path, monkeypatch):
    """A cache of its own, which is what is written."""
    out = tmp_path / "stores-of-one-test"
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(out))
    return Command(zygote, out, partial(zygote.start, "store", data=data, workers=1), broken_files).undisturbed()


def broken_folder(out):
    """As `broken_files`; and a folder that is not whole must not say that it is finished."""
    yield from broken_files(out)
    marker = out / ".balancegan.json"
    if marker.exists() and '"finished": true' in marker.read_text() and not (out / "README.md").exists():
        yield "says that it is finished"


def test_augment_killed_at_every_kind_of_file_operation(augment):
    problems = augment.crash_everywhere(augment.every_kind())
    assert not serious(problems) and not untidy(problems)


def test_a_cache_killed_at_every_file_operation(store):
    """Not even the temporary folder of the dead process stays."""
    problems = store.crash_everywhere(store.everywhere())
    assert not serious(problems) and not untidy(problems)


def test_compare_killed_before_its_own_files_have_their_names(compare):
    """Before every second of them; what its trainings write is the business of `train`."""
    kinds = [(n, compare.points[n - 1]) for n in compare.every_kind()]
    numbers = [n for n, kind in kinds if kind.startswith("os.rename") and "/runs/" not in kind]
    problems = compare.crash_everywhere(numbers[::2])
    assert not serious(problems) and not untidy(problems)


def test_killed_before_its_marker_augment_does_not_refuse_its_own_folder(augment):
    """A folder that holds nothing but the beginning of the first file is as good as empty."""
    number = next(n for n, kind in enumerate(augment.points, 1) if kind.endswith("/.balancegan.json"))
    assert augment.kill_at(number)
    assert [p.name[:5] for p in augment.out.iterdir() if p.name != ".balancegan.lock"] == [".tmp-"]
    assert not augment.recover()
    augment.clear()


def workers_of(pid):
    """Processes that a process started, and that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_worker_processes_die_with_a_killed_parent(zygote, tmp_path, monkeypatch):
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(tmp_path / "cache"))
    data = write_images(tmp_path / "many", {"a": 60, "b": 60})
    flag = tmp_path / "decoding"
    child = zygote.start("store", data=data, workers=2, processes=True, chunk=1, flag=flag)
    assert eventually(flag.exists)
    workers = workers_of(child.pid)
    assert len(workers) >= 2
    child.send(9)  # the parent alone
    assert child.wait() == -9
    assert eventually(lambda: not any(map(alive, workers)))
    assert zygote.run("store", data=data, workers=1)["path"]
    assert len(list((tmp_path / "cache" / "stores").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["augment", "compare"])
def test_killed_at_every_file_operation(what, request):
    command = request.getfixturevalue(what)
    problems = command.crash_everywhere(command.everywhere())
    print(f"{what}: {len(command.points)} file operations")
    assert not serious(problems)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "kills"), [("augment", 100), ("store", 100), ("compare", 40)])
def test_killed_at_random_times(what, kills, request):
    problems, recoveries = request.getfixturevalue(what).crash_at_times(random.Random(0), kills)
    print(f"{what}: {len(recoveries)} kills; {sum(recoveries) / len(recoveries):.2f} s each to the end")
    assert not serious(problems)


@pytest.mark.slow
def test_augment_with_its_report_killed_at_random_times(zygote, place, run):
    out = place / "reported"
    start = partial(zygote.start, "augment", run=run, out=out, report=True)
    command = Command(zygote, out, start, broken_folder).undisturbed()
    problems, recoveries = command.crash_at_times(random.Random(1), 25)
    print(f"augment with report: {len(recoveries)} kills; {sum(recoveries) / len(recoveries):.2f} s each to the end")
    assert not serious(problems) and not untidy(problems)
