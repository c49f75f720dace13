"""Weights for loaders: every class the same sum, and a share of it for synthetic images."""

import subprocess
import sys

import pytest
from helpers import write_images

import balancegan
from balancegan.core.errors import UsageError

HEAD = "file_name,label,kind,synthetic,split"


@pytest.fixture
def folder(tmp_path):
    """Two real ants, of which one is held out, and one real and three synthetic bees; a test image."""
    write_images(tmp_path / "balanced", {"ant": 2, "bee": 4})
    lines = [HEAD, "ant/000.png,ant,real,false,train", "ant/001.png,ant,real,false,holdout"]
    lines += [f"bee/00{k}.png,bee,{'generated,true' if k else 'real,false'},train" for k in range(4)]
    lines += ["bee/gone.png,bee,generated,true,train", "../ant/000.png,ant,real,false,train"]
    (tmp_path / "balanced" / "metadata.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "balanced"


def by_name(folder, **options):
    weights = balancegan.sample_weights(folder, **options)
    return {path.removeprefix(f"{folder}/"): weight for path, weight in weights.items()}


def test_every_class_has_the_same_sum(folder):
    bees = {f"bee/00{k}.png": 0.25 for k in range(4)}
    assert by_name(folder) == {"ant/000.png": 0.5, "ant/001.png": 0.5, **bees}


def test_a_share_goes_to_the_generated_images(folder):
    weights = by_name(folder, share=0.6)
    assert weights["ant/000.png"] == 0.5  # no generated ants
    assert weights["bee/000.png"] == pytest.approx(0.4) and weights["bee/002.png"] == pytest.approx(0.2)
    assert by_name(folder, share=0)["bee/001.png"] == 0


def test_transformed_images_count_among_the_real_ones(folder):
    table = folder / "metadata.csv"
    table.write_text(table.read_text().replace("bee/001.png,bee,generated", "bee/001.png,bee,transformed"))
    weights = by_name(folder, share=0.6)
    assert weights["bee/000.png"] == weights["bee/001.png"] == pytest.approx(0.2)
    assert weights["bee/002.png"] == pytest.approx(0.3)
    assert by_name(folder)["bee/001.png"] == 0.25


def test_a_folder_with_splits_and_the_folder_of_one(folder, tmp_path):
    folder.rename(tmp_path / "train")
    split = tmp_path / "balanced"
    split.mkdir()
    (tmp_path / "train").rename(split / "train")
    (split / "test").mkdir()
    (split / "test" / "metadata.csv").write_text(f"{HEAD}\nant/000.png,ant,real,false,test\n")
    assert balancegan.sample_weights(split) == balancegan.sample_weights(split / "train")
    assert len(balancegan.sample_weights(split)) == 6


def test_mistakes_are_named(folder, tmp_path):
    with pytest.raises(UsageError, match=r"has no metadata.csv"):
        balancegan.sample_weights(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"share=2"):
        balancegan.sample_weights(folder, share=2)


def test_torch_is_not_needed(folder):
    code = f"import balancegan, sys; balancegan.sample_weights({str(folder)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
