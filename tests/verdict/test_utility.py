"""The classifiers behind the verdict: what they are given, and what they say of fakes whose worth is known."""

import json
import threading
from functools import partial

import numpy as np
import pytest
import torch
from helpers import patterns, pool
from torch import nn

from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.nets.augmentation import flipped_and_cropped
from balancegan.verdict import classifiers, rule, utility
from balancegan.verdict.arms import ARMS, REAL_ARMS, Arm
from balancegan.verdict.classifiers import Draw, Shelf, _draw, _shelf, allowed_updates, shrunk, train
from balancegan.verdict.flips import allowed_flips
from balancegan.verdict.material import Material, Pool, stratified_split
from balancegan.verdict.material import SplitPlan as Plan
from balancegan.verdict.material import split_plans as plans_of
from balancegan.verdict.utility import measure_utility

CPU = torch.device("cpu")
NAMES = ("many", "few")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(utility, "UPDATES", (80, 80))
    for module in (classifiers, utility):
        monkeypatch.setattr(module, "BATCH", 16)
    monkeypatch.setattr(OwnExtractor, "fit", partial(OwnExtractor.fit, steps=20, batch_size=16))
    monkeypatch.setattr(classifiers, "seeded_classifier", small_network)


def small_network(channels, classes, side, seed, device):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = (nn.Conv2d(channels, 32, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        return nn.Sequential(*trunk, nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, classes)).to(device)


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
    return measure_utility(material, device=CPU, **{"seeds": 2, **options})


@pytest.fixture(scope="module")
def helpful():
    """Perfect images of the starved class."""
    with pytest.MonkeyPatch.context() as patch:
        quick.__wrapped__(patch)
        return measure(starved(pool((patterns(1, 58, seed=2), 1))))


def arm(document, name):
    return next(row for row in document["arms"] if row["name"] == name)


def test_perfect_images_of_a_starved_class_are_to_be_used(helpful):
    assert helpful["verdict"] == rule.USE, helpful["headline"]
    assert {row["name"]: row["verdict"] for row in helpful["classes"]}["few"] == rule.USE
    assert arm(helpful, "real + synthetic")["recall"]["few"]["value"] > 0.9
    assert arm(helpful, "synthetic only")["recall"]["few"]["value"] > 0.9  # its real ones stand for the other class


def test_the_document(helpful):
    json.dumps(helpful, allow_nan=False)
    assert helpful["measured"] is True and helpful["rule"] == rule.RULE and helpful["headline"]
    assert (helpful["baseline"], helpful["candidate"]) == ("oversampling", "real + synthetic")
    assert helpful["test"] == {"kind": "test", "n": {"many": 24, "few": 24}, "total": 48}
    assert (helpful["seeds"], helpful["updates"], helpful["batch_size"], helpful["image_size"]) == (2, 80, 16, 16)
    assert [row["name"] for row in helpful["arms"]] == [
        *("real only", "oversampling", "balanced softmax", "real + synthetic", "synthetic only")
    ]
    for row in helpful["arms"]:
        assert row["title"] and row["description"]
        np.testing.assert_allclose(np.sum(row["confusion"], axis=1), 1)
        recall = [row["recall"][name]["value"] for name in NAMES]
        np.testing.assert_allclose(recall, np.diag(row["confusion"]))
        assert row["balanced_accuracy"]["value"] == pytest.approx(np.mean(recall))
    counts = {row["name"]: row["train_images"] for row in helpful["arms"]}
    assert counts["real only"] == counts["balanced softmax"] == {"many": 60, "few": 2}
    assert counts["real + synthetic"] == {"many": 60, "few": 60}
    assert counts["synthetic only"] == {"many": 60, "few": 58}
    assert {(d["arm"], d["against"]) for d in helpful["differences"]} == {
        *((a, b) for a in ("real + synthetic", "synthetic only") for b in REAL_ARMS),
        ("oversampling", "real only"),
    }
    assert helpful["unfiltered_verdict"] is None
    assert len(helpful["warnings"]) == 1 and helpful["warnings"][0].startswith("Only 2 training runs per arm")


def test_images_with_swapped_labels_are_not():
    real = pool((patterns(0, 30), 0), (patterns(1, 30), 1))
    fake = pool((patterns(1, 90, seed=2), 0), (patterns(0, 90, seed=2), 1))
    document = measure(starved(fake, real=real, delivered=(90, 90)))
    assert document["verdict"] == rule.DO_NOT_USE
    assert "worse" in document["headline"]
    assert arm(document, "synthetic only")["balanced_accuracy"]["value"] < 0.2


def test_more_of_what_is_there_makes_no_difference():
    real = pool((patterns(0, 40), 0), (patterns(1, 40), 1))
    document = measure(starved(pool((patterns(1, 10, seed=2), 1)), real=real, delivered=(0, 10)))
    assert document["verdict"] == rule.NO_DIFFERENCE


def test_the_arm_without_the_filter_is_judged_too():
    """Of what is delivered all is good; without the filter most would be of the other class."""
    real = pool((patterns(0, 40), 0), (patterns(1, 40), 1))
    good, bad = pool((patterns(1, 20, seed=2), 1)), pool((patterns(0, 20, seed=3), 1))
    document = measure(starved(good, real=real, delivered=(0, 400), unfiltered=bad))
    assert [row["name"] for row in document["arms"]][4] == "real + synthetic, unfiltered"
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
    assert any("longer training might change the result" in text for text in document["warnings"])
    json.dumps(document, allow_nan=False)


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
    json.dumps(document, allow_nan=False)
    assert document["test"]["n"]["c"] == 0 and document["classes"][2]["verdict"] is None
    assert document["measured"] and document["verdict"] is None and document["headline"].startswith("No verdict")
    also = pool((patterns(1, 5), 1), (patterns(2, 17), 2))  # now one of a class with test images
    document = measure(starved(also, real=real, test=test, names=("a", "b", "c"), delivered=(0, 5, 17)), updates=2)
    assert document["verdict"]


def test_the_unfiltered_arm_counts_what_it_would_have_got():
    real = pool((np.zeros((6, 1, 16, 16), np.uint8), 0), (np.zeros((2, 1, 16, 16), np.uint8), 1))
    fake, all_of_it = (pool((np.zeros((n, 1, 16, 16), np.uint8), 1)) for n in (1, 8))
    material = Material(
        ["a", "b"], real, fake, None, "splits", [0, 1], unfiltered=all_of_it, delivered_unfiltered=[0, 98]
    )
    plan, shelf = Plan(np.arange(8), np.empty(0, np.intp)), _shelf(material, real, CPU)
    draws = {
        name: _draw(material, real, plan, by_name(name), shelf, np.ones(1, bool))
        for name in ("real + synthetic", "real + synthetic, unfiltered")
    }
    made = {name: draw.often[draw.rows >= 8].sum() for name, draw in draws.items()}
    assert made["real + synthetic"] == pytest.approx(0.5 / 3) and draws["real + synthetic"].rows.max() == 8
    assert made["real + synthetic, unfiltered"] == pytest.approx(0.49)
    assert draws["real + synthetic, unfiltered"].rows[8:].tolist() == list(range(9, 17))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fake": pool()}, "no synthetic images"),
        ({"real": pool((patterns(1, 9), 1))}, "two classes"),
        ({"test": pool()}, "not seen"),
        ({"test": pool((patterns(1, 9), 1))}, "two classes"),
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

    def __call__(self, network, shelf, draw, *, updates, seed, keep_on, augment, flips):
        start = torch.cat([p.detach().flatten() for p in network.parameters()]).clone()
        with self._lock:
            self.calls.append(
                {"start": start, "shelf": shelf, "draw": draw, "updates": updates, "seed": seed, "augment": augment}
            )


def test_arms_differ_in_what_they_are_given_alone(monkeypatch):
    spy = Spy(monkeypatch)
    measure(starved(pool((patterns(1, 20), 1))), seeds=3)
    assert len(spy.calls) == 15 and {call["updates"] for call in spy.calls} == {80}
    for seed in range(3):
        starts = [call["start"] for call in spy.calls if call["seed"] == seed]
        assert len(starts) == 5 and all(torch.equal(starts[0], start) for start in starts)
    assert not torch.equal(spy.calls[0]["start"], spy.calls[-1]["start"])
    assert sum(not call["augment"] for call in spy.calls) == 3  # "real only"
    assert sum(call["draw"].log_prior is not None for call in spy.calls) == 3


@pytest.mark.parametrize("split", [False, True])
def test_no_arm_sees_a_test_image(monkeypatch, split):
    """The images of the test part are recognised by their values."""
    spy = Spy(monkeypatch)
    real = np.arange(60).repeat(256).reshape(60, 1, 16, 16).astype(np.uint8)
    real = Pool(real, np.arange(60) % 2)
    test = None if split else Pool((100 + real.images[:20]).astype(np.uint8), real.labels[:20])
    fake = pool((np.full((9, 1, 16, 16), 255, np.uint8), 1))
    material = starved(fake, real=real, test=test, kind="splits" if split else "test")
    _, plans = plans_of(material, 2)
    measure(material)
    shown = [set(call["shelf"].images[call["draw"].rows, 0, 0, 0].tolist()) - {255} for call in spy.calls]
    if not split:
        assert all(values == set(range(60)) for values in shown)
        return
    assert (plans[0].test != plans[1].test).any()
    for call, values in zip(spy.calls, shown, strict=True):
        plan = plans[call["seed"]]
        assert not values & set(plan.test.tolist()) and values == set(plan.train.tolist())


def test_updates_follow_the_largest_arm_within_limits(monkeypatch):
    spy = Spy(monkeypatch)
    monkeypatch.setattr(utility, "UPDATES", (8, 70))
    cases = {(8, 1): 11, (4, 20): 30, (80, 1): 70, (4, 200): 70, (2, 1): 8}  # 20 epochs in batches of 16
    for (n, fake), updates in cases.items():
        real = pool((patterns(0, n // 2), 0), (patterns(1, n // 2), 1))
        document = measure(starved(pool((patterns(1, fake), 1)), real=real), seeds=1)
        assert document["updates"] == spy.calls[-1]["updates"] == updates


def test_a_mistake_in_one_training_ends_all(monkeypatch):
    """It neither hangs nor trains the others to their end."""
    steps = []

    def fails(network, shelf, draw, *, seed, keep_on, updates, augment, flips):
        if draw.log_prior is not None:
            raise RuntimeError("no luck")
        for _ in range(10_000):
            if not keep_on():
                return
            steps.append(seed)
            threading.Event().wait(0.001)

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


def test_progress_counts_the_trainings():
    calls = []
    measure(starved(pool((patterns(1, 9), 1))), updates=1, progress=lambda *call: calls.append(call))
    assert calls == [("classifiers", i + 1, 10) for i in range(10)]


def test_balanced_softmax_adds_the_logarithm_of_the_counts(monkeypatch):
    seen = []
    original = classifiers.functional.cross_entropy
    monkeypatch.setattr(classifiers.functional, "cross_entropy", lambda x, y: (seen.append(x), original(x, y))[1])
    material = starved(pool((patterns(1, 9), 1)))
    whole, (plan,) = plans_of(material, 1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    nn.init.zeros_(network[1].weight)
    nn.init.zeros_(network[1].bias)
    for name, expected in (("balanced softmax", np.log([60, 2])), ("real only", [0, 0])):
        shelf = _shelf(material, whole, CPU)
        draw = _draw(material, whole, plan, by_name(name), shelf, np.ones(9, bool))
        train(network, shelf, draw, updates=1, seed=0, augment=False, flips=False, keep_on=lambda: True)
        np.testing.assert_allclose(seen[-1].detach(), np.tile(expected, (16, 1)), atol=1e-5)
        nn.init.zeros_(network[1].weight)
        nn.init.zeros_(network[1].bias)


def test_a_training_stops_when_it_is_told():
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    before = network[1].weight.detach().clone()
    shelf = Shelf(torch.zeros(4, 1, 16, 16, dtype=torch.uint8), torch.zeros(4).long(), {})
    train(
        network,
        shelf,
        Draw(np.arange(4), np.full(4, 0.25), None),
        updates=5,
        seed=0,
        augment=True,
        flips=True,
        keep_on=lambda: False,
    )
    assert torch.equal(before, network[1].weight)


def by_name(name):
    return next(arm for arm in ARMS if arm.name == name)


def shares(arm: Arm, real, fake, delivered):
    """How much of an arm's draws each class gets from its real and its synthetic images: (K, 2)."""
    one = np.zeros((1, 1, 16, 16), np.uint8)
    parts = [pool(*((one.repeat(n, axis=0), label) for label, n in enumerate(counts))) for counts in (real, fake)]
    names = [str(k) for k in range(len(real))]
    material = Material(names, parts[0], parts[1], None, "splits", delivered)
    shelf = _shelf(material, parts[0], CPU)
    plan = Plan(np.arange(len(parts[0])), np.empty(0, np.intp))
    draw = _draw(material, parts[0], plan, arm, shelf, np.ones(len(parts[1]), bool))
    assert draw.often.sum() == pytest.approx(1) and len(draw.often) == len(draw.rows)
    origin = draw.rows >= len(parts[0])
    found = np.zeros((len(real), 2))
    np.add.at(found, (shelf.labels.numpy()[draw.rows], origin.astype(int)), draw.often)
    return found


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
        ("synthetic only", [6, 2], [0, 4], [0, 4], [[0.5, 0], [0, 0.5]]),
        ("synthetic only", [6, 2], [3, 4], [0, 4], [[0, 0.5], [0, 0.5]]),
        ("oversampling", [6, 0, 3], [0, 0, 0], [0, 0, 0], [[0.5, 0], [0, 0], [0.5, 0]]),
    ],
)
def test_how_often_each_kind_of_image_is_drawn(name, real, fake, delivered, expected):
    np.testing.assert_allclose(shares(by_name(name), real, fake, delivered), expected)


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
    shelf = Shelf(values, torch.tensor([0, 1]), {})
    draw = Draw(np.array([0, 1]), np.array([0.9, 0.1]), None)
    train(Counting(), shelf, draw, updates=200, seed=0, augment=False, flips=False, keep_on=lambda: True)
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


def decision(first, second):
    whole = pool((first, 0), (second, 1))
    return allowed_flips(whole, Plan(np.arange(len(whole)), np.empty(0, np.intp)), 2, CPU)


def test_images_whose_direction_matters_are_not_flipped():
    ramp = np.linspace(20, 230, 16)[None, None, None].repeat(16, axis=2).repeat(30, axis=0)
    noisy = np.clip(ramp + np.random.default_rng(0).normal(0, 10, ramp.shape), 0, 255).astype(np.uint8)
    flips, note = decision(noisy, np.ascontiguousarray(noisy[..., ::-1]))
    assert flips is False and "not used" in note
    upright = np.ascontiguousarray(noisy.swapaxes(2, 3))  # bright above against bright below
    flips, note = decision(upright, np.ascontiguousarray(upright[:, :, ::-1]))
    assert flips is True and "Flips are used" in note


def test_two_classes_that_mirrors_exchange_are_enough_against_flips(monkeypatch):
    monkeypatch.setattr(OwnExtractor, "fit", partial(OwnExtractor.fit, steps=60, batch_size=48))
    alike = [(patterns(label, 40, modes=1), label) for label in range(22)]
    ramp = np.linspace(20, 230, 16)[None, None, None].repeat(16, axis=2).repeat(40, axis=0)
    noisy = np.clip(ramp + np.random.default_rng(0).normal(0, 10, ramp.shape), 0, 255).astype(np.uint8)
    whole = pool(*alike, (noisy, 22), (np.ascontiguousarray(noisy[..., ::-1]), 23))
    flips, note = allowed_flips(whole, Plan(np.arange(len(whole)), np.empty(0, np.intp)), 24, CPU)
    assert flips is False, note


def test_too_few_images_to_see_are_not_flipped():
    flips, note = decision(patterns(0, 1), patterns(1, 1))
    assert flips is False and "too few" in note


def test_flips_are_decided_without_the_test_images(monkeypatch):
    shown = []
    original = OwnExtractor.fit

    def fit(images, *args, **kwargs):
        shown.append(images)
        return original(images, *args, **kwargs)

    monkeypatch.setattr(OwnExtractor, "fit", fit)
    real = pool((patterns(0, 20), 0), (patterns(1, 20), 1))
    test = pool((np.full((9, 1, 16, 16), 77, np.uint8), 0), (np.full((9, 1, 16, 16), 77, np.uint8), 1))
    measure(starved(pool((patterns(1, 9), 1)), real=real, test=test), updates=1, seeds=1)
    assert len(shown) == 1 and not (shown[0] == 77).all(axis=(1, 2, 3)).any()


def test_a_stratified_split():
    labels = np.array([0] * 10 + [1] * 2 + [2] + [4] * 3)
    kept, aside = stratified_split(labels, 0.3, seed=0)
    assert sorted([*kept, *aside]) == list(range(16))
    assert np.bincount(labels[aside], minlength=5).tolist() == [3, 1, 0, 0, 1]
    again, other = stratified_split(labels, 0.3, seed=0)[1], stratified_split(labels, 0.3, seed=1)[1]
    assert aside.tolist() == again.tolist() != other.tolist()


def test_large_images_are_shrunk_and_small_ones_are_not():
    for side, expected in ((16, 16), (64, 64), (100, 64)):
        images = np.random.default_rng(0).integers(0, 256, (3, 3, side, side), dtype=np.uint8)
        x, labels = shrunk([Pool(images, np.array([0, 1, 1]))], CPU)
        assert x.shape == (3, 3, expected, expected) and x.dtype == torch.uint8 and labels.tolist() == [0, 1, 1]
        if side == expected:
            assert (x.numpy() == images).all()


def test_copies_of_test_images_are_kept_from_the_classifiers():
    images = np.random.default_rng(0).integers(0, 256, (24, 1, 16, 16), dtype=np.uint8)
    labels = np.repeat([0, 1], 12)
    real, fake = Pool(images, labels), Pool(images[[0, 13, 1]], labels[[0, 13, 1]])
    plan = Plan(np.array([*range(1, 12), *range(14, 24)]), np.array([0, 12, 13]))
    found = [
        allowed_updates(Material(["a", "b"], real, fake, None, "splits", [2, 1], may_have_seen=seen), real, plan)
        for seen in (True, False)
    ]
    assert found[0].tolist() == [False, False, True] and found[1].all()
