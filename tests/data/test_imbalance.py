"""Which images an imbalanced copy keeps: counts of the classes, and who is drawn."""

import pytest

from balancegan.core.errors import UsageError
from balancegan.data.imbalance import plan_counts, thin


def test_step_of_a_balanced_set():
    counts = dict.fromkeys(["ankle-boot", *"bcdefghij"], 6000)
    plan = plan_counts(counts, "step", 100, None)
    assert plan["ankle-boot"] == 6000 and [n for name, n in plan.items() if name != "ankle-boot"] == [60] * 9
    plan = plan_counts(counts, "step", 100, "e")
    assert plan["e"] == 6000 and plan["ankle-boot"] == 60


def test_exp_gives_the_papers_numbers():
    """Damage GAN's imbalanced CIFAR-10, and CIFAR-10-LT of Cui et al."""
    plan = plan_counts(dict.fromkeys("abcdefghij", 4500), "exp", 100, None)
    assert list(plan.values()) == [4500, 2697, 1617, 969, 581, 348, 208, 125, 75, 45]
    plan = plan_counts(dict.fromkeys("abcdefghij", 5000), "exp", 100, None)
    assert sum(plan.values()) == 12406
    plan = plan_counts(dict.fromkeys("abc", 100), "exp", 25, "b")
    assert plan == {"a": 20, "b": 100, "c": 4}


def test_plan_limits():
    assert plan_counts({"a": 10, "b": 3, "c": 0}, "step", 1000, None) == {"a": 10, "b": 1}
    assert plan_counts({"a": 10, "b": 3}, "exp", 1, None) == {"a": 10, "b": 3}
    for ir in (0.01, 0, -3, float("nan")):
        with pytest.raises(UsageError) as e:
            plan_counts({"a": 1, "b": 1}, "step", ir, None)
    with pytest.raises(UsageError) as e:
        plan_counts({"a": 1, "b": 1}, "step", 0.01, None)
    assert "100" in e.value.hint
    with pytest.raises(UsageError, match="scheme"):
        plan_counts({"a": 1, "b": 1}, "linear", 10, None)
    with pytest.raises(UsageError, match="'z'"):
        plan_counts({"a": 1, "b": 1}, "step", 10, "z")


MEMBERS = {"a": list(range(100)), "b": list(range(200, 300)), "c": list(range(400, 430))}


def test_thinning_keeps_the_largest_class_and_a_share_of_its_size_of_the_others():
    thinned = thin(MEMBERS, 10, seed=0)
    assert {name: len(rows) for name, rows in thinned.items()} == {"a": 100, "b": 10, "c": 10}
    assert set(thinned["a"]) == set(MEMBERS["a"])  # the first by name among equals stays whole
    assert set(thinned["b"]) <= set(MEMBERS["b"]) and len(set(thinned["b"])) == 10
    assert thinned == thin(MEMBERS, 10, seed=0) != thin(MEMBERS, 10, seed=1)


def test_thinning_cannot_lower_an_imbalance_rate():
    with pytest.raises(UsageError, match="'c' has 30") as caught:
        thin(MEMBERS, 2, seed=0)
    assert "choose 4 or more" in caught.value.hint
    assert len(thin(MEMBERS, 1000, seed=0)["c"]) == 1
    nearly = {"a": list(range(100)), "b": list(range(84))}
    assert {name: len(rows) for name, rows in thin(nearly, 1, seed=0).items()} == {"a": 100, "b": 84}
