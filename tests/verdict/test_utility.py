"""The classifiers behind the verdict: what they are given, and what they say of fakes whose worth is known."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import patterns, pool, tiny_network
from torch import nn

from balancegan.nets.augmentation import flipped_and_cropped
from balancegan.verdict import classifiers, rule, utility
from balancegan.verdict.arms import DECIDING, REAL_ARMS, TRANSFORMED, UNFILTERED, arm_named
from balancegan.verdict.augmentation import CROPS, FLIPS, NONE, Augmentation
from balancegan.verdict.classifiers import Draw, Job, Shelf, shrunk, train
from balancegan.verdict.copy_guard import CopyGuard
from balancegan.verdict.first_pass import FirstPass, first_pass
from balancegan.verdict.material import Material, Pool, Varied, stratified_split, untestable, why_not
from balancegan.verdict.material import SplitPlan as Plan
from balancegan.verdict.material import split_plans as plans_of
from balancegan.verdict.networks import SMALL
from balancegan.verdict.utility import measure_utility

CPU = torch.device("cpu")
NAMES = ("many", "few")
TINY = tiny_network()


def starved(fake, delivered=(0, 58), **changes):
    """Sixty images of one class and two of another, both alike; the test images are of all kinds."""
    real = pool((patterns(0, 60), 0), (patterns(1, 13)[::12][:2], 1))
    test = pool((patterns(0, 24, seed=1), 0), (patterns(1, 24, seed=1), 1))
    return Material(
        **(
            {"names": NAMES, "real": real, "fake": fake, "test": test, "kind": "test"}
            | {
                "delivered": delivered,
                **changes,
            }
        )
    )


def measure(material, **options):
    return measure_utility(material, device=CPU, **{"seeds": 2, "network": TINY, "arms": "deciding", **options})


@pytest.fixture(scope="module")
def helpful():
    """Perfect images of the starved class."""
    return measure(starved(pool((patterns(1, 58, seed=2), 1))), arms="all")


def arm(document, name):
    return next(row for row in document["arms"] if row["name"] == name)


def test_perfect_images_of_a_starved_class_are_to_be_used(helpful):
    assert helpful["verdict"] == rule.USE, helpful["headline"]
    assert {row["name"]: row["verdict"] for row in helpful["classes"]}["few"] == rule.USE
    assert arm(helpful, "real + synthetic")["recall"]["few"]["value"] > 0.9
    assert arm(helpful, "generated only")["recall"]["few"]["value"] > 0.9  # its real ones stand for the other class


def test_the_document(helpful):
    json.dumps(helpful, allow_nan=False)
    assert helpful["measured"] is True and helpful["rule"] == rule.RULE and helpful["headline"]
    assert (helpful["baseline"], helpful["candidate"]) == ("oversampling", "real + synthetic")
    assert helpful["test"] == {"kind": "test", "n": {"many": 24, "few": 24}, "total": 48}
    assert (helpful["seeds"], helpful["updates"], helpful["batch_size"], helpful["image_size"]) == (2, 80, 16, 16)
    assert [row["name"] for row in helpful["arms"]] == [*REAL_ARMS, "real + synthetic", "generated only"]
    for row in helpful["arms"]:
        assert row["title"] and row["description"] and 0 <= row["training_accuracy"] <= 1
        np.testing.assert_allclose(np.sum(row["confusion"], axis=1), 1)
        recall = [row["recall"][name]["value"] for name in NAMES]
        np.testing.assert_allclose(recall, np.diag(row["confusion"]))
        assert row["balanced_accuracy"]["value"] == pytest.approx(np.mean(recall))
    counts = {row["name"]: row["train_images"] for row in helpful["arms"]}
    assert counts["real only"] == counts["balanced softmax"] == {"many": 60, "few": 2}
    assert counts["real + synthetic"] == {"many": 60, "few": 60}
    assert counts["generated only"] == {"many": 60, "few": 58}
    assert {(d["arm"], d["against"]) for d in helpful["differences"]} == {
        *((a, b) for a in ("real + synthetic", "generated only") for b in REAL_ARMS),
        *(("oversampling", b) for b in REAL_ARMS if b != "oversampling"),
    }
    assert helpful["unfiltered_verdict"] is None
    assert len(helpful["warnings"]) == 1 and helpful["warnings"][0].startswith("Only 2 training runs per arm")
    assert helpful["augmentation"] in helpful["augmentation_note"]
    assert {row["augmentation"] for row in helpful["first_pass"]} >= {"no augmentation", "crops", "flips and crops"}


def test_images_with_swapped_labels_are_not():
    real = pool((patterns(0, 30), 0), (patterns(1, 30), 1))
    fake = pool((patterns(1, 90, seed=2), 0), (patterns(0, 90, seed=2), 1))
    document = measure(starved(fake, real=real, delivered=(90, 90)), arms="all")
    assert document["verdict"] == rule.DO_NOT_USE
    assert "worse" in document["headline"]
    assert arm(document, "generated only")["balanced_accuracy"]["value"] < 0.2


def test_more_of_what_is_there_makes_no_difference():
    real = pool((patterns(0, 40), 0), (patterns(1, 40), 1))
    test = pool((patterns(0, 200, seed=1), 0), (patterns(1, 200, seed=1), 1))
    document = measure(starved(pool((patterns(1, 10, seed=2), 1)), real=real, test=test, delivered=(0, 10)))
    assert document["verdict"] == rule.NO_DIFFERENCE
    assert [row["verdict"] for row in document["classes"]] == [None, rule.NO_DIFFERENCE]  # one received images


def test_the_arm_without_the_filter_is_judged_too():
    """Of what is delivered all is good; without the filter most would be of the other class."""
    real = pool((patterns(0, 40), 0), (patterns(1, 40), 1))
    good, bad = pool((patterns(1, 20, seed=2), 1)), pool((patterns(0, 20, seed=3), 1))
    document = measure(starved(good, real=real, delivered=(0, 400), unfiltered=bad), arms="all")
    assert document["verdict"] != rule.DO_NOT_USE and document["unfiltered_verdict"] == rule.DO_NOT_USE
    assert arm(document, "real + synthetic, unfiltered")["train_images"] == {"many": 40, "few": 440}


def test_the_same_result_twice_whatever_the_threads_do():
    material = starved(pool((patterns(1, 20, seed=2), 1)))
    first, again = (measure(material, updates=4) for _ in range(2))
    assert first == again
    # Where the test images are split off, each seed has its own.
    material = starved(pool((patterns(1, 20, seed=2), 1)), test=None, kind="splits")
    assert measure(material, updates=4) == measure(material, updates=4)


def test_without_test_images_real_ones_are_split_and_the_reader_is_warned():
    real = pool((patterns(0, 40), 0), (patterns(1, 20), 1))
    document = measure(starved(pool((patterns(1, 20), 1)), real=real, test=None, kind="splits"), updates=2)
    assert document["test"]["kind"] == "splits" and document["test"]["total"] < 60
    assert document["test"]["n"]["many"] > 12  # two splits together
    assert document["learned"] is False and "Longer training" in document["learned_note"]
    json.dumps(document, allow_nan=False)


def test_test_images_that_were_left_out_are_counted():
    document = measure(starved(pool((patterns(1, 9, seed=2), 1)), delivered=(0, 9), leaks=3))
    assert any(text.startswith("3 test images were left out of the test") for text in document["warnings"])


def test_few_test_images_are_called_weak():
    test = pool((patterns(0, 30), 0), (patterns(1, 6), 1))
    document = measure(starved(pool((patterns(1, 20), 1)), test=test), updates=2)
    assert any("few (6)" in text and "many" not in text for text in document["warnings"])
    assert [row["weak"] for row in document["classes"]] == [False, True]


def test_a_class_without_test_images_is_left_out_of_the_judgement():
    real = pool((patterns(0, 20), 0), (patterns(1, 20), 1), (patterns(2, 3), 2))
    test = pool((patterns(0, 10), 0), (patterns(1, 10), 1))
    fake = pool((patterns(2, 17), 2))
    document = measure(starved(fake, real=real, test=test, names=("a", "b", "c"), delivered=(0, 0, 17)), updates=2)
    assert document["measured"] is False and document["note"].startswith("No verdict: no class that received")
    assert "c has 0" in document["note"]
    also = pool((patterns(1, 5), 1), (patterns(2, 17), 2))  # now one of a class with test images
    document = measure(starved(also, real=real, test=test, names=("a", "b", "c"), delivered=(0, 5, 17)), updates=2)
    json.dumps(document, allow_nan=False)
    assert document["measured"] and document["test"]["n"]["c"] == 0 and document["classes"][2]["verdict"] is None


def kinds(counts, value):
    """Images of so many of each class; the value of their pixels tells their kind."""
    return pool(*((np.full((n, 1, 16, 16), value, np.uint8), label) for label, n in enumerate(counts)))


def shares(arm, real, fake, delivered, varied=(), **changes):
    """How much of an arm's draws each class gets: from real, generated, transformed and unfiltered images (K, 4)."""
    real, fake, transformed = kinds(real, 0), kinds(fake, 1), kinds(varied, 2)
    sources = [np.flatnonzero(real.labels == label)[0] for label in transformed.labels]
    material = Material(
        [str(k) for k in range(len(delivered))],
        *(real, fake, None, "splits", delivered),
        transformed=Varied(transformed, np.array(sources, np.intp)) if varied else None,
        varied=varied,
        **changes,
    )
    plan, seen = Plan(np.arange(len(real)), np.empty(0, np.intp)), []
    measurement = utility.Measurement(material, real, [plan], TINY, CPU, lambda *_: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utility, "train_jobs", lambda jobs, shelf, *_: (seen.append((jobs[0].draw, shelf)), jobs)[1])
        measurement.train([arm_named(arm)], [fake], 1, CROPS)
    ((draw, shelf),) = seen
    assert draw.often.sum() == pytest.approx(1) and len(draw.often) == len(draw.rows)
    found = np.zeros((len(delivered), 4))
    np.add.at(found, (shelf.labels[draw.rows].numpy(), shelf.images[draw.rows, 0, 0, 0].numpy()), draw.often)
    return found


def test_the_unfiltered_arm_counts_what_it_would_have_got():
    changes = {"unfiltered": kinds([0, 8], 3), "delivered_unfiltered": [0, 98]}
    found = [shares(arm, [6, 2], [0, 1], [0, 1], **changes) for arm in ("real + synthetic", UNFILTERED)]
    np.testing.assert_allclose(found[0], [[0.5, 0, 0, 0], [1 / 3, 0.5 / 3, 0, 0]])
    np.testing.assert_allclose(found[1], [[0.5, 0, 0, 0], [0.01, 0, 0, 0.49]])
    also = shares(UNFILTERED, [6, 2], [0, 1], [0, 1], varied=[0, 100], **changes)  # the transformed ones stay
    np.testing.assert_allclose(also, [[0.5, 0, 0, 0], [0.005, 0, 0.25, 0.245]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fake": pool()}, "no synthetic images"),
        ({"real": pool((patterns(1, 9), 1))}, "two classes"),
        ({"test": pool()}, "not seen"),
        ({"test": pool((patterns(1, 9), 1))}, "two classes"),
        ({"test": pool((patterns(1, 9), 1)), "leaks": 9}, "siblings among the training images"),
        ({"delivered": (0, 0)}, "No class needs synthetic images"),
        ({"test": pool((patterns(0, 9), 0), (patterns(1, 3), 1))}, "few has 3"),
        ({"test": None, "real": pool((patterns(0, 9), 0), (patterns(1, 1), 1))}, "too few"),
    ],
)
def test_what_cannot_be_measured_is_said(changes, words):
    document = measure(starved(**{"fake": pool((patterns(1, 9), 1)), **changes}))
    assert document["measured"] is False and document["verdict"] is None and words in document["note"]
    assert document["arms"] == [] and document["warnings"] == []


# --- training ---------------------------------------------------------------------------------------------------------


class Spy:
    """Stands for `train` and remembers what it was given."""

    def __init__(self, monkeypatch):
        self.calls, self._lock = [], threading.Lock()
        monkeypatch.setattr(classifiers, "train", self)

    def __call__(self, module, shelf, job, network, keep_on):
        start = torch.cat([p.detach().flatten() for p in module.parameters()]).clone()
        with self._lock:
            self.calls.append({"start": start, "shelf": shelf, "job": job})

    def final(self):
        """The calls after the first pass."""
        return [call for call in self.calls if call["shelf"] is self.calls[-1]["shelf"]]


def test_arms_differ_in_what_they_are_given_alone(monkeypatch):
    spy = Spy(monkeypatch)
    measure(starved(pool((patterns(1, 20), 1))), seeds=3, arms="all")
    calls = spy.final()
    assert len(calls) == 21 and {call["job"].updates for call in calls} == {80}
    for seed in range(3):
        starts = [call["start"] for call in calls if call["job"].seed == seed]
        assert len(starts) == 7 and all(torch.equal(starts[0], start) for start in starts)
    assert not torch.equal(calls[0]["start"], calls[-1]["start"])
    shared = {call["job"].augmentation for call in calls if not call["job"].arm.trivial}
    assert len(shared) == 1
    assert {str(c["job"].augmentation)[:14] for c in calls if c["job"].arm.trivial} == {"TrivialAugment"}


def test_a_cpu_trains_the_deciding_arms_and_the_strongest_real_one(monkeypatch):
    material = starved(pool((patterns(1, 20), 1)))
    for strongest, more in ((arm_named("Mixup"), {"Mixup"}), (arm_named("balanced softmax"), set())):
        choice = FirstPass(CROPS, strongest, 0.0, ())
        monkeypatch.setattr(utility, "first_pass", lambda *_, c=choice, **__: c)
        document = measure(material, updates=1, arms="auto")
        assert {row["name"] for row in document["arms"]} == {*DECIDING} - {TRANSFORMED} | more
        assert document["augmentation"] == "crops"


@pytest.mark.parametrize("split", [False, True])
def test_no_arm_sees_a_test_image(monkeypatch, split):
    """The images of the test part are recognised by their values."""
    spy = Spy(monkeypatch)
    real = np.arange(60).repeat(256).reshape(60, 1, 16, 16).astype(np.uint8)
    real = Pool(real, np.arange(60) % 2)
    test = None if split else Pool((100 + real.images[:20]).astype(np.uint8), real.labels[:20])
    fake = pool((np.full((9, 1, 16, 16), 255, np.uint8), 1))
    transformed = Varied(real, np.arange(60))  # a variation has the value of its source
    material = starved(
        fake, real=real, test=test, kind="splits" if split else "test", transformed=transformed, varied=(0, 20)
    )
    _, plans = plans_of(material, 2)
    measure(material)
    calls = spy.calls
    shown = [set(call["shelf"].images[call["job"].draw.rows, 0, 0, 0].tolist()) - {255} for call in calls]
    train = set(plans[0].train.tolist()) & set(plans[1].train.tolist()) if split else set(range(60))
    first = len(calls) - len(spy.final())
    assert first and all(values <= train for values in shown[:first])  # not what any seed tests
    if not split:
        assert all(values == set(range(60)) for values in shown[first:])
        return
    assert (plans[0].test != plans[1].test).any()
    for call, values in zip(calls[first:], shown[first:], strict=True):
        plan = plans[call["job"].seed]
        assert not values & set(plan.test.tolist()) and values == set(plan.train.tolist())


def test_the_budget_follows_the_real_images_alone(monkeypatch):
    spy = Spy(monkeypatch)
    network = replace(TINY, updates=(8, 70))
    for n, updates in {8: 10, 4: 8, 80: 70}.items():  # 20 epochs in batches of 16
        real = pool((patterns(0, n // 2), 0), (patterns(1, n // 2), 1))
        for fake in (1, 200):
            document = measure(starved(pool((patterns(1, fake), 1)), real=real), seeds=1, network=network)
            assert document["updates"] == spy.calls[-1]["job"].updates == updates
    assert SMALL.budget(10**6, torch.device("cuda")) == 4 * SMALL.budget(10**6, CPU)


def test_a_mistake_in_one_training_ends_all(monkeypatch):
    """It neither hangs nor trains the others to their end."""
    steps = []

    def fails(module, shelf, job, network, keep_on):
        if job.arm.adjusted:
            raise RuntimeError("no luck")
        for _ in range(10_000):
            if not keep_on():
                return
            steps.append(job.seed)
            threading.Event().wait(0.001)

    monkeypatch.setattr(utility, "first_pass", lambda *_, **__: FirstPass(CROPS, None, 0.0, ()))
    monkeypatch.setattr(classifiers, "train", fails)
    monkeypatch.setattr(classifiers, "usable_cores", lambda: 4)
    with pytest.raises(RuntimeError, match="no luck"):
        measure(starved(pool((patterns(1, 9), 1))))
    assert len(steps) < 10_000 and threading.active_count() < 20


def test_an_interruption_stops_the_trainings():
    def stop(stage, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(starved(pool((patterns(1, 9), 1))), updates=20, progress=stop)


def test_progress_counts_the_trainings(monkeypatch):
    calls = []
    measure(starved(pool((patterns(1, 9), 1))), updates=1, arms="all", progress=lambda *call: calls.append(call))
    first = [call for call in calls if call[0] == "first pass"]
    assert calls == first + [("classifiers", i + 1, 14) for i in range(14)]


def job_of(draw, arm=None, updates=1, augmentation=NONE):
    return Job(arm or arm_named("real only"), 0, Plan(draw.rows, draw.rows), draw, augmentation, updates)


def test_balanced_softmax_adds_the_logarithm_of_the_counts(monkeypatch):
    from balancegan.nets import classifier

    seen = []
    original = classifier.functional.cross_entropy
    monkeypatch.setattr(classifier.functional, "cross_entropy", lambda x, y: (seen.append(x), original(x, y))[1])
    images = torch.zeros(62, 1, 16, 16, dtype=torch.uint8)
    shelf = Shelf(images, torch.tensor([0] * 60 + [1] * 2), 2, (0, 62))
    draw = Draw(np.arange(62), np.full(62, 1 / 62), np.array([60.0, 2.0]))
    for name, expected in (("balanced softmax", np.log([60, 2])), ("real only", [0, 0])):
        network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
        nn.init.zeros_(network[1].weight)
        nn.init.zeros_(network[1].bias)
        train(network, shelf, job_of(draw, arm_named(name)), TINY)
        np.testing.assert_allclose(seen[-1].detach(), np.tile(expected, (16, 1)), atol=1e-5)


def test_mixup_mixes_images_and_classes_alike_and_weighs_rare_classes_in_the_end():
    images = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 16, 16)
    shelf = Shelf(images, torch.tensor([0, 1]), 2, (0, 2))
    draw, seen = Draw(np.arange(2), np.array([0.9, 0.1]), np.array([9000.0, 10.0])), []
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))

    def look(module, batches, updates, *rest, **options):
        seen.extend(batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "train_classifier", look)
        train(network, shelf, job_of(draw, arm_named("Mixup"), updates=10), replace(TINY, batch=64))
    for step, (x, target) in enumerate(seen):
        ones = (x[:, 0, 0, 0] + 1) / 2  # the share of the second class
        weights = torch.ones(2) if step < 8 else target.sum(0) / torch.stack([1 - ones, ones], 1).sum(0)
        torch.testing.assert_close(target, torch.stack([1 - ones, ones], 1) * weights)
        if step >= 8:
            torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
            assert 500 < weights[1] / weights[0] < 700  # effective numbers 5934 and 10
    assert len({float(x.std()) for x, _ in seen}) > 5


def test_a_training_stops_when_it_is_told():
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    before = network[1].weight.detach().clone()
    shelf = Shelf(torch.zeros(4, 1, 16, 16, dtype=torch.uint8), torch.zeros(4).long(), 2, (0, 4))
    draw = Draw(np.arange(4), np.full(4, 0.25), np.ones(2))
    train(network, shelf, job_of(draw, updates=5, augmentation=FLIPS), TINY, keep_on=lambda: False)
    assert torch.equal(before, network[1].weight)


@pytest.mark.parametrize(
    ("name", "real", "fake", "delivered", "expected"),
    [
        ("real only", [6, 2], [0, 4], [0, 4], [[0.75, 0], [0.25, 0]]),
        ("oversampling", [6, 2], [0, 4], [0, 4], [[0.5, 0], [0.5, 0]]),
        ("balanced softmax", [6, 2], [0, 4], [0, 4], [[0.75, 0], [0.25, 0]]),
        ("real + synthetic", [6, 2], [0, 4], [0, 4], [[0.5, 0], [1 / 6, 1 / 3]]),
        ("real + synthetic", [6, 2], [0, 4], [0, 98], [[0.5, 0], [0.01, 0.49]]),  # few at hand of many
        ("real + synthetic", [6, 2], [9, 9], [0, 2], [[0.5, 0], [0.25, 0.25]]),  # more at hand than were needed
        ("real + synthetic", [6, 2], [0, 0], [0, 7], [[0.5, 0], [0.5, 0]]),  # none came
        ("real + synthetic", [6, 0, 2], [0, 3, 2], [0, 3, 2], [[1 / 3, 0], [0, 1 / 3], [1 / 6, 1 / 6]]),
        ("generated only", [6, 2], [0, 4], [0, 4], [[0.5, 0], [0, 0.5]]),
        ("generated only", [6, 2], [3, 4], [0, 4], [[0, 0.5], [0, 0.5]]),
        ("oversampling", [6, 0, 3], [0, 0, 0], [0, 0, 0], [[0.5, 0], [0, 0], [0.5, 0]]),
    ],
)
def test_how_often_each_kind_of_image_is_drawn(name, real, fake, delivered, expected):
    np.testing.assert_allclose(shares(name, real, fake, delivered), np.pad(expected, ((0, 0), (0, 2))))


@pytest.mark.parametrize(
    ("name", "delivered", "varied", "expected"),
    [
        ("oversampling", [0, 1], [0, 3], [0.5, 0, 0]),
        ("real + synthetic", [0, 1], [0, 3], [1 / 6, 1 / 12, 1 / 4]),
        ("real + synthetic", [0, 0], [0, 4], [1 / 6, 0, 1 / 3]),  # generated images lie beside the folder
        ("real + transformed", [0, 1], [0, 3], [1 / 6, 0, 1 / 3]),  # as many as there are of both kinds
        ("generated only", [0, 1], [0, 3], [0, 0.5, 0]),
        ("generated only", [0, 0], [0, 4], [0, 0.5, 0]),
    ],
)
def test_how_often_transformed_images_are_drawn(name, delivered, varied, expected):
    found = shares(name, [6, 2], [0, 5], delivered, varied)
    np.testing.assert_allclose(found, [[0.5, 0, 0, 0], [*expected, 0]])


def test_what_generated_images_add_to_transformed_ones_is_told(monkeypatch):
    monkeypatch.setattr(rule, "UNTOLD", 1.0)  # a verdict even with few test images
    real, made = pool((patterns(0, 30), 0), (patterns(1, 4), 1)), pool((patterns(1, 13, seed=2), 1))
    transformed = Varied(pool((patterns(1, 13), 1)), 30 + np.arange(13) % 4)
    material = starved(made, real=real, transformed=transformed)
    both = measure(replace(material, delivered=(0, 13), varied=(0, 13)), updates=2)
    arms = {row["name"]: row["train_images"] for row in both["arms"]}
    assert {*DECIDING} <= {*arms} and arms[TRANSFORMED] == arms["real + synthetic"] == {"many": 30, "few": 30}
    compared = {(d["arm"], d["against"]) for d in both["differences"]}
    assert {("real + synthetic", TRANSFORMED), (TRANSFORMED, "oversampling")} <= compared
    alone = measure(replace(material, delivered=(0, 0), varied=(0, 26)), updates=2)  # then it is the judged arm
    assert alone["verdict"] and TRANSFORMED not in {row["name"] for row in alone["arms"]}
    assert [row["verdict"] is None for row in alone["classes"]] == [True, False]


def test_what_is_drawn_is_drawn_so_often():
    """The batches of a training, not only the weights."""
    seen = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            seen.extend(x[:, 0, 0, 0].tolist())
            return torch.zeros(len(x), 2) + self.weight

    values = torch.tensor([0, 255]).byte()[:, None, None, None].expand(2, 1, 16, 16)
    shelf = Shelf(values, torch.tensor([0, 1]), 2, (0, 2))
    draw = Draw(np.array([0, 1]), np.array([0.9, 0.1]), np.ones(2))
    train(Counting(), shelf, job_of(draw, updates=200), TINY)
    assert len(seen) == 3200 and set(seen) == {-1.0, 1.0}
    assert np.mean(np.array(seen) > 0) == pytest.approx(0.1, abs=0.03)


# --- flips and crops --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("side", [4, 16, 20])
def test_flips_and_crops_are_numpys(flips, side):
    x = np.random.default_rng(0).normal(size=(40, 3, side, side)).astype(np.float32)
    found = flipped_and_cropped(torch.from_numpy(x), np.random.default_rng(5), flips=flips).numpy()
    reach, rng = side // 8, np.random.default_rng(5)
    top, left = rng.integers(0, 2 * reach + 1, size=(2, 40, 1))[:, :, 0]
    mirrored = rng.random((40, 1))[:, 0] < 0.5
    for i, image in enumerate(x):
        wide = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
        cut = wide[:, top[i] : top[i] + side, left[i] : left[i] + side]
        np.testing.assert_array_equal(found[i], cut[..., ::-1] if flips and mirrored[i] else cut)
    if side > 4:
        assert set(top - reach) == set(left - reach) == set(range(-reach, reach + 1))  # as far as that, both ways
    assert mirrored.any() and not mirrored.all()


def test_without_flips_nothing_is_mirrored():
    ramp = torch.arange(16.0).expand(50, 1, 16, 16)
    found = flipped_and_cropped(ramp, np.random.default_rng(0), flips=False)
    assert (found.diff(dim=3) >= 0).all()
    assert (flipped_and_cropped(ramp, np.random.default_rng(0), flips=True).diff(dim=3) < 0).any()


def textured(direction):
    """Two classes that differ only in the direction of a ramp, which a flip reverses."""
    ramp = np.linspace(20, 230, 16)[None, None, None].repeat(16, axis=2).repeat(60, axis=0)
    noisy = np.clip(ramp + np.random.default_rng(0).normal(0, 10, ramp.shape), 0, 255).astype(np.uint8)
    if direction == "down":
        return pool((noisy.swapaxes(2, 3), 0), (noisy.swapaxes(2, 3)[:, :, ::-1], 1))
    return pool((noisy, 0), (noisy[..., ::-1], 1))


def chosen(real, **options):
    plans = [Plan(np.arange(len(real)), np.empty(0, np.intp))]
    options = {"network": TINY, "updates": 60, "look_for_strongest": False, "device": CPU, **options}
    return first_pass(real, plans, None, 2, progress=lambda done, total: None, **options)


def test_images_whose_direction_matters_are_not_flipped():
    found = chosen(textured("across"))
    assert not found.augmentation.flips and str(found.augmentation) in found.note
    losses = {row["augmentation"]: row["log_loss"] for row in found.trials}
    assert losses["flips and crops"] > 0.5 > losses["crops"] and len(losses) == 4
    assert found.strongest is None


def test_the_first_pass_looks_for_the_strongest_arm():
    found = chosen(textured("down"), look_for_strongest=True)
    assert {row["arm"] for row in found.trials} >= {"oversampling", "balanced softmax", "real only", "Mixup"}
    assert found.strongest.name in REAL_ARMS and found.seconds > 0


def test_too_few_images_for_a_first_pass():
    found = chosen(pool((patterns(0, 1), 0), (patterns(1, 1), 1)))
    assert found.augmentation == FLIPS and "too few" in found.note and found.trials == ()


def test_groups_are_not_divided_by_the_first_pass(monkeypatch):
    spy = Spy(monkeypatch)
    real = pool((patterns(0, 20), 0), (patterns(1, 20), 1))
    groups = np.repeat(np.arange(10), 4)
    plans = [Plan(np.arange(40), np.empty(0, np.intp))]
    first_pass(
        real, plans, groups, 2, network=TINY, updates=1, look_for_strongest=False, device=CPU, progress=lambda *_: None
    )
    plan = spy.calls[0]["job"].plan
    assert len(plan.test) and not {*groups[plan.train]} & {*groups[plan.test]}


@pytest.mark.parametrize("augmentation", [NONE, CROPS, FLIPS, Augmentation(True, True, True)])
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentations_keep_shape_and_range_and_follow_the_seed(augmentation, channels):
    images = torch.randint(0, 256, (10, channels, 16, 16), dtype=torch.uint8)
    before = torch.get_rng_state()
    found, again = (augmentation(images, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(found, again) and torch.equal(before, torch.get_rng_state())
    assert found.shape == images.shape and found.dtype == torch.float32 and found.min() >= -1 and found.max() <= 1
    same = torch.equal(found, images.float() / 127.5 - 1)
    assert same == (augmentation == NONE)


def test_a_stratified_split():
    labels = np.array([0] * 10 + [1] * 2 + [2] + [4] * 3)
    kept, aside = stratified_split(labels, 0.3, seed=0)
    assert sorted([*kept, *aside]) == list(range(16))
    assert np.bincount(labels[aside], minlength=5).tolist() == [3, 1, 0, 0, 1]
    again, other = stratified_split(labels, 0.3, seed=0)[1], stratified_split(labels, 0.3, seed=1)[1]
    assert aside.tolist() == again.tolist() != other.tolist()


def test_groups_stay_whole_in_the_verdicts_splits():
    labels, groups = np.repeat([0, 1, 2], [12, 6, 4]), np.repeat([0, 1, 2, 3, 4, 5], [4, 4, 4, 3, 3, 4])
    real = Pool(np.zeros((22, 1, 16, 16), np.uint8), labels)
    grouped = Material("abc", real, real, None, "splits", [0, 0, 9], groups=groups)
    for plan in plans_of(grouped, 3)[1]:
        assert not set(groups[plan.train]) & set(groups[plan.test])
        assert set(labels[plan.test]) == {0, 1}  # all images of the third class belong to one group
    assert untestable(grouped) == [2] and why_not(grouped) is None
    alone = Material("abc", real, real, None, "splits", [0, 0, 9], groups=labels)
    assert "no honest test" in why_not(alone) and measure(alone)["verdict"] is None


def test_large_images_are_shrunk_and_small_ones_are_not():
    for side, expected in ((16, 16), (64, 64), (100, 64)):
        images = np.random.default_rng(0).integers(0, 256, (3, 3, side, side), dtype=np.uint8)
        x, labels = shrunk([Pool(images, np.array([0, 1, 1]))], 64, CPU)
        assert x.shape == (3, 3, expected, expected) and x.dtype == torch.uint8 and labels.tolist() == [0, 1, 1]
        if side == expected:
            assert (x.numpy() == images).all()


def test_copies_of_test_images_are_kept_from_the_classifiers():
    images = np.random.default_rng(0).integers(0, 256, (24, 1, 16, 16), dtype=np.uint8)
    labels = np.repeat([0, 1], 12)
    real, fake = Pool(images, labels), Pool(images[[0, 13, 1]], labels[[0, 13, 1]])
    plan = Plan(np.array([*range(1, 12), *range(14, 24)]), np.array([0, 12, 13]))
    found = [
        CopyGuard(Material(["a", "b"], real, fake, None, "splits", [2, 1], may_have_seen=seen), real, fake).allowed(
            plan
        )
        for seen in (True, False)
    ]
    assert found[0].tolist() == [2] and found[1].tolist() == [0, 1, 2]
