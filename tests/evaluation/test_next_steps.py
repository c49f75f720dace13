"""What a report advises, by its evidence."""

import pytest

from balancegan.evaluation.next_steps import next_steps


def arm(name, accuracy):
    return {"name": name, "balanced_accuracy": {"value": accuracy}}


def difference(against, value, p_worse):
    return {
        "arm": "real + synthetic",
        "against": against,
        "balanced_accuracy": {"value": value, "low": value - 0.01, "high": value + 0.01},
        "p_worse": p_worse,
    }


def document(verdict="no difference", classes=(), better_mixup=False, **changes):
    utility = {
        "measured": True,
        "verdict": verdict,
        "candidate": "real + synthetic",
        "augmentation": "crops",
        "arms": [
            arm("oversampling", 0.6),
            arm("Mixup", 0.72),
            arm("real + synthetic", 0.7),
            arm("generated only", 0.9),
        ],
        "differences": [difference("Mixup", -0.02, 0.001 if better_mixup else 0.4)],
        "to_settle": None,
    }
    row = {"copy_rate": 0.0, "recognised_less": False, "detail": None, "real": 100}
    return {
        "utility": utility | changes.pop("utility", {}),
        "classes": [row | of for of in classes],
        "settings": {"method": "sgbgan", "steps": 400, "pretrain_steps": 100},
        "history": [{"step": 10}, {"step": 500}],
        "run": "00001-sgbgan-cells",
        "data": "/data/my cells",
        "leak_probe": None,
        **changes,
    }


def test_the_best_recipe_comes_first_even_without_synthetic_images():
    first = next_steps(document("do not use"))[0]
    assert (
        "Mixup" in first
        and "with crops: 72.0%" in first
        and "70.0% with the synthetic images; leave those out" in first
    )
    assert "leave" not in next_steps(document())[0]
    first = next_steps(document("use"))[0]
    assert "real and synthetic images together" in first and "70.0%" in first
    assert "Mixup" in next_steps(document("use", better_mixup=True))[0]


def test_a_useful_folder_needs_no_other_generator():
    steps = next_steps(document("use", [{"name": "a", "recognised_less": True}]))
    assert len(steps) == 1 and "`" not in steps[0]


@pytest.mark.parametrize("row", [{"recognised_less": True}, {"detail": {"lacking": ["2-4"], "noisy": []}}])
def test_poor_images_ask_for_longer_training(row):
    steps = next_steps(document(classes=[{"name": "ring"} | row, {"name": "other"}]))
    command = "balancegan train '/data/my cells' --method sgbgan --resume 00001-sgbgan-cells --steps 800"
    assert "ring" in steps[1] and "other" not in steps[1] and f"`{command}`" in steps[1]
    assert "`balancegan compare '/data/my cells' --methods sgbgan,edm`" in steps[2]


def test_copies_speak_against_longer_training():
    steps = next_steps(document(classes=[{"name": "ring", "copy_rate": 0.5, "recognised_less": True}]))
    assert steps[1].startswith("Do not train longer on ring") and not any("--resume" in text for text in steps)


def test_leaks_and_missing_images():
    settle = {"points": 2.0, "images": {"ring": 40, "schizont": 160}}
    found = document(
        None,
        [{"name": "schizont", "real": 20}, {"name": "many"}],
        leak_probe={"leak": True},
        utility={"to_settle": settle},
    )
    steps = next_steps(found)
    assert "--group-by auto" in steps[1] and "one object" in steps[1]
    assert "about 200 more real test images are needed: 160 of schizont, 40 of ring" in steps[3]
    assert "Gather more real images of schizont (20)" in steps[4]


def test_a_split_that_is_known_to_divide_groups():
    steps = next_steps(document(None, leak_probe={"leak": True, "shared": 9}))
    assert any(text.startswith("Move all images of one object") for text in steps)
    assert not any("--group-by auto" in text for text in steps)


def test_without_a_verdict_and_without_a_run():
    found = document(None, run="", settings={}, history=[], utility={"arms": [], "measured": False})
    assert next_steps(found) == []
