"""The state of a comparison: positions and the time that is left."""

import pytest

from balancegan.commands.compare.matrix import Cell, Matrix

CELLS = [Cell(0.0, seed, method) for seed in (0, 1) for method in ("fast", "slow")]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def matrix(clock):
    return Matrix(CELLS, clock)


def test_nothing_is_known_at_first(matrix):
    assert matrix.seconds_left() is None and matrix.position == (0, 4)
    matrix.start(CELLS[0])
    matrix.advance(CELLS[0], 0.01)  # too early to tell
    assert matrix.seconds_left() is None


def test_the_running_cell_tells_for_all(matrix, clock):
    matrix.start(CELLS[0])
    clock.now = 10.0
    matrix.advance(CELLS[0], 0.25)
    assert matrix.seconds_left() == pytest.approx(30 + 3 * 40)


def test_a_training_ends_with_its_steps_or_its_time_whichever_is_first(matrix, clock):
    matrix.start(CELLS[0])
    clock.now = 10.0
    matrix.advance(CELLS[0], 0.1, max_seconds=40.0)
    assert matrix.seconds_left() == pytest.approx(30 + 3 * 40)
    matrix.advance(CELLS[0], 0.5, max_seconds=40.0)
    assert matrix.seconds_left() == pytest.approx(10 + 3 * 20)


def test_each_method_has_its_own_time(matrix, clock):
    for cell, seconds in ((CELLS[0], 10), (CELLS[1], 100)):
        matrix.start(cell)
        clock.now += seconds
        matrix.finish(cell)
    assert matrix.position == (2, 4) and matrix.seconds_left() == pytest.approx(110)
    matrix.start(CELLS[2])
    clock.now += 4
    assert matrix.seconds_left() == pytest.approx(106)


def test_cells_that_were_read_or_failed_tell_nothing_about_time(matrix, clock):
    matrix.finish(CELLS[0], read=True)
    matrix.start(CELLS[1])
    clock.now += 3
    matrix.finish(CELLS[1], failed=True)
    assert matrix.position == (2, 4) and matrix.seconds_left() is None
    statuses = {m: [s.status for _, s in row] for m, row in matrix.rows()}
    assert statuses == {"fast": ["done", "waiting"], "slow": ["failed", "waiting"]}


def test_names_are_files_and_labels_are_sentences():
    assert Cell(0.0, 3, "dcgan").name == "dcgan-seed3" and Cell(2.5, 3, "dcgan").name == "ir2.5-dcgan-seed3"
    assert Cell(100.0, 0, "bagan").label == "bagan, seed 0, IR 100"
