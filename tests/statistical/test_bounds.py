"""Every estimator against exact values: bounds of K samples by quadrature, and the gradients of those bounds."""

import functools
import itertools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from _models import build, by_names
from _oracles import JointOnly, LinearRecognition, Problem, row_keys

from aevb.cli._tables import gradient_lines
from aevb.distributions import Reparameterized
from aevb.errors import UnavailableError
from aevb.estimators import (
    ESTIMATORS,
    AbstractEstimator,
    Ciwae,
    Dreg,
    Estimate,
    GradientStatistics,
    Iwae,
    Miwae,
    Piwae,
    Renyi,
    ScoreFunction,
    SgvbA,
    SgvbB,
    StickingTheLanding,
    Vimco,
    gradient_statistics,
)
from aevb.estimators._log_weights import CHUNK, log_mean_exp, log_weights, reparameterized_samples, stopped
from aevb.evaluate import EstimatorNoise
from aevb.models import AbstractGenerativeModel, Mixture, tie

NUM_DRAWS = 40_000
PROBLEM = Problem.make(data_dim=3, latent_dim=1, num_rows=4, seed=3)
WRONG = {"shift": 0.4, "scale": 1.3, "tilt": 0.9}


def quadrature(num_samples: int):
    """Nodes (S, K) and weights (S,) of E over K independent standard normals."""
    nodes, weights = np.polynomial.hermite_e.hermegauss({1: 80, 2: 60, 4: 16}[num_samples])
    grid = np.stack(np.meshgrid(*[nodes] * num_samples, indexing="ij"), -1).reshape(-1, num_samples)
    product = np.stack(np.meshgrid(*[weights] * num_samples, indexing="ij"), -1).reshape(-1, num_samples).prod(1)
    return jnp.asarray(grid), jnp.asarray(product / product.sum())


def exact_bound(models, x, num_samples: int, power: float = 1.0):
    """E[1/power log 1/K sum_k w_k^power] for J = 1: power 1 is IWAE's, 1 - alpha Renyi's; K = 1 the ELBO."""
    generative, recognition = models
    eps, weights = quadrature(num_samples)
    q = recognition.posterior(x).base_dist
    z = q.loc + q.scale * eps

    def log_w(z):
        return generative.log_joint(x, z[None]) - recognition.posterior(x).log_prob(z[None])

    log_ws = jax.vmap(jax.vmap(log_w))(z)
    # Not the library's log-mean-exp: a defect in it must show.
    return jnp.sum(weights * (jax.nn.logsumexp(power * log_ws, axis=-1) - jnp.log(num_samples))) / power


ELBO = functools.partial(exact_bound, num_samples=1)
IWAE_2 = functools.partial(exact_bound, num_samples=2)
IWAE_4 = functools.partial(exact_bound, num_samples=4)
RENYI = functools.partial(exact_bound, num_samples=2, power=1.5)


def ciwae(models, x):
    return 0.3 * ELBO(models, x) + 0.7 * IWAE_2(models, x)


# estimator, the bound of its value and of theta's gradient, that of phi's
CASES = {
    "sgvb-a": (SgvbA(2), ELBO, ELBO),
    "sgvb-b": (SgvbB(2), ELBO, ELBO),
    "stl": (StickingTheLanding(2), ELBO, ELBO),
    "score": (ScoreFunction(2), ELBO, ELBO),
    "score with a running mean": (ScoreFunction(2, "running-mean", jnp.asarray(-4.0)), ELBO, ELBO),
    "score, leave-one-out": (ScoreFunction(2, "leave-one-out"), ELBO, ELBO),
    "iwae": (Iwae(2), IWAE_2, IWAE_2),
    "dreg": (Dreg(2), IWAE_2, IWAE_2),
    "vimco": (Vimco(2), IWAE_2, IWAE_2),
    "miwae": (Miwae(2, 2), IWAE_2, IWAE_2),
    "piwae": (Piwae(2, 2), IWAE_4, IWAE_2),
    "ciwae": (Ciwae(2, 0.3), ciwae, ciwae),
    "renyi": (Renyi(2, -0.5), RENYI, RENYI),
}


def test_every_estimator_has_a_case():
    assert {name.split(" ")[0].rstrip(",") for name in CASES} == set(ESTIMATORS)


def models(**wrong: float):
    return PROBLEM.generative(), PROBLEM.recognition(**wrong)


def value_and_gradient(bound_of, pair, *args):
    """The bound and its gradient in two flat parts, theta and phi, per draw where keys are given."""
    params, static = eqx.partition(pair, eqx.is_inexact_array)
    value, (theta, phi) = jax.value_and_grad(lambda p: bound_of(eqx.combine(p, static), *args))(params)
    flat = [jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(part)]) for part in (theta, phi)]
    return value, flat[0], flat[1]


@eqx.filter_jit
def draws(estimator: AbstractEstimator, pair, x, num: int = NUM_DRAWS):
    """(num,) values and their gradients, each with fresh noise."""
    keys = row_keys(jax.random.key(1), num)

    def bound_of(pair, key):
        return estimator(key, *pair, x).bound

    return jax.lax.map(lambda key: value_and_gradient(bound_of, pair, key), keys, batch_size=4000)


def largest_z_score(estimator, of_value, of_phi, index: int = 0) -> float:
    x = jnp.asarray(PROBLEM.rows[index])
    pair = models(**WRONG)
    value, theta, _ = value_and_gradient(of_value, pair, x)
    _, _, phi = value_and_gradient(of_phi, pair, x)
    found = [np.asarray(d).reshape(NUM_DRAWS, -1) for d in draws(estimator, pair, x)]
    exact = [np.asarray(e).reshape(1, -1) for e in (value, theta, phi)]
    found, exact = np.concatenate(found, axis=1), np.concatenate(exact, axis=1)
    error = found.std(axis=0) / np.sqrt(NUM_DRAWS)
    # 1e-7: what quadrature and rounding leave where the draws do not vary
    return float(np.max(np.abs(found.mean(axis=0) - exact) / (error + 1e-7)))


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_unbiased_for_the_own_bound(name, x64):
    assert largest_z_score(*CASES[name]) < 5


class Planted(AbstractEstimator):
    """The same estimators with a bias in them, each of a kind that was published or shipped by somebody."""

    kind: str = eqx.field(static=True, default="")
    num_samples: int = eqx.field(static=True, default=2)

    def __call__(self, key, generative, recognition, x):
        q = recognition.posterior(x)
        z, log_q = reparameterized_samples(q, key, self.num_samples)
        if self.kind == "stl for iwae":
            log_q = stopped(recognition).posterior(x).log_prob(z)
            return log_weights(generative, x, z, log_q).estimate(
                log_mean_exp(log_weights(generative, x, z, log_q).log_w)
            )
        if self.kind == "sum for mean":
            return Estimate(jax.nn.logsumexp(log_weights(generative, x, z, log_q).log_w), None, None)
        z = jax.lax.stop_gradient(z)
        log_q = q.log_prob(z)
        f = log_weights(generative, x, z, jax.lax.stop_gradient(log_q)).log_w
        signal = jax.lax.stop_gradient(f - jnp.mean(f))  # the baseline looks at its own sample
        return Estimate(
            jnp.mean(f) + jnp.mean(signal * log_q) - jax.lax.stop_gradient(jnp.mean(signal * log_q)), None, None
        )


@pytest.mark.parametrize(
    ("kind", "bound"), [("stl for iwae", IWAE_2), ("sum for mean", IWAE_2), ("baseline of its own sample", ELBO)]
)
def test_a_planted_bias_is_seen(kind, bound, x64):
    assert largest_z_score(Planted(kind), bound, bound) > 6


# --- exact statements -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [StickingTheLanding(3), Dreg(3)], ids=["stl", "dreg"])
def test_the_gradient_for_phi_is_zero_at_the_true_posterior(estimator, x64):
    x = jnp.asarray(PROBLEM.rows[1])
    _, theta, phi = draws(estimator, models(), x, 50)
    assert np.abs(phi).max() < 1e-10
    assert np.abs(theta).max() > 1e-2
    assert np.abs(draws(SgvbA(3), models(), x, 50)[2]).max() > 1e-2  # the score term that they leave out


@pytest.mark.parametrize(
    "same",
    [
        (SgvbA(4), StickingTheLanding(4), ScoreFunction(4), ScoreFunction(4, "leave-one-out"), Renyi(4, 1.0)),
        (Iwae(4), Dreg(4), Vimco(4), Renyi(4, 0.0), Ciwae(4, 0.0), Miwae(4, 1), Piwae(2, 2)),
        (SgvbA(4), Ciwae(4, 1.0), Miwae(1, 4)),
        (Iwae(1), SgvbA(1), Dreg(1), StickingTheLanding(1)),
    ],
    ids=["elbo", "iwae", "elbo at the edges", "one sample"],
)
def test_the_value_does_not_depend_on_the_gradient(same, x64):
    x, pair = jnp.asarray(PROBLEM.rows[0]), models(**WRONG)
    first, *others = [np.asarray(draws(estimator, pair, x, 20)[0]) for estimator in same]
    assert np.ptp(first) > 0.1
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-12)


def test_the_terms_are_those_of_the_elbo_whatever_the_bound(x64):
    x, pair = jnp.asarray(PROBLEM.rows[0]), models(**WRONG)
    for name, (estimator, *_) in CASES.items():
        estimate = jax.vmap(lambda key, e=estimator: e(key, *pair, x))(row_keys(jax.random.key(0), 20_000))
        elbo = np.asarray(estimate.log_likelihood - estimate.kl)
        error = elbo.std() / np.sqrt(len(elbo))
        assert abs(elbo.mean() - float(ELBO(pair, x))) < 5 * error, name


def test_the_bound_rises_with_k(x64):
    x, pair = jnp.asarray(PROBLEM.rows[0]), models(**WRONG)
    means = []
    for k in (1, 2, 5, 50):
        values = np.asarray(
            jax.vmap(lambda key, k=k: Iwae(k)(key, *pair, x).bound)(row_keys(jax.random.key(k), 20_000))
        )
        means.append((values.mean(), values.std() / np.sqrt(len(values))))
    for (low, low_error), (high, high_error) in itertools.pairwise(means):
        assert high - low > 5 * np.hypot(low_error, high_error)
    assert means[-1][0] < PROBLEM.log_marginal()[0] + 5 * means[-1][1]


@pytest.mark.parametrize("num_samples", [5, 20])
def test_dreg_has_the_mean_of_iwae_and_less_variance(num_samples, x64):
    x, pair = jnp.asarray(PROBLEM.rows[0]), models(**WRONG)
    iwae, dreg = (np.asarray(draws(e(num_samples), pair, x, 20_000)[2]) for e in (Iwae, Dreg))
    difference = iwae - dreg  # the same samples
    assert np.all(np.abs(difference.mean(0)) < 5 * difference.std(0) / np.sqrt(len(difference)))
    assert np.all(dreg.var(0) < 0.5 * iwae.var(0))


def test_the_naive_estimator_is_the_noisiest_and_baselines_help(x64):
    problem = Problem.make(data_dim=20, latent_dim=3, num_rows=10, seed=1)
    pair = (problem.generative(), problem.recognition(shift=0.1, scale=1.1))
    variance = {
        name: gradient_statistics(e, pair, jnp.asarray(problem.rows), jax.random.key(0), num_draws=500)[
            "recognition"
        ].variance
        for name, e in {
            "naive": ScoreFunction(2),
            "running": ScoreFunction(2, "running-mean"),
            "leave": ScoreFunction(2, "leave-one-out"),
            "a": SgvbA(2),
            "b": SgvbB(2),
        }.items()
    }
    assert variance["naive"] > 10 * variance["running"]
    assert variance["running"] > 10 * variance["b"]
    assert variance["naive"] > 10 * variance["leave"]
    assert variance["naive"] > 10 * variance["a"] > 10 * variance["b"]


def test_many_samples_in_chunks_are_the_same(x64):
    """Above CHUNK samples the decoder works piece by piece; below at once."""
    x, pair = jnp.asarray(PROBLEM.rows[0]), models(**WRONG)
    k = CHUNK + 7

    def at_once(pair, key):
        generative, recognition = pair
        z, log_q = reparameterized_samples(recognition.posterior(x), key, k)
        return log_mean_exp(jax.vmap(lambda z: generative.log_joint(x, z))(z) - log_q)

    key = jax.random.key(5)
    expected = value_and_gradient(at_once, pair, key)
    found = value_and_gradient(lambda pair, key: Iwae(k)(key, *pair, x).bound, pair, key)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_a_model_that_only_has_log_joint_is_enough(x64):
    x, (generative, recognition) = jnp.asarray(PROBLEM.rows[0]), models(**WRONG)
    for name, (estimator, *_) in CASES.items():
        if name == "sgvb-b":
            continue
        whole = estimator(jax.random.key(0), generative, recognition, x)
        joint = estimator(jax.random.key(0), JointOnly(generative), recognition, x)
        np.testing.assert_allclose(joint.bound, whole.bound, rtol=1e-12)
        assert joint.kl is None


def test_the_running_mean_is_carried(x64):
    estimator = ScoreFunction(1, "running-mean")
    state = estimator.init_state()
    for value in (-10.0, -20.0):
        state = estimator.next_state(state, Estimate(jnp.full(4, value), None, None))
    assert float(estimator.with_state(state).running_mean) == pytest.approx((0.9 * -10 - 20) / 1.9)
    assert float(estimator.with_state(estimator.init_state()).running_mean) == 0.0
    assert SgvbA().init_state() == ()


# --- weights of zero --------------------------------------------------------------------------------------------------


class Cut(JointOnly):
    """The same model with the density of z cut to zero above an edge: log w = -inf there."""

    edge: float = eqx.field(static=True, default=np.inf)

    def log_joint(self, x, z):
        return jnp.where(z[0] < self.edge, super().log_joint(x, z), -jnp.inf)


def with_zeros(estimator, num_zero: int):
    """(the estimate's bound, its gradient, log w) of a draw in which this many of all its weights are zero."""
    x, (generative, recognition), key = jnp.asarray(PROBLEM.rows[0]), models(**WRONG), jax.random.key(0)
    total = estimator.num_samples * getattr(estimator, "num_groups", 1)
    z, log_q = reparameterized_samples(recognition.posterior(x), key, total)
    ordered = np.sort(np.append(np.asarray(z[:, 0]), [-np.inf, np.inf]))
    edge = 0.5 * (ordered[total - num_zero] + ordered[total - num_zero + 1]) if 0 < num_zero < total else ordered[0]
    pair = (Cut(generative, float(edge) if num_zero else np.inf), recognition)
    log_w = np.asarray(log_weights(pair[0], x, z, log_q).log_w)
    assert np.sum(np.isneginf(log_w)) == num_zero
    bound, theta, phi = value_and_gradient(lambda pair: estimator(key, *pair, x).bound, pair)
    return float(bound), np.concatenate([theta, phi]), log_w


def iwae_of(log_w):
    return np.logaddexp.reduce(log_w) - np.log(len(log_w))


def renyi_of(power):
    return lambda log_w: (np.logaddexp.reduce(power * log_w) - np.log(len(log_w))) / power


# estimator of four weights, and the bound as it follows from them
OF_WEIGHTS = {
    "sgvb-a": (SgvbA(4), np.mean),
    "stl": (StickingTheLanding(4), np.mean),
    "score": (ScoreFunction(4), np.mean),
    "score, leave-one-out": (ScoreFunction(4, "leave-one-out"), np.mean),
    "iwae": (Iwae(4), iwae_of),
    "dreg": (Dreg(4), iwae_of),
    "vimco": (Vimco(4), iwae_of),
    "vimco of two": (Vimco(2), iwae_of),
    "miwae": (Miwae(2, 2), lambda log_w: np.mean([iwae_of(log_w[:2]), iwae_of(log_w[2:])])),
    "piwae": (Piwae(2, 2), iwae_of),
    "ciwae": (Ciwae(4, 0.3), lambda log_w: 0.3 * np.mean(log_w) + 0.7 * iwae_of(log_w)),
    "ciwae, of the elbo nothing": (Ciwae(4, 0.0), iwae_of),
    "ciwae, the elbo alone": (Ciwae(4, 1.0), np.mean),
    "renyi 0.5": (Renyi(4, 0.5), renyi_of(0.5)),
    "renyi 0": (Renyi(4, 0.0), iwae_of),
    "renyi -1": (Renyi(4, -1.0), renyi_of(2.0)),
    "renyi 1": (Renyi(4, 1.0), np.mean),
    "renyi 2": (Renyi(4, 2.0), lambda log_w: -np.inf if np.isneginf(log_w).any() else renyi_of(-1.0)(log_w)),
    "renyi 0.999": (Renyi(4, 0.999), renyi_of(0.001)),
    "vr-max": (Renyi(4, -np.inf), np.max),
}


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_weights_of_zero_are_what_they_are(name, x64):
    """Their value is that of the other weights, or -inf, and never NaN; Renyi's was, with a single one of them."""
    estimator, bound_of = OF_WEIGHTS[name]
    for num_zero in range(5 if estimator.num_samples == 4 or "iwae" in name else 3):
        bound, gradient, log_w = with_zeros(estimator, num_zero)
        np.testing.assert_allclose(bound, bound_of(log_w), rtol=1e-9, atol=1e-9, err_msg=f"{num_zero} zero weights")
        if np.isfinite(bound):  # else the step is skipped
            assert np.isfinite(gradient).all(), num_zero
            assert np.abs(gradient).max() > 1e-3
        elif estimator.bound_name == "iwae_bound" and np.isneginf(log_w).all():
            np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("power", [1.0, 0.5, 2.0, 1e-3])
def test_the_gradient_is_that_of_the_weights_that_are_left(power, x64):
    """1/power log 1/K sum w^power over the positive ones, differentiated by itself; with power 1 also `Iwae`'s."""
    x, (generative, recognition), key = jnp.asarray(PROBLEM.rows[0]), models(**WRONG), jax.random.key(0)
    _, gradient, log_w = with_zeros(Renyi(4, 1.0 - power), 2)
    left = np.flatnonzero(np.isfinite(log_w))

    def bound_of(pair):
        z, log_q = reparameterized_samples(pair[1].posterior(x), key, 4)
        log_w = log_weights(pair[0], x, z[left], log_q[left]).log_w
        return (jax.nn.logsumexp(power * log_w) - jnp.log(4)) / power

    _, theta, phi = value_and_gradient(bound_of, (JointOnly(generative), recognition))
    np.testing.assert_allclose(gradient, np.concatenate([theta, phi]), rtol=1e-8)
    if power == 1.0:
        np.testing.assert_allclose(with_zeros(Iwae(4), 2)[1], gradient, rtol=1e-10)


def test_log_mean_exp_and_its_gradient_where_all_weights_are_zero():
    value, gradient = jax.value_and_grad(log_mean_exp)(jnp.full(3, -jnp.inf))
    assert np.isneginf(value)
    assert np.array_equal(gradient, np.zeros(3))
    assert np.isnan(log_mean_exp(jnp.array([0.0, jnp.nan])))  # what is no number stays none


# --- what is refused --------------------------------------------------------------------------------------------------


class Uniform(LinearRecognition):
    def posterior(self, x):
        loc = self.weight @ x + self.bias
        return dist.Uniform(loc - jnp.exp(self.log_scale), loc + jnp.exp(self.log_scale)).to_event(1)


class MovedUniform(LinearRecognition):
    """The same posterior as a map of noise, whose support moves with the map."""

    def posterior(self, x):
        loc, scale = self.weight @ x + self.bias, jnp.exp(self.log_scale)
        noise = dist.Uniform(-jnp.ones_like(loc), jnp.ones_like(loc)).to_event(1)
        return Reparameterized(noise, lambda eps: loc + scale * eps, inverse=lambda z: (z - loc) / scale)


class MovedGaussian(LinearRecognition):
    """A map of Gaussian noise: there is no edge that could move."""

    def posterior(self, x):
        loc, scale = self.weight @ x + self.bias, jnp.exp(self.log_scale)
        noise = dist.Normal(jnp.zeros_like(loc), 1.0).to_event(1)
        return Reparameterized(noise, lambda eps: loc + scale * eps, inverse=lambda z: (z - loc) / scale)


class MixtureOfUniforms(LinearRecognition):
    def posterior(self, x):
        loc, scale = self.weight @ x + self.bias, jnp.exp(self.log_scale)
        lows = loc - jnp.stack([scale, 2 * scale])
        return Mixture(jnp.log(jnp.full(2, 0.5)), lambda low: dist.Uniform(low, low + 1.0).to_event(1), lows)


class Unreparameterized(dist.Normal):
    reparametrized_params = ()
    has_rsample = False


class NoPath(LinearRecognition):
    """A sampler without a differentiable path, as those of discrete or rejection-sampled families."""

    def posterior(self, x):
        return Unreparameterized(self.weight @ x + self.bias, jnp.exp(self.log_scale)).to_event(1)


def remade(kind):
    wrong = PROBLEM.recognition(**WRONG)
    return kind(wrong.weight, wrong.bias, wrong.log_scale)


@pytest.mark.parametrize("estimator", [StickingTheLanding(2), Dreg(2), ScoreFunction(2), Vimco(2)])
def test_a_support_that_moves_is_refused_where_the_score_must_average_to_zero(estimator):
    for moving in (Uniform, MovedUniform, MixtureOfUniforms):
        with pytest.raises(UnavailableError, match="edge of its support"):
            estimator(jax.random.key(0), PROBLEM.generative(), remade(moving), jnp.asarray(PROBLEM.rows[0]))
    for estimator_of_it, still in ((SgvbA(2), MovedUniform), (estimator, MovedGaussian)):
        found = estimator_of_it(jax.random.key(0), PROBLEM.generative(), remade(still), jnp.asarray(PROBLEM.rows[0]))
        assert jnp.isfinite(found.bound)


@pytest.mark.parametrize("name", ["sgvb-a", "stl", "iwae", "dreg", "renyi", "miwae", "piwae", "ciwae"])
def test_pathwise_gradients_want_a_reparameterised_posterior(name):
    with pytest.raises(TypeError, match="reparameterised"):
        ESTIMATORS.make(name)(
            jax.random.key(0), JointOnly(PROBLEM.generative()), remade(NoPath), jnp.asarray(PROBLEM.rows[0])
        )


@pytest.mark.parametrize("estimator", [ScoreFunction(2), ScoreFunction(2, "leave-one-out"), Vimco(2)])
def test_the_score_function_does_without(estimator):
    estimate = estimator(
        jax.random.key(0), JointOnly(PROBLEM.generative()), remade(NoPath), jnp.asarray(PROBLEM.rows[0])
    )
    assert jnp.isfinite(estimate.bound)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vimco(1), "at least 2"),
        (lambda: ScoreFunction(1, "leave-one-out"), "at least 2"),
        (lambda: ScoreFunction(1, "median"), "leave-one-out"),
        (lambda: Miwae(2, 0), "num_groups"),
        (lambda: Piwae(0, 2), "num_samples"),
        (lambda: Ciwae(2, 1.5), r"\[0, 1\]"),
        (lambda: Renyi(2, float("nan")), "alpha"),
        (lambda: Renyi(2, float("inf")), "alpha"),
        (lambda: ESTIMATORS.make("iwea"), "did you mean 'iwae'"),
        (lambda: gradient_statistics(SgvbA(), models(), np.zeros((2, 3)), jax.random.key(0), num_draws=1), "num_draws"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6, 1e-7])
def test_renyi_tends_to_the_elbo_without_losing_digits(distance):
    generative, recognition = models(**WRONG)
    x = jnp.asarray(PROBLEM.rows[0], jnp.float32)
    elbo = float(SgvbA(5)(jax.random.key(0), generative, recognition, x).bound)
    renyi = float(Renyi(5, 1.0 - distance)(jax.random.key(0), generative, recognition, x).bound)
    assert abs(renyi - elbo) < 5 * distance + 2e-6 * abs(elbo)


def test_a_prior_that_looks_at_the_encoder_counts_its_parameters_once():
    generative, recognition = build(
        by_names(4, 2, (3,), "tanh", "gaussian", prior="vamp", prior_components=3), key=jax.random.key(0)
    )
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for g in (generative, tie(generative, recognition)):
        table = gradient_statistics(SgvbA(2), (g, recognition), rows, jax.random.key(1), num_draws=3)
        for group, model in (("generative", generative), ("recognition", recognition)):
            arrays = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
            assert table[group].num_parameters == sum(leaf.size for leaf in arrays)


def test_vr_max_takes_the_largest_weight(x64):
    x, pair = jnp.asarray(PROBLEM.rows[0]), models(**WRONG)
    z, log_q = reparameterized_samples(pair[1].posterior(x), jax.random.key(0), 6)
    log_w = log_weights(pair[0], x, z, log_q).log_w
    assert float(Renyi(6, -np.inf)(jax.random.key(0), *pair, x).bound) == pytest.approx(float(log_w.max()))
    assert float(Renyi(6, -60.0)(jax.random.key(0), *pair, x).bound) == pytest.approx(float(log_w.max()), abs=0.05)


def test_gradient_statistics_against_a_plain_loop(x64):
    pair, rows, key = models(**WRONG), jnp.asarray(PROBLEM.rows), jax.random.key(2)
    found = gradient_statistics(SgvbB(2), pair, rows, key, num_draws=30)
    params, static = eqx.partition(pair, eqx.is_inexact_array)
    gradients = []
    for i in range(30):
        keys = jax.vmap(lambda m, i=i: jax.random.fold_in(jax.random.fold_in(key, i), m))(jnp.arange(len(rows)))

        def bound(params, keys=keys):
            pair = eqx.combine(params, static)
            return jnp.mean(jax.vmap(lambda k, x: SgvbB(2)(k, *pair, x).bound)(keys, rows))

        grad = jax.grad(bound)(params)
        gradients.append(np.concatenate([np.asarray(g).ravel() for g in jax.tree.leaves(grad[1])]))
    gradients = np.array(gradients)
    variance = gradients.var(axis=0, ddof=1).sum()
    norm = np.sqrt((gradients.mean(axis=0) ** 2).sum() - variance / 30)
    assert found["recognition"].variance == pytest.approx(variance)
    assert found["recognition"].mean_norm == pytest.approx(norm)
    assert found["recognition"].signal_to_noise == pytest.approx(norm / np.sqrt(variance))
    assert found["recognition"].num_parameters == gradients.shape[1]
    assert found["recognition"].variance == pytest.approx(
        sum(found[f"recognition.{part}"].variance for part in ("weight", "bias", "log_scale"))
    )


def test_a_gradient_that_is_always_zero_has_no_ratio_to_its_noise():
    """It was said to have an infinite one."""

    class Flat(AbstractGenerativeModel):
        unused: jax.Array

        def log_joint(self, x, z):
            return 0.0 * jnp.sum(z) + 3.0

        def sample(self, key):
            raise NotImplementedError

    class Sure(Flat):
        def log_joint(self, x, z):
            return 2.0 * self.unused + 0.0 * jnp.sum(z)

    rows, q = jnp.asarray(PROBLEM.rows[:3], jnp.float32), models()[1]
    for family, expected in ((Flat, np.nan), (Sure, np.inf)):
        pair = (family(jnp.array(1.0)), q)
        found = gradient_statistics(SgvbA(1), pair, rows, jax.random.key(0), num_draws=5)["generative"]
        assert found.variance == 0
        np.testing.assert_equal(found.signal_to_noise, expected)
        line = EstimatorNoise("sgvb-a", 1, "elbo", {"generative": found, "recognition": found})
        written = json.loads(json.dumps(line.to_dict(), allow_nan=False))
        assert written["groups"]["generative"]["signal_to_noise"] is None
        assert written["groups"]["generative"]["variance"] == 0


def test_the_table_shows_no_number_where_there_is_none(capsys):
    none = GradientStatistics(0.0, 0.0, float("nan"), 3, 5, 0.1)
    with gradient_lines(quiet=False) as show:
        show(EstimatorNoise("sgvb-a", 1, "elbo", {"generative": none, "recognition": none}))
    assert capsys.readouterr().out.splitlines()[-1].split() == ["sgvb-a", "1", "0", "-", "0", "-", "100.00"]
