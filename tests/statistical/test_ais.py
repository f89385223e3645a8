"""Annealed importance sampling against exact values of log p(x), and the transition that it is made of."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from _oracles import JointOnly, Problem, gaussian_log_density, row_keys, z_scores

from aevb.distributions import FAMILIES, Independent, Normal
from aevb.evaluate import Annealing, _ais, _proposal
from aevb.models import AbstractPriorLikelihood, AbstractRecognitionModel, Decoder, Mlp
from aevb.samplers import Position, _annealing, transition

KEY = jax.random.key(0)
WRONG = {"shift": 0.3, "scale": 1.2}


def annealed_importance_sampling(*args, batch_size=50, first_row=0, **settings):
    return _ais.annealed_importance_sampling(*args, Annealing(**settings), batch_size=batch_size, first_row=first_row)


def bidirectional_gap(*args, batch_size=50, first_row=0, **settings):
    return _ais.bidirectional_gap(*args, Annealing(**settings), batch_size=batch_size, first_row=first_row)


def problem(latent_dim: int, num_rows: int) -> Problem:
    return Problem.make(data_dim=3 * latent_dim + 2, latent_dim=latent_dim, num_rows=num_rows, seed=latent_dim)


def models(p: Problem):
    return p.generative(), p.recognition(**WRONG)


# --- exact statements -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_distributions", [1, 4])
def test_from_the_true_posterior_every_weight_is_the_marginal(num_distributions, x64, monkeypatch):
    monkeypatch.setattr(_proposal, "PATTERN", (_proposal.ENCODER,))  # the start is q alone
    p = problem(2, 7)
    # A number of steps that no other test has, so that nothing is taken from what was compiled for another start.
    options = {"num_distributions": num_distributions, "num_chains": 3, "start": "encoder", "num_leapfrog": 5}
    found = annealed_importance_sampling(p.generative(), p.recognition(), p.rows, KEY, **options)
    np.testing.assert_allclose(found.log_likelihood, p.log_marginal(), atol=1e-10)
    np.testing.assert_allclose(found.effective_sample_size, 3.0, rtol=1e-10)
    assert found.standard_error.max() < 1e-10
    if num_distributions > 1:
        gap = bidirectional_gap(p.generative(), p.recognition(), 6, KEY, **options)
        np.testing.assert_allclose(gap.upper, gap.lower, atol=1e-10)
    wrong = annealed_importance_sampling(*models(p), p.rows, KEY, **options)
    assert np.abs(wrong.log_likelihood - p.log_marginal()).max() > 0.01  # negative control


def test_a_constant_is_kept_through_ten_thousand_terms():
    """Each increment of log w is a ten-thousandth of -100: a plain sum in float32 is off by 1e-3 and more."""

    def add(total, _):
        return _annealing._add(total, jnp.float32(-0.01)), None

    (value, lost), _ = jax.lax.scan(add, (jnp.float32(-500.0), jnp.float32(0.0)), length=10_000)
    assert abs(float(value) - float(lost) + 500 + 100 * float(np.float32(0.01)) / 0.01) < 1e-4
    plain, _ = jax.lax.scan(lambda v, _: (v - jnp.float32(0.01), None), jnp.float32(-500.0), length=10_000)
    assert abs(float(plain) + 600) > 1e-3


@pytest.mark.parametrize("schedule", ["linear", "sigmoid"])
def test_a_schedule_rises_from_zero_to_one(schedule):
    f = jnp.arange(101) / jnp.float32(100)
    b = np.asarray(jax.vmap(lambda f: _annealing._level(f, schedule))(f), np.float64)
    assert (b[0], b[-1]) == (0.0, 1.0)
    assert np.all(np.diff(b) > 0)
    np.testing.assert_allclose(b + b[::-1], 1.0, atol=1e-6)
    if schedule == "linear":
        np.testing.assert_allclose(b, f, rtol=1e-6)
    else:  # sigma(4 (2 f - 1)), brought to [0, 1]
        raw = scipy.special.expit(4 * (2 * np.linspace(0, 1, 101) - 1))
        np.testing.assert_allclose(b, (raw - raw[0]) / (raw[-1] - raw[0]), atol=1e-6)


def test_batches_and_parts_do_not_change_the_result(x64):
    p = problem(2, 9)
    options = {"num_distributions": 4, "num_chains": 3, "num_leapfrog": 3}
    whole = annealed_importance_sampling(*models(p), p.rows, KEY, batch_size=9, **options)
    cut = annealed_importance_sampling(*models(p), p.rows, KEY, batch_size=2, **options)
    part = annealed_importance_sampling(*models(p), p.rows[5:], KEY, batch_size=2, first_row=5, **options)
    wrong = annealed_importance_sampling(*models(p), p.rows[5:], KEY, batch_size=2, **options)
    for name in whole._fields:
        np.testing.assert_allclose(getattr(cut, name), getattr(whole, name), rtol=1e-8)
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name)[5:], rtol=1e-8)
    assert not np.allclose(wrong.log_likelihood, part.log_likelihood, rtol=1e-6)


def test_pairs_that_are_simulated_in_parts_are_the_same(x64):
    p = problem(2, 1)
    options = {"num_distributions": 4, "num_chains": 3, "num_leapfrog": 3, "start": "encoder"}
    whole = bidirectional_gap(*models(p), 6, KEY, **options)
    part = bidirectional_gap(*models(p), 2, KEY, first_row=4, **options)
    np.testing.assert_allclose(part.lower, whole.lower[4:], rtol=1e-8)
    np.testing.assert_allclose(part.upper, whole.upper[4:], rtol=1e-8)
    assert len(np.unique(whole.lower)) == 6
    np.testing.assert_allclose(whole.gap.value, np.mean(whole.upper - whole.lower))


# --- linear-Gaussian models -------------------------------------------------------------------------------------------


@functools.cache
def annealed(latent_dim: int):
    p = problem(latent_dim, 600)
    found = annealed_importance_sampling(
        *models(p), p.rows.astype(np.float32), KEY, num_distributions=100, num_leapfrog=6, batch_size=600
    )
    return found, found.log_likelihood - p.log_marginal()


def share_within(error: np.ndarray, standard_error: np.ndarray) -> float:
    return float(np.mean(np.abs(error) < 6 * standard_error))


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_log_marginals_within_their_error_bars(latent_dim):
    found, error = annealed(latent_dim)
    # The mean weight is unbiased, its logarithm is not.
    assert abs(z_scores(np.exp(error), 1.0)) < 5
    # |t| > 6 with 15 degrees of freedom has probability 2.4e-5. Weights are skewed; even were it 1e-3, more than six
    # in 600 had probability 1e-5.
    assert share_within(error, found.standard_error) >= 0.99
    # The mean of t^2 with 15 degrees of freedom is 1.15, its standard error over 600 rows 0.08.
    assert 0.75 < np.mean((error / found.standard_error) ** 2) < 2.0
    assert found.effective_sample_size.min() >= 1.0
    assert 8 < found.effective_sample_size.mean() <= 16
    assert np.all((found.acceptance > 0.5) & (found.acceptance < 0.8))  # tuned to 0.65, each row for itself


@pytest.mark.parametrize("bias", [np.log(16), 0.5])
def test_a_biased_estimate_is_seen(bias):
    found, error = annealed(5)
    assert abs(z_scores(np.exp(error + bias), 1.0)) > 5
    assert np.mean(((error + bias) / found.standard_error) ** 2) > 2.0
    assert bias < 1 or share_within(error + bias, found.standard_error) < 0.99


@pytest.mark.parametrize(
    ("start", "num_distributions", "target_acceptance"),
    [("prior", 1, 0.65), ("prior", 4, 0.05), ("encoder", 4, 0.05), ("prior", 4, 0.98)],
    ids=["no steps", "large steps", "large steps from the encoder", "small steps"],
)
def test_the_weights_are_unbiased_with_bad_step_sizes_too(start, num_distributions, target_acceptance):
    p = problem(1, 20_000)
    found = annealed_importance_sampling(
        *models(p),
        p.rows.astype(np.float32),
        KEY,
        start=start,
        num_chains=4,
        num_distributions=num_distributions,
        num_leapfrog=3,
        target_acceptance=target_acceptance,
        batch_size=5000,
    )
    weight = np.exp(found.log_likelihood - p.log_marginal())
    error = weight.std() / np.sqrt(len(weight))
    assert error < 0.02
    assert abs(z_scores(weight, 1.0)) < 5
    assert abs(z_scores(4 / 3 * weight, 1.0)) > 5  # planted defect: the mean is over one chain too few
    if num_distributions > 1:
        assert abs(found.acceptance.mean() - target_acceptance) < 0.25
    else:
        assert np.all(np.isnan(found.acceptance))  # importance sampling from q0: no transition was made
        assert z_scores(found.log_likelihood, p.log_marginal().mean()) < 5


def test_one_chain_has_no_standard_error():
    p = problem(1, 3)
    found = annealed_importance_sampling(*models(p), p.rows, KEY, num_chains=1, num_distributions=2)
    assert np.all(np.isfinite(found.log_likelihood))
    assert np.all(np.isnan(found.standard_error))
    np.testing.assert_allclose(found.effective_sample_size, 1.0)


@functools.cache
def both_sides(num_distributions: int):
    p, n = problem(2, 1), 3000
    generative, recognition = models(p)
    found = bidirectional_gap(
        generative,
        recognition,
        n,
        KEY,
        num_chains=4,
        num_distributions=num_distributions,
        num_leapfrog=4,
        batch_size=n,
    )
    # x as the library simulates it: the first of the three keys of a row.
    model_keys = jax.vmap(lambda key: jax.random.split(key, 3)[0])(row_keys(KEY, n))
    x, _ = jax.vmap(generative.sample)(model_keys)
    return found, gaussian_log_density(np.asarray(x), p.mean, p.weight, p.scale)


def test_the_marginal_lies_between_both_directions():
    found, exact = both_sides(4)
    assert z_scores(found.lower - exact, 0.0) < -5
    assert z_scores(found.upper - exact, 0.0) > 5
    # More than bounds: the weights are unbiased for p(x), and forward and backward for 1 / p(x).
    for ratio in (np.exp(found.lower - exact), np.exp(exact - found.upper)):
        assert abs(z_scores(ratio, 1.0)) < 5
        assert abs(z_scores(ratio + 10 * ratio.std() / np.sqrt(len(ratio)), 1.0)) > 5
    np.testing.assert_allclose(found.gap.value, np.mean(found.upper - found.lower), rtol=1e-4)
    assert 0.5 < found.backward_acceptance.mean() < 0.9


def test_the_gap_closes_with_more_distributions():
    gaps = [both_sides(num)[0].gap for num in (4, 40)]
    for wide, narrow in itertools.pairwise(gaps):
        assert wide.value - narrow.value > 5 * np.hypot(wide.standard_error, narrow.standard_error)
    assert gaps[-1].value < 0.3


# --- other models, against quadrature ---------------------------------------------------------------------------------


def test_a_nonlinear_decoder_against_quadrature():
    generative = jax.tree.map(lambda w: 3 * w, Decoder(6, 2, Mlp((5,)), key=jax.random.key(3)))
    x = np.array([1, 0, 0, 1, 1, 0], np.uint8)
    axis = np.arange(-8, 8.02, 0.04)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_joint = jax.jit(jax.vmap(lambda z: generative.log_joint(jnp.asarray(x, jnp.float32), z)))
    exact = scipy.special.logsumexp(
        np.asarray(log_joint(jnp.asarray(grid, jnp.float32)), np.float64) + 2 * np.log(0.04)
    )
    found = annealed_importance_sampling(
        generative,
        Unasked(),
        np.repeat(x[None], 1000, axis=0),
        KEY,
        num_distributions=15,
        batch_size=1000,
        num_chains=4,
    )
    weight = np.exp(found.log_likelihood - exact)
    assert weight.std() < 1.0
    assert abs(z_scores(weight, 1.0, floor=1e-4)) < 5
    assert abs(z_scores(weight + 10 * weight.std() / np.sqrt(1000), 1.0, floor=1e-4)) > 5


class Unasked(AbstractRecognitionModel):
    """start="prior" does not look at the encoder."""

    def posterior(self, x):
        raise AssertionError("the encoder was asked")


class Wave(AbstractPriorLikelihood):
    """p(z) = a family's standard member, p(x | z) = N(sum_d z_d, 2 sin(z_1); 0.5^2), and zero where z_1 > `end`."""

    family: str
    end: jax.Array

    def prior(self):
        return FAMILIES[self.family].standard(2 if self.family == "dirichlet" else 1)

    def likelihood(self, z):
        loc = jnp.stack([jnp.sum(z * jnp.arange(1, 1 + z.shape[0])), 2 * jnp.sin(z[0])])
        return Halved(loc, z[0] > self.end)


class Halved(Independent):
    def __init__(self, loc, is_zero):
        self.is_zero = is_zero
        super().__init__(Normal(loc, 0.5), 1)

    def log_prob(self, value):
        return jnp.where(self.is_zero, -jnp.inf, super().log_prob(value))


class Fixed(AbstractRecognitionModel):
    """q(z | x), a fixed member of a family that is not its standard one."""

    family: str

    def posterior(self, x):
        family = FAMILIES[self.family]
        size = 2 if self.family == "dirichlet" else 1
        return family.from_raw({name: jnp.full(size, 0.3) for name in family.parameters})


def wave(family, end=np.inf):
    return Wave(family, jnp.asarray(end))


def quadrature(generative: Wave, x: np.ndarray) -> float:
    low, high = {"positive": (0, 60), "real": (-20, 20)}.get(
        FAMILIES[generative.family].support, FAMILIES[generative.family].edges
    )
    step = (high - low) / 200_000
    z = low + step * (np.arange(200_000) + 0.5)
    points = np.stack([z, 1 - z], axis=1) if generative.family == "dirichlet" else z[:, None]
    log_joint = jax.jit(jax.vmap(lambda z: generative.log_joint(jnp.asarray(x), z)))
    return float(scipy.special.logsumexp(np.asarray(log_joint(jnp.asarray(points)), np.float64)) + np.log(step))


@pytest.mark.parametrize(
    ("family", "start"),
    [
        ("gamma", "prior"),
        ("gamma", "encoder"),
        ("dirichlet", "encoder"),
        ("von-mises", "prior"),
        ("pareto", "prior"),
    ],
)
def test_latents_of_constrained_support_against_quadrature(family, start, x64):
    generative, x = wave(family), np.array([1.1, 0.7])
    exact = quadrature(generative, x)
    found = annealed_importance_sampling(
        generative,
        Fixed(family),
        np.repeat(x[None], 2000, axis=0),
        KEY,
        start=start,
        num_distributions=8,
        num_chains=4,
        num_leapfrog=4,
        batch_size=2000,
    )
    weight = np.exp(found.log_likelihood - exact)
    error = weight.std() / np.sqrt(2000)
    assert error < 0.03
    assert abs(z_scores(weight, 1.0, floor=1e-5)) < 5
    assert abs(z_scores(4 / 3 * weight, 1.0, floor=1e-5)) > 5  # planted defect: the mean is over one chain too few
    assert found.acceptance.mean() > 0.4


@pytest.mark.parametrize("end", [0.5, -1.0])
def test_a_likelihood_that_is_zero_somewhere(end, x64):
    """Chains that begin there weigh nothing, and no chain goes there."""
    x, generative = np.array([1.1, 0.7]), wave("normal", end)
    exact = quadrature(generative, x)
    assert quadrature(wave("normal"), x) - exact > 0.1
    rows = np.repeat(x[None], 2000, axis=0)
    found = annealed_importance_sampling(generative, Fixed("normal"), rows, KEY, num_distributions=4, num_chains=2)
    weight = np.exp(found.log_likelihood - exact)
    assert abs(z_scores(weight, 1.0, floor=1e-5)) < 5
    assert np.isneginf(found.log_likelihood).any()  # both chains began there: p(x) is estimated as 0
    assert np.isfinite(found.log_likelihood).any()


def test_a_model_that_only_has_log_joint(x64, monkeypatch):
    monkeypatch.setattr(_proposal, "PATTERN", (_proposal.ENCODER,))  # the start has no part of a prior, which it lacks
    p = problem(2, 7)
    # A number of steps that no other test has, so that nothing is taken from what was compiled for another start.
    options = {"num_distributions": 4, "num_chains": 3, "start": "encoder", "num_leapfrog": 2}
    whole = annealed_importance_sampling(*models(p), p.rows, KEY, **options)
    joint = annealed_importance_sampling(JointOnly(p.generative()), models(p)[1], p.rows, KEY, **options)
    np.testing.assert_allclose(joint.log_likelihood, whole.log_likelihood, rtol=1e-10)


# --- one transition ---------------------------------------------------------------------------------------------------


def gaussian(u):
    """log f_b = -(1 + b) |u|^2 / 2: N(0, I / (1 + b))."""
    return Position(u, -0.5 * u @ u, -0.5 * u @ u, -u, -u)


@pytest.mark.parametrize("step_size", [0.05, 0.7, 1.1])
def test_a_transition_leaves_its_density_invariant(step_size, x64):
    num, b = 100_000, 0.7
    start = jax.random.normal(jax.random.key(1), (num, 2)) / np.sqrt(1 + b)

    @jax.jit
    @jax.vmap
    def move(u, key):
        return transition(gaussian, gaussian(u), jnp.array(b), jnp.array(step_size), key, num_leapfrog=3)

    position, probability = move(start, row_keys(jax.random.key(2), num))
    u = np.asarray(position.u)
    moved = np.mean(np.any(u != start, axis=1))
    assert abs(moved - np.mean(probability)) < 5 * 0.5 / np.sqrt(num)
    assert 0.2 < moved <= 1.0
    for moment, expected in ((u, 0.0), (u**2, 1 / (1 + b)), (u**4, 3 / (1 + b) ** 2), (u[:, 0] * u[:, 1], 0.0)):
        assert np.all(np.abs(z_scores(moment, expected)) < 5)
    assert np.any(np.abs(z_scores(1.03 * u**2, 1 / (1 + b))) > 5)
    # What it carries is right for the place where it is.
    there = jax.vmap(gaussian)(position.u)
    for one, other in zip(position, there, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("beyond", [np.nan, np.inf, -np.inf])
def test_where_the_density_is_no_number_no_chain_goes(beyond, x64):
    def wall(u):
        inside = u[0] < 0.5

        def spoilt(a):
            return jnp.where(inside, a, beyond)

        return Position(u, spoilt(-0.5 * u @ u), spoilt(0.0), spoilt(-u), spoilt(0 * u))

    @jax.jit
    @jax.vmap
    def chain(key):
        def one(position, i):
            position, p = transition(
                wall, position, jnp.array(1.0), jnp.array(0.3), jax.random.fold_in(key, i), num_leapfrog=3
            )
            return position, (position.u[0], p)

        return jax.lax.scan(one, wall(jnp.array([0.4])), jnp.arange(60))[1]

    u, probability = (np.asarray(a) for a in chain(row_keys(KEY, 20_000)))
    assert u.max() < 0.5
    assert np.all((probability >= 0) & (probability <= 1))
    mean = -np.exp(-0.125) / np.sqrt(2 * np.pi) / scipy.special.ndtr(0.5)  # of a normal cut off at 0.5
    assert abs(z_scores(u[:, -1], mean)) < 5


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_chains": 0}, "num_chains must be at least 1"),
        ({"num_distributions": 0}, "num_distributions must be at least 1"),
        ({"num_leapfrog": 0}, "num_leapfrog must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"target_acceptance": 1.0}, "between 0 and 1"),
        ({"target_acceptance": float("nan")}, "between 0 and 1"),
    ],
)
@pytest.mark.parametrize("function", ["annealed_importance_sampling", "bidirectional_gap"])
def test_arguments_out_of_range(options, message, function):
    p = problem(1, 2)
    rows = p.rows if function == "annealed_importance_sampling" else 2
    with pytest.raises(ValueError, match=message):
        globals()[function](*models(p), rows, KEY, **options)


@pytest.mark.parametrize(
    ("schedule", "start", "message"),
    [("cosine", "prior", "schedule.*one of linear, sigmoid, got 'cosine'"), ("linear", "z", "start.*prior, encoder")],
)
def test_names_of_no_choice(schedule, start, message):
    settings = object.__new__(Annealing)  # without the type hints, which these tests enforce and a user does not
    for name, value in (dataclasses.asdict(Annealing()) | {"schedule": schedule, "start": start}).items():
        object.__setattr__(settings, name, value)
    with pytest.raises(ValueError, match=message):
        settings.__post_init__()


def test_no_rows():
    p = problem(1, 2)
    with pytest.raises(ValueError, match="0 rows"):
        annealed_importance_sampling(*models(p), p.rows[:0], KEY)
    with pytest.raises(ValueError, match="num_rows"):
        bidirectional_gap(*models(p), 0, KEY)
    with pytest.raises(TypeError):
        annealed_importance_sampling(*models(p), p.rows, KEY, num_chains=1.5)


def test_no_prior_to_start_from():
    p = problem(1, 2)
    with pytest.raises(TypeError, match=r'JointOnly has log_joint.*start="encoder"'):
        annealed_importance_sampling(JointOnly(p.generative()), p.recognition(), p.rows, KEY)


@pytest.mark.parametrize(("family", "prior"), [("gamma", "normal"), ("normal", "gamma"), ("uniform", "uniform")])
def test_an_encoder_with_another_support_than_the_priors(family, prior):
    rows = np.ones((2, 2), np.float32)
    with pytest.raises(TypeError, match=r'support of the prior.*start="prior"'):
        annealed_importance_sampling(wave(prior), Fixed(family), rows, KEY, start="encoder")
    with pytest.raises(TypeError, match=r'support of the prior.*start="prior"'):
        bidirectional_gap(wave(prior), Fixed(family), 2, KEY, start="encoder")
