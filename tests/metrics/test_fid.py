import numpy as np
import pytest
from scipy.linalg import sqrtm

from balancegan.metrics import fid
from balancegan.metrics.fid import frechet_distance, random_halves


def features(n, d, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    return (rng.normal(size=(n, d)) @ mixing + shift).astype(np.float32)


def textbook(real, fake):
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    cov_real, cov_fake = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    shift = ((real.mean(axis=0) - fake.mean(axis=0)) ** 2).sum()
    root = sqrtm(cov_real @ cov_fake)
    return shift + np.trace(cov_real) + np.trace(cov_fake) - 2.0 * np.trace(root).real


@pytest.mark.parametrize(("n", "m"), [(300, 400), (300, 60), (60, 300)])
def test_against_the_matrix_root(n, m):
    real, fake = features(n, 24, 1), features(m, 24, 2, shift=0.3)
    assert frechet_distance(feats_real=real, feats_fake=fake) == pytest.approx(textbook(real, fake), rel=1e-6)


def test_against_torch_fidelity():
    metric = pytest.importorskip("torch_fidelity.metric_fid")
    torch = pytest.importorskip("torch")
    real, fake = features(200, 32, 1), features(150, 32, 2, shift=0.2)
    stats = [metric.fid_features_to_statistics(torch.from_numpy(f)) for f in (real, fake)]
    expected = metric.fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(feats_real=real, feats_fake=fake) == pytest.approx(expected, rel=1e-5)


def test_fewer_images_than_dimensions():
    real, fake = features(20, 100, 1), features(30, 100, 2, shift=0.1)
    # The singular values can also be had from the small product's eigenvalues, another way to the same trace.
    a = (real - real.mean(axis=0, dtype=np.float64)) / np.sqrt(19)
    b = (fake - fake.mean(axis=0, dtype=np.float64)) / np.sqrt(29)
    cross = a.astype(np.float64) @ b.T.astype(np.float64)
    trace = np.sqrt(np.clip(np.linalg.eigvalsh(cross @ cross.T), 0, None)).sum()
    shift = ((real.mean(axis=0, dtype=np.float64) - fake.mean(axis=0, dtype=np.float64)) ** 2).sum()
    expected = shift + (a**2).sum() + (b**2).sum() - 2 * trace
    value = frechet_distance(feats_real=real, feats_fake=fake)
    assert np.isfinite(value)
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n", [2, 10, 200])
def test_identical_sets_have_distance_zero(n):
    real = features(n, 50, 3)
    assert 0.0 <= frechet_distance(feats_real=real, feats_fake=real) < 1e-9


def test_constant_features():
    flat = np.ones((5, 8), np.float32)
    assert frechet_distance(feats_real=flat, feats_fake=flat) == 0.0
    assert frechet_distance(feats_real=flat, feats_fake=flat + 1) == pytest.approx(8.0)


def test_order_of_images_and_roles_do_not_matter():
    real, fake = features(40, 16, 1), features(50, 16, 2, shift=0.5)
    value = frechet_distance(feats_real=real, feats_fake=fake)
    assert frechet_distance(feats_real=real[::-1], feats_fake=fake[::-1]) == pytest.approx(value)
    assert frechet_distance(feats_real=fake, feats_fake=real) == pytest.approx(value)


def test_grows_with_the_shift():
    real = features(200, 8, 1)
    values = [frechet_distance(feats_real=real, feats_fake=features(200, 8, 2, shift=s)) for s in (0, 1, 2)]
    assert values == sorted(values)


@pytest.mark.parametrize(
    ("real", "fake", "match"),
    [
        (np.zeros((1, 4)), np.zeros((5, 4)), "two images"),
        (np.zeros((5, 4)), np.zeros((5, 3)), "must be"),
        (np.full((5, 4), np.nan), np.zeros((5, 4)), "finite"),
    ],
)
def test_unusable_features(real, fake, match):
    with pytest.raises(ValueError, match=match):
        frechet_distance(feats_real=real, feats_fake=fake)


def floor(real, seed):
    first, second = random_halves(real, seed)
    assert len(first) == len(second) == len(real) // 2
    return frechet_distance(feats_real=first, feats_fake=second)


def test_floor_is_seeded_and_small():
    real = features(101, 8, 1)
    value = floor(real, seed=0)
    assert value == floor(real, seed=0) and value != floor(real, seed=1)
    assert value < frechet_distance(feats_real=real, feats_fake=features(101, 8, 2, shift=1.0))
    with pytest.raises(ValueError, match="halves"):
        random_halves(real[:3], seed=0)


def plain(real, fake):
    """Triangles from the images themselves, and singular values."""
    means = [x.mean(axis=0, dtype=np.float64) for x in (real, fake)]
    rows = [(x.astype(np.float64) - mean) / np.sqrt(len(x) - 1) for x, mean in zip((real, fake), means, strict=True)]
    shared = np.linalg.svd(rows[0] @ rows[1].T, compute_uv=False).sum()
    return ((means[0] - means[1]) ** 2).sum() + sum((a**2).sum() for a in rows) - 2 * shared


@pytest.fixture
def squared(monkeypatch):
    """How often the distance came from eigenvalues, and not from singular values."""
    answers, usual = [], fid._shared

    def shared(*args, **options):
        answers.append(usual(*args, **options))
        return answers[-1]

    monkeypatch.setattr(fid, "_shared", shared)
    return answers


@pytest.mark.parametrize(("n", "m"), [(900, 800), (900, 270), (270, 260)])
def test_many_dimensions_equal_the_plain_way(squared, n, m):
    real, fake = features(n, 300, 1), features(m, 300, 2, shift=0.3)
    assert frechet_distance(feats_real=real, feats_fake=fake) == pytest.approx(plain(real, fake), rel=1e-7)
    assert len(squared) == 1 and squared[0] is not None


def test_features_that_hang_together_are_not_squared(squared):
    """A covariance with many tiny eigenvalues, whose roots would be noise."""
    real, fake = features(900, 300, 1), features(800, 300, 2, shift=0.3)
    scale = np.logspace(0, -12, 300)
    real, fake = real.astype(np.float64) * scale, fake.astype(np.float64) * scale
    assert frechet_distance(feats_real=real, feats_fake=fake) == pytest.approx(plain(real, fake), rel=1e-6)
    same = frechet_distance(feats_real=real, feats_fake=real[::-1])
    assert same < 1e-6 * (real.var(axis=0).sum() * 2)
    assert squared == [None, None]


def test_a_dimension_that_never_changes_is_no_obstacle():
    real, fake = features(900, 300, 1), features(800, 300, 2, shift=0.3)
    real[:, :10] = fake[:, :10] = 0
    assert frechet_distance(feats_real=real, feats_fake=fake) == pytest.approx(plain(real, fake), rel=1e-6)
