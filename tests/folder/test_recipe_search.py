"""Which images the search is given, and which filter it recommends."""

import numpy as np
import pytest
import torch
from helpers import pool

from balancegan.core.progress import silent
from balancegan.data.variations import Changes
from balancegan.folder import recipe_search
from balancegan.folder.recipe import LOOK, Recipe
from balancegan.folder.recipe_search import search_recipe
from balancegan.verdict.material import Material, Pool
from balancegan.verdict.paired_gains import Compared
from balancegan.verdict.share_search import Outcome


def images(n):
    return np.random.default_rng(n).integers(0, 256, (n, 1, 16, 16), dtype=np.uint8)


@pytest.fixture
def searched(monkeypatch):
    """Run a search whose first look is good, and whose filtered images gain `gain`."""
    asked = {}

    def run(gain, filtered=True, fill=(0, 40, 200)):
        def search(question, alternative):
            asked["pools"] = [np.bincount(p.labels, minlength=3).tolist() for p in (question.material.fake,)]
            if alternative:
                asked["pools"].append(np.bincount(alternative().material.fake.labels, minlength=3).tolist())
            return Outcome((0.0, 0.5, 0.5), (), Compared(gain, gain - 0.1, gain + 0.1, 0.1))

        monkeypatch.setattr(recipe_search, "first_look", lambda question: Outcome((0.0,) * 3, ()))
        monkeypatch.setattr(recipe_search, "search_shares", search)
        real = pool((images(60), 0), (images(30), 1), (images(20), 2))
        material = Material(["a", "b", "c"], real, Pool(real.images[:0], real.labels[:0]), None, "folds", ())
        draw = {"drawn": lambda label, n: images(n)}
        draw["filtered"] = (lambda label, n: images(n // 2)) if filtered else None
        found = search_recipe(
            material, [60, 30, 20], fill, Changes(), device=torch.device("cpu"), progress=silent, **draw
        )
        return found, asked["pools"]

    return run


def test_the_quality_filter_is_used_where_it_surely_helps(searched):
    found, pools = searched(0.2)
    assert found.filter == "quality" and "quality filter" in found.why and found.shares == (0.0, 0.5, 0.5)
    assert Recipe.from_json(found.to_json()) == found
    assert pools == [[0, LOOK, 200], [0, LOOK // 2, 100]]  # no more than the folder takes
    found, _ = searched(0.05)
    assert found.filter == "copies" and "quality" not in found.why
    found, pools = searched(0.2, filtered=False)
    assert len(pools) == 1
