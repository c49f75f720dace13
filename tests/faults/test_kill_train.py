"""A training may be killed anywhere: the same command ends in the same files, bit for bit."""

import random
from dataclasses import replace
from functools import partial

import pytest
from check import broken_run
from crash import Command, serious, untidy
from helpers import tree, write_images

from balancegan.runs.directory import list_runs

FLAGS = {
    "batch_size": 4,
    "pretrain_steps": 1,
    "steps": 2,
    "save_every": 1,
    "keep_checkpoints": 1,
    "log_every": 1,
    "sample_every": 2,
}


@pytest.fixture(scope="module")
def training(zygote, place):
    data, out = write_images(place / "discs", {"ant": 14, "bee": 6, "cat": 5}), place / "runs"
    before = tree(data)
    yield Command(zygote, out, partial(zygote.start, "train", data=data, out=out, **FLAGS), broken_run).undisturbed()
    assert tree(data) == before


@pytest.fixture(scope="module")
def problems(training):
    """What goes wrong when it is killed at one operation of every kind."""
    return training.crash_everywhere(training.every_kind())


def test_killed_at_every_kind_of_file_operation(problems):
    assert not serious(problems)


def test_nothing_is_left_over_of_what_was_killed(problems):
    assert not untidy(problems)


def test_killed_again_and_again_until_it_is_done(training):
    """One run that dies again some thirty operations after every start, which is about one checkpoint further."""
    kills = 0
    while training.kill_at(24 + 5 * kills % 17):
        kills += 1
        assert not serious(training.broken(training.out))
        assert kills < 30
    assert kills >= 4 and not serious(training.recover())
    training.clear()


@pytest.mark.slow
def test_killed_at_every_file_operation(training):
    problems = training.crash_everywhere(training.everywhere())
    assert not serious(problems) and not untidy(problems)


@pytest.mark.slow
def test_killed_at_random_times(training):
    lost: list[int] = []

    def look(out):
        for run in list_runs(out):
            made = max((row["step"] for row in run.read_metrics()), default=0)
            lost.append(made - max((int(path.name[5:]) for path in run.checkpoint_dirs()), default=0))
        return broken_run(out)

    command = replace(training, broken=look)
    problems, recoveries = command.crash_at_times(random.Random(0), 200)
    print(
        f"train: {len(recoveries)} kills; {sum(recoveries) / len(recoveries):.2f} s each to the end "
        f"({training.seconds:.2f} s undisturbed); {sum(lost)} steps lost in all, {max(lost)} at most"
    )
    assert not serious(problems) and not untidy(problems)
