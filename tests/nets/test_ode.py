"""The solvers on a Gaussian, whose denoiser and solution are known, and the noise levels."""

import math
from itertools import pairwise

import pytest
import torch

from balancegan.nets.ode import RHO, SIGMA_MAX, SIGMA_MIN, dpm_solver, noise_levels

MEAN, STD = 0.3, 0.5


def denoise(x, sigma):
    """E[y | x] for y ~ N(MEAN, STD²) and x = y + N(0, σ²)."""
    return (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)


def error(solve, steps, strength=1.0):
    """Distance from the exact solution (x - MEAN)/√(STD² + σ²) = const, at σ = 0."""
    sigmas = noise_levels(steps, strength)
    x = sigmas[0] * torch.linspace(-2, 2, 9, dtype=torch.float64)
    exact = MEAN + (x - MEAN) * STD / math.hypot(STD, sigmas[0])
    return float((solve(denoise, x, sigmas) - exact).abs().max())


def test_error_falls_with_the_square_of_the_steps():
    errors = [error(dpm_solver, steps) for steps in (32, 64, 128, 256)]
    assert all(3.5 < worse / better < 5 for worse, better in pairwise(errors))
    assert errors[0] < 0.02


def test_one_evaluation_per_step():
    calls = []
    dpm_solver(lambda x, sigma: calls.append(sigma) or denoise(x, sigma), torch.zeros(1), noise_levels(7))
    assert calls == noise_levels(7)[:-1]


def test_noise_levels_are_those_of_equation_5():
    sigmas = noise_levels(18)
    assert sigmas[0] == pytest.approx(SIGMA_MAX) and sigmas[-2] == pytest.approx(SIGMA_MIN) and sigmas[-1] == 0
    i = 5
    expected = (SIGMA_MAX ** (1 / RHO) + i / 17 * (SIGMA_MIN ** (1 / RHO) - SIGMA_MAX ** (1 / RHO))) ** RHO
    assert sigmas[i] == pytest.approx(expected)
    assert len(noise_levels(1)) == 2
    weaker = [noise_levels(9, strength)[0] for strength in (0.01, 0.3, 0.6, 0.9)]
    assert weaker == sorted(weaker) and weaker[-1] < SIGMA_MAX
    assert noise_levels(9, 0.6)[-2] == pytest.approx(SIGMA_MIN)
    assert error(dpm_solver, 64, strength=0.6) < error(dpm_solver, 16, strength=0.6) / 10  # the same equation
