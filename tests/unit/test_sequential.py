"""A latent in layers: q(h1 | x) q(h2 | h1) against p(h2) p(h1 | h2), where everything is Gaussian and known exactly."""

import functools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _oracles import gaussian_log_density, z_scores
from jax import Array
from matplotlib.figure import Figure

import aevb
from aevb import evaluate, train
from aevb.distributions import (
    Bernoulli,
    Delta,
    Dirichlet,
    LogNormal,
    MultivariateNormal,
    Normal,
    Reparameterized,
    Sequential,
    Uniform,
    as_drawn,
    divergent_layers,
    has_point_mass,
    kl_divergence,
    location_and_scale,
    log_ratio_per_layer,
    rsample_and_log_prob,
    sample_and_log_prob,
    split_layers,
    support_depends_on_parameters,
)
from aevb.errors import UnavailableError
from aevb.estimators import Dreg, Iwae, Renyi, ScoreFunction, SgvbA, SgvbB, StickingTheLanding, Vimco
from aevb.evaluate import LatentDiagnostics, LatentLayer, Mean, collapse_verdict, latent_diagnostics
from aevb.models import AbstractPriorLikelihood, AbstractRecognitionModel, log_prior_of
from aevb.reports import _figures
from aevb.samplers import unconstrained

D, J1, J2, S1, S = 5, 3, 2, 0.8, 0.6
SIZES = {"h1": J1, "h2": J2}
KEY = jax.random.key(0)
rng = np.random.default_rng(0)
A, W = 1.5 * rng.normal(size=(J1, J2)), rng.normal(size=(D, J1))  # h1 = A h2 + S1 noise, x = W h1 + S noise
H1 = A @ A.T + S1**2 * np.eye(J1)  # covariance of p(h1)


def simulate(num: int) -> np.ndarray:
    h1 = rng.normal(size=(num, J2)) @ A.T + S1 * rng.normal(size=(num, J1))
    return h1 @ W.T + S * rng.normal(size=(num, D))


ROWS, MANY = simulate(40), simulate(2000)


class TwoLayers(AbstractPriorLikelihood):
    """p(h2) = N(0, I), p(h1 | h2) = N(A h2, S1^2 I), p(x | h1) = N(W h1, S^2 I)."""

    a: Array
    w: Array

    def prior(self):
        h2 = Normal(jnp.zeros(J2), jnp.ones(J2)).to_event(1)
        return Sequential(SIZES, {"h2": h2, "h1": lambda drawn: Normal(self.a @ drawn["h2"], S1).to_event(1)})

    def likelihood(self, z):
        return Normal(self.w @ split_layers(z, SIZES)["h1"], S).to_event(1)


class Exact(AbstractRecognitionModel):
    """The posterior, in the other order; or with a shift of h1's mean what is not."""

    model: TwoLayers
    shift: float = eqx.field(static=True, default=0.0)

    def posterior(self, x):
        a, w = self.model.a, self.model.w
        of_h1 = jnp.linalg.inv(a @ a.T + S1**2 * jnp.eye(J1)) + w.T @ w / S**2
        of_h2 = jnp.eye(J2) + a.T @ a / S1**2
        h1 = MultivariateNormal(jnp.linalg.solve(of_h1, w.T @ x / S**2) + self.shift, precision_matrix=of_h1)

        def h2(drawn):
            return MultivariateNormal(jnp.linalg.solve(of_h2, a.T @ drawn["h1"] / S1**2), precision_matrix=of_h2)

        return Sequential(SIZES, {"h1": h1, "h2": h2})


class FromPrior(AbstractRecognitionModel):
    """q(z | x) = p(z), in the other order."""

    def posterior(self, x):
        h1 = MultivariateNormal(jnp.zeros(J1), jnp.asarray(H1, float))
        return Sequential(SIZES, {"h1": h1, "h2": Exact(model()).posterior(x).factors["h2"]})


def model() -> TwoLayers:
    return TwoLayers(jnp.asarray(A, float), jnp.asarray(W, float))


def log_p(rows: np.ndarray) -> np.ndarray:
    return scipy.stats.multivariate_normal(np.zeros(D), W @ H1 @ W.T + S**2 * np.eye(D)).logpdf(rows)


def moments(shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrix M of q's mean M x + shift' and its covariance, of the joint (h1, h2); and shift'."""
    c1 = np.linalg.inv(np.linalg.inv(H1) + W.T @ W / S**2)
    c2 = np.linalg.inv(np.eye(J2) + A.T @ A / S1**2)
    b = c2 @ A.T / S1**2
    of_h1 = c1 @ W.T / S**2
    joint = np.block([[c1, c1 @ b.T], [b @ c1, c2 + b @ c1 @ b.T]])
    return np.vstack([of_h1, b @ of_h1]), joint, np.concatenate([np.full(J1, shift), b @ np.full(J1, shift)])


def kl_of_layers(rows: np.ndarray, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """E_q[log q(h1 | x) - log p(h1 | h2)] and E_q[log q(h2 | h1) - log p(h2)] of each row, in closed form."""
    matrix, cov, moved = moments(shift)
    mean = rows @ matrix.T + moved
    c1, c2 = cov[:J1, :J1], np.linalg.inv(np.eye(J2) + A.T @ A / S1**2)
    log_2pi = np.log(2 * np.pi)
    entropies = [0.5 * (len(c) * (1 + log_2pi) + np.linalg.slogdet(c)[1]) for c in (c1, c2)]
    off = np.hstack([np.eye(J1), -A])  # h1 - A h2
    square = np.sum((mean @ off.T) ** 2, axis=1) + np.trace(off @ cov @ off.T)
    cross1 = 0.5 * (J1 * (log_2pi + 2 * np.log(S1)) + square / S1**2)
    cross2 = 0.5 * (J2 * log_2pi + np.sum(mean[:, J1:] ** 2, axis=1) + np.trace(cov[J1:, J1:]))
    return cross1 - entropies[0], cross2 - entropies[1]


def about(values: np.ndarray, exact: float | np.ndarray) -> float:
    """How many of its standard errors a mean over rows is off."""
    return float(z_scores(np.asarray(values, np.float64) - exact, 0.0))


# --- the density and the draws ----------------------------------------------------------------------------------------


def test_the_density_is_that_of_the_joint_gaussian(x64):
    x = ROWS[0]
    matrix, cov, _ = moments()
    prior = np.block([[H1, A], [A.T, np.eye(J2)]])
    z = rng.normal(size=(4, 6, J1 + J2))
    for d, mean, covariance in ((Exact(model()).posterior(x), matrix @ x, cov), (model().prior(), 0 * z[0, 0], prior)):
        exact = scipy.stats.multivariate_normal(mean, covariance).logpdf(z)
        np.testing.assert_allclose(d.log_prob(z), exact, atol=1e-9)
        np.testing.assert_allclose(d.log_prob(z[0, 0]), exact[0, 0], atol=1e-9)
        np.testing.assert_allclose(d.log_prob(z[:1, :1]), exact[:1, :1], atol=1e-9)
        np.testing.assert_allclose(as_drawn(d).log_prob(jnp.asarray(z)), exact, atol=1e-9)
        assert sum(d.log_prob_per_layer(z).values()) == pytest.approx(exact)
        assert list(d.log_prob_per_layer(z)) == ["h1", "h2"]


@jax.jit
def draws(x: Array, key: Array) -> tuple[Array, ...]:
    p = model().prior()  # whose layers are drawn in another order than they lie in
    z, log_p = rsample_and_log_prob(p, key, (50,))
    of_prior = log_p, p.log_prob(z), p.log_prob(p.sample(key, (50,)))
    q = Exact(model()).posterior(x)
    z, log_q = rsample_and_log_prob(q, key, (2, 3000))
    return z, log_q, q.log_prob(z), q.sample(key, (2, 3000)), *of_prior


def test_draws_have_the_joint_mean_and_covariance_and_bring_their_density():
    x = jnp.asarray(ROWS[1], jnp.float32)
    matrix, cov, _ = moments()
    z, log_q, again, plain, *of_prior = (np.asarray(v, np.float64) for v in draws(x, KEY))
    for other in of_prior[1:]:
        np.testing.assert_allclose(other, of_prior[0], atol=1e-4)
    assert z.shape == plain.shape == (2, 3000, J1 + J2) and log_q.shape == (2, 3000)
    np.testing.assert_allclose(log_q, again, atol=1e-4)
    np.testing.assert_allclose(plain, z, atol=1e-6)
    centred = z.reshape(6000, -1) - matrix @ ROWS[1]
    assert np.abs(z_scores(centred, 0.0)).max() < 5
    assert np.abs(z_scores(centred[:, :, None] * centred[:, None], cov)).max() < 5
    wrong = cov * np.where(np.arange(5)[:, None] // J1 == np.arange(5) // J1, 1, 0)  # negative control: no dependence
    assert np.abs(z_scores(centred[:, :, None] * centred[:, None], wrong)).max() > 5


def test_each_row_and_each_draw_has_noise_of_its_own():
    """And jit, scan and vmap give what comes without."""
    x, keys = jnp.asarray(ROWS[:4], jnp.float32), jax.random.split(KEY, 4)
    one = lambda key, x: Exact(model()).posterior(x).rsample(key)  # noqa: E731
    z = jax.vmap(one)(keys, x)
    np.testing.assert_allclose(z[2], jax.jit(one)(keys[2], x[2]), atol=1e-5)
    np.testing.assert_allclose(z, jax.lax.scan(lambda _, kx: (None, one(*kx)), None, (keys, x))[1], atol=1e-5)
    single = jax.jit(one)(keys[0], x[0])
    noise = z - x @ jnp.asarray(moments()[0].T, jnp.float32)
    assert len(np.unique(np.round(noise, 4))) == noise.size
    many = jax.jit(lambda x: Exact(model()).posterior(x).rsample(KEY, (2, 2)))(x[0])
    assert len(np.unique(np.round(many, 4))) == many.size
    assert single.shape == (5,) and len(np.unique(np.round(single, 4))) == 5


def test_the_pathwise_gradient_is_that_of_the_closed_form():
    """E|h2|^2 = |B m|^2 + s^2 |B|^2 + const for h1 = m + s eps, h2 = B h1 + noise: through h1, to m, s and B."""
    m, s, b = jnp.array([0.5, -1.0, 0.3]), jnp.array(0.7), jnp.asarray(A.T, jnp.float32)

    def value(params, key):
        m, s, b = params
        h1 = Normal(m, s).to_event(1)
        q = Sequential(SIZES, {"h1": h1, "h2": lambda drawn: Normal(b @ drawn["h1"], 0.4).to_event(1)})
        return jnp.sum(split_layers(rsample_and_log_prob(q, key)[0], SIZES)["h2"] ** 2)

    gradients = jax.jit(jax.vmap(jax.grad(value), (None, 0)))((m, s, b), jax.random.split(KEY, 4000))
    outer = np.outer(m, m) + s**2 * np.eye(J1)
    for found, exact in zip(gradients, (2 * b.T @ b @ m, 2 * s * jnp.sum(b**2), 2 * b @ outer), strict=True):
        assert np.abs(z_scores(found, exact)).max() < 5
        assert np.abs(z_scores(found, 1.5 * np.asarray(exact))).max() > 5  # negative control


# --- the identity, and log p(x) in every way --------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [SgvbA(2), StickingTheLanding(), Iwae(3), Dreg(3), Vimco(3), Renyi(3)])
def test_with_the_posterior_every_sample_weighs_log_p(estimator, x64):
    found = evaluate.elbo(model(), Exact(model()), ROWS, KEY, estimator=estimator)
    np.testing.assert_allclose(found.bound, log_p(ROWS), atol=1e-10, rtol=0)
    np.testing.assert_allclose(sum(found.kl_per_layer.values()), found.kl, atol=1e-10)
    assert list(found.kl_per_layer) == ["h1", "h2"]


def test_every_log_weight_is_log_p_by_importance_sampling(precision):
    rows = ROWS.astype(precision)
    found = evaluate.importance_sampling(model(), Exact(model()), rows, KEY, num_samples=20, proposal="encoder")
    atol = 1e-10 if precision == "float64" else 1e-4
    np.testing.assert_allclose(found.log_likelihood, log_p(rows), atol=atol, rtol=0)
    wrong = evaluate.importance_sampling(model(), Exact(model(), 0.3), rows, KEY, num_samples=20, proposal="encoder")
    assert np.abs(wrong.log_likelihood - log_p(rows)).max() > 0.05  # negative control


@pytest.mark.parametrize("estimator", [StickingTheLanding(2), Dreg(3)])
def test_at_the_posterior_the_path_gradient_is_zero_in_every_sample(estimator, x64):
    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(q):
        return estimator(KEY, model(), q, jnp.asarray(ROWS[0])).bound

    found = jax.tree.leaves(gradient(Exact(model())))
    assert max(float(jnp.abs(g).max()) for g in found) < 1e-10
    off = jax.tree.leaves(gradient(Exact(model(), shift=0.3)))
    assert max(float(jnp.abs(g).max()) for g in off) > 1e-2


def test_every_other_way_to_log_p_finds_it():
    pair, rows = (model(), Exact(model(), shift=0.3)), ROWS[:20].astype(np.float32)
    sampled = evaluate.importance_sampling(*pair, rows, KEY, num_samples=1000)
    assert np.all(np.abs(sampled.log_likelihood - log_p(rows)) < 6 * sampled.standard_error + 1e-3)
    assert evaluate.proposal_components(*pair, jnp.asarray(rows[0])) == ("encoder", "widened", "prior")
    annealed = evaluate.annealed_importance_sampling(*pair, rows, KEY, evaluate.Annealing(16, 50))
    assert np.all(np.abs(annealed.log_likelihood - log_p(rows)) < 6 * annealed.standard_error + 0.1)
    gaps = evaluate.inference_gaps(*pair, rows, KEY, num_steps=200, family="full-covariance")
    np.testing.assert_allclose(gaps.optimised_elbo, log_p(rows), atol=0.05)
    assert gaps.means.amortisation_gap.value > 0.1


def test_quadrature_over_two_layers_of_one_dimension(x64):
    class Small(AbstractPriorLikelihood):
        def prior(self):
            one = Normal(jnp.zeros(1), 1.0).to_event(1)
            return Sequential({"h1": 1, "h2": 1}, {"h2": one, "h1": lambda d: Normal(0.7 * d["h2"], 0.5).to_event(1)})

        def likelihood(self, z):
            return Normal(2.0 * z[:1], 0.4).to_event(1)

    x = np.array([[0.3], [-2.0], [5.0]])
    exact = gaussian_log_density(x, np.zeros(1), np.array([[2.0 * np.sqrt(0.49 + 0.25)]]), 0.4)
    assert evaluate.has_quadrature(Small()) and not evaluate.has_quadrature(model())
    np.testing.assert_allclose(evaluate.quadrature_log_likelihood(Small(), x).log_likelihood, exact, atol=1e-3)


def test_calibration_tells_the_posterior_from_another():
    options = {"num_simulations": 200, "level": 1 - 1e-6}
    assert evaluate.simulation_based_calibration(model(), Exact(model()), KEY, **options).calibrated
    assert not evaluate.simulation_based_calibration(model(), Exact(model(), shift=1.0), KEY, **options).calibrated


# --- what each layer adds to the KL -----------------------------------------------------------------------------------


def test_the_layers_parts_are_those_of_the_closed_form():
    for shift, other in ((0.0, 1.0), (1.0, 0.0)):
        found = evaluate.elbo(model(), Exact(model(), shift), MANY.astype(np.float32), KEY, estimator=SgvbA(10))
        for layer, exact, wrong in zip(("h1", "h2"), kl_of_layers(MANY, shift), kl_of_layers(MANY, other), strict=True):
            assert abs(about(found.kl_per_layer[layer], exact)) < 5
            assert abs(about(found.kl_per_layer[layer], wrong)) > 5  # negative control: another q
        np.testing.assert_allclose(sum(found.kl_per_layer.values()), found.kl, atol=1e-4)


def test_a_layers_part_can_be_negative():
    """With q(z | x) = p(z) the two parts are -I and +I, I the information between h1 and h2 under p."""
    information = 0.5 * np.linalg.slogdet(np.eye(J1) + A @ A.T / S1**2)[1]
    found = evaluate.elbo(model(), FromPrior(), MANY.astype(np.float32), KEY, estimator=SgvbA())
    assert abs(about(found.kl_per_layer["h1"], -information)) < 5
    assert abs(about(found.kl_per_layer["h2"], information)) < 5
    assert information > 0.5
    np.testing.assert_allclose(found.kl, 0.0, atol=1e-4)  # in every sample
    d = latent_diagnostics(model(), FromPrior(), MANY[:50].astype(np.float32), KEY)
    assert d.num_active == 0 and d.layers[0].kl.value < -0.5 < 0.5 < d.layers[1].kl.value
    assert "What h1 adds could be negative and is no divergence by itself" in str(collapse_verdict(d))


def test_a_part_is_a_divergence_where_the_prior_asks_for_no_later_draw():
    sizes = {"a": 1, "b": 1, "c": 1}
    first = Normal(jnp.zeros(1), 1.0).to_event(1)
    on = lambda name: lambda drawn: Normal(drawn[name], 1.0).to_event(1)  # noqa: E731
    down = Sequential(sizes, {"c": first, "b": on("c"), "a": on("b")})
    up = Sequential(sizes, {"a": first, "b": on("a"), "c": on("b")})
    assert divergent_layers(down, down) == ("a", "b", "c")
    assert divergent_layers(up, down) == ("c",)
    assert divergent_layers(down, up) == ("a",)
    apart = Sequential(sizes, {"c": first, "b": first, "a": first})
    assert divergent_layers(up, apart) == ("a", "b", "c")
    # E_q of a divergence's part is the mean of the closed form along draws.
    z, _ = rsample_and_log_prob(up, KEY, (2000,))
    part = log_ratio_per_layer(up, down, z)["c"]
    closed = jax.vmap(lambda z: kl_divergence(Normal(z[1], 1.0), Normal(0.0, 1.0)))(z)
    assert abs(about(part - closed, 0.0)) < 5
    assert log_ratio_per_layer(up, Normal(jnp.zeros(3), 1.0).to_event(1), z) is None


def test_no_gradient_flows_through_a_layers_part():
    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(q):
        return SgvbA()(KEY, model(), q, jnp.asarray(ROWS[0], jnp.float32)).kl_per_layer["h1"]

    assert all(not jnp.any(g) for g in jax.tree.leaves(gradient(Exact(model()))))


# --- where it lies, and the diagnostics -------------------------------------------------------------------------------


def test_location_and_scale_of_layers():
    matrix, cov, _ = moments()
    x = ROWS[3]
    where = jax.jit(lambda x: (location_and_scale(Exact(model()).posterior(x)), location_and_scale(model().prior())))
    (loc, scale), prior = where(jnp.asarray(x, jnp.float32))
    sd = np.sqrt(np.diag(cov))
    np.testing.assert_allclose(loc[:J1], (matrix @ x)[:J1], atol=1e-5)
    np.testing.assert_allclose(scale[:J1], sd[:J1], rtol=1e-5)
    c2 = np.linalg.inv(np.eye(J2) + A.T @ A / S1**2)
    of_mean = np.sqrt(np.diag(cov[J1:, J1:] - c2))  # deviation of the conditional mean of h2
    assert np.all(np.abs(loc[J1:] - (matrix @ x)[J1:]) < 5 * of_mean / np.sqrt(1000))
    np.testing.assert_allclose(scale[J1:], sd[J1:], rtol=5 * 0.5 * np.sqrt(2 / 1000))
    np.testing.assert_array_equal(prior[1][J1:], 1.0)
    np.testing.assert_allclose(prior[1][:J1], np.sqrt(np.diag(H1)), rtol=0.12)


def test_a_layer_that_is_log_normal():
    sizes = {"h1": 2, "h2": 1}
    on = lambda drawn: Normal(jnp.log(drawn["h1"].sum(keepdims=True)), 0.3).to_event(1)  # noqa: E731
    q = Sequential(sizes, {"h1": LogNormal(jnp.array([0.0, -1.0]), 0.5).to_event(1), "h2": on})
    z, log_q = rsample_and_log_prob(q, KEY, (50,))
    np.testing.assert_allclose(log_q, q.log_prob(z), atol=1e-4)
    loc, scale = location_and_scale(q)  # by quantiles: the log-normal's median
    np.testing.assert_allclose(loc[:2], [1.0, np.exp(-1)], rtol=1e-5)
    assert np.isfinite([*loc, *scale]).all() and abs(loc[2] - np.median(z[:, 2])) < 0.5
    to = unconstrained(q)
    u = jax.vmap(to.inverse)(z)
    np.testing.assert_allclose(u[:, :2], np.log(z[:, :2]), atol=1e-5)
    np.testing.assert_allclose(u[:, 2], z[:, 2])
    np.testing.assert_allclose(jax.vmap(to.log_det)(u), u[:, :2].sum(axis=1), atol=1e-5)
    # So far out that floats hold its draws at an edge: the density is that of the draw, and it is told.
    far = lambda: Sequential(sizes, {"h1": LogNormal(jnp.full(2, -200.0), 1.0).to_event(1), "h2": on})  # noqa: E731
    u = as_drawn(far()).sample(KEY, ())
    assert bool(as_drawn(far()).held(u)) and not bool(as_drawn(q).held(as_drawn(q).sample(KEY, ())))
    assert float(as_drawn(far()).log_prob(u)) > 300 and float(as_drawn(far()).value(u)[0]) > 0


def test_what_a_sequential_tells_of_its_factors():
    sizes = {"a": 1, "b": 2}
    normal = Normal(jnp.zeros(1), 1.0).to_event(1)
    coin = Sequential(sizes, {"a": normal, "b": lambda d: Bernoulli(jnp.tile(d["a"], 2)).to_event(1)})
    assert not coin.has_rsample and not support_depends_on_parameters(coin)
    with pytest.raises(UnavailableError, match="discrete"):
        unconstrained(coin)
    with pytest.raises(UnavailableError, match="no reparameterised"):
        rsample_and_log_prob(coin, KEY)
    z, log_q = sample_and_log_prob(coin, KEY, (5,))
    assert set(np.unique(z[:, 1:])) <= {0.0, 1.0} and log_q.shape == (5,)
    np.testing.assert_allclose(log_q, coin.log_prob(z), atol=1e-5)
    score = jax.grad(lambda m: sample_and_log_prob(Sequential({"a": 1}, {"a": Normal(m, 1.0).to_event(1)}), KEY)[1])
    drawn = Sequential({"a": 1}, {"a": Normal(jnp.zeros(1), 1.0).to_event(1)}).sample(KEY)
    np.testing.assert_allclose(score(jnp.zeros(1)), drawn, atol=1e-6)  # d/dm log N(z; m, 1) at a held z

    on_simplex = Sequential(sizes, {"a": normal, "b": lambda d: Dirichlet(jnp.exp(jnp.tile(d["a"], 2)))})
    moving = Sequential(sizes, {"a": normal, "b": lambda d: Uniform(jnp.tile(d["a"], 2), 9.0).to_event(1)})
    assert support_depends_on_parameters(moving)
    for q in (on_simplex, moving):
        with pytest.raises(UnavailableError, match="no known support"):
            unconstrained(q)
    point = Sequential(sizes, {"a": normal, "b": lambda d: Delta(jnp.tile(d["a"], 2)).to_event(1)})
    assert has_point_mass(point) and not has_point_mass(coin)
    flow = Reparameterized(Normal(jnp.zeros(2), 1.0).to_event(1), jnp.sinh)  # no inverse: log q of its own draws alone
    with_flow = Sequential(sizes, {"a": normal, "b": lambda d: flow})
    assert with_flow.slow_density and not coin.slow_density
    assert np.isfinite(rsample_and_log_prob(with_flow, KEY)[1])
    assert np.isfinite(location_and_scale(with_flow)).all()


@functools.cache
def diagnosed() -> evaluate.LatentDiagnostics:
    return latent_diagnostics(model(), Exact(model()), MANY[:500].astype(np.float32), KEY)


def test_diagnostics_of_layers():
    d = diagnosed()
    assert not d.kl_is_analytic and d.kl_per_dimension is None
    h1, h2 = d.layers
    assert (h1.name, h1.first, h1.last, h1.is_divergence) == ("h1", 1, 3, False)
    assert (h2.name, h2.first, h2.last, h2.is_divergence) == ("h2", 4, 5, True)
    assert (h1.num_active, h2.num_active, d.num_active) == (3, 2, 5)
    assert h1.kl.value + h2.kl.value == pytest.approx(d.kl.value, abs=1e-4)
    for layer, exact in zip(d.layers, kl_of_layers(MANY[:500], 0.0), strict=True):
        # The rows are the same: what is left is the noise of 32 draws, each with less than 10 nats of spread.
        assert abs(layer.kl.value - exact.mean()) < 5 * 3.2 / np.sqrt(500 * 32)
        assert layer.kl.standard_error == pytest.approx(exact.std() / np.sqrt(500), rel=0.5)
    matrix = moments()[0]
    np.testing.assert_allclose(d.variance_of_mean, (MANY[:500] @ matrix.T).var(axis=0, ddof=1), rtol=0.05)
    information = 0.5 * np.linalg.slogdet(np.eye(J1) + H1 @ W.T @ W / S**2)[1]  # I(x; h1), and h2 tells no more
    low, high = d.mutual_information.interval(5.0)
    assert low < information < high
    told = json.loads(json.dumps(d.to_dict(), allow_nan=False))["layers"]
    assert [layer["name"] for layer in told] == ["h1", "h2"] and told[1]["kl"]["value"] == h2.kl.value


def test_a_layer_that_does_not_follow_x_is_not_active():
    class Apart(Exact):
        def posterior(self, x):
            factors = super().posterior(x).factors
            return Sequential(SIZES, factors | {"h2": lambda drawn: Normal(jnp.zeros(J2), 1.0).to_event(1)})

    class Prior(TwoLayers):
        def prior(self):
            h1 = MultivariateNormal(jnp.zeros(J1), jnp.asarray(H1, float))
            return Sequential(SIZES, {"h2": Normal(jnp.zeros(J2), 1.0).to_event(1), "h1": h1})

    d = latent_diagnostics(Prior(model().a, model().w), Apart(model()), ROWS.astype(np.float32), KEY)
    assert [layer.num_active for layer in d.layers] == [3, 0]
    assert all(layer.is_divergence for layer in d.layers)
    assert d.layers[1].kl.value == pytest.approx(0.0, abs=1e-5)
    words = str(collapse_verdict(d))
    assert "What h2 tells about x is at most 0.0" in words and "What h1 tells" not in words
    assert "no divergence by itself" not in words


def test_the_words_on_layers():
    words = str(collapse_verdict(diagnosed()))
    h1, h2 = (f"{layer.kl.value:.2f} ± {layer.kl.standard_error:.2f}" for layer in diagnosed().layers)
    assert (
        f"By layers: h1 (dimensions 1 to 3) has 3 active and adds {h1} nats to the KL; h2 (dimensions 4 to 5) " in words
    )
    assert f"has 2 active and adds {h2} nats to the KL." in words
    assert "tells about x is at most" not in words
    assert "By layers" not in str(collapse_verdict(diagnosed()._replace(layers=None)))
    assert "layers" not in diagnosed()._replace(layers=None).to_dict()
    one = LatentLayer("top", 5, 5, 1, Mean(0.3, 0.01, 1000), True, True)
    told = str(collapse_verdict(diagnosed()._replace(layers=(one,))))
    assert "top (dimension 5) has 1 active and adds 0.30 ± 0.01 nats" in told
    assert "What top tells about x is at most 0.34 nats." in told
    of_others = one._replace(is_first=False)  # given the others it may add little, and tell all that there is to tell
    for other in (one._replace(is_divergence=False), of_others, one._replace(kl=Mean(0.49, 0.01, 1000))):
        assert "What top tells" not in str(collapse_verdict(diagnosed()._replace(layers=(other,))))


# --- training and the front door --------------------------------------------------------------------------------------


class Learned(AbstractRecognitionModel):
    """q(h1 | x) = N(M x, diag), q(h2 | h1) = N(B h1, diag)."""

    m: Array
    b: Array
    log_scale: Array

    def posterior(self, x):
        s1, s2 = jnp.exp(self.log_scale[:J1]), jnp.exp(self.log_scale[J1:])
        h2 = lambda drawn: Normal(self.b @ drawn["h1"], s2).to_event(1)  # noqa: E731
        return Sequential(SIZES, {"h1": Normal(self.m @ x, s1).to_event(1), "h2": h2})


def start(seed: int = 0) -> tuple[TwoLayers, Learned]:
    k = jax.random.split(jax.random.key(seed), 4)
    g = TwoLayers(0.3 * jax.random.normal(k[0], (J1, J2)), 0.3 * jax.random.normal(k[1], (D, J1)))
    m, b = 0.1 * jax.random.normal(k[2], (J1, D)), 0.1 * jax.random.normal(k[3], (J2, J1))
    return g, Learned(m, b, jnp.zeros(J1 + J2))


def test_through_the_front_door(tmp_path):
    fitted = aevb.fit_model(
        start(), MANY.astype(np.float32), epochs=15, learning_rate=0.02, estimator="iwae", num_samples=5,
        evaluation_samples=100, quiet=True,
    )  # fmt: skip
    first, last = fitted.history[0], fitted.history[-1]
    for part in ("train", "validation"):
        assert last[f"{part}_kl_h1"] + last[f"{part}_kl_h2"] == pytest.approx(last[f"{part}_kl"], abs=1e-3)
        assert last[f"{part}_elbo"] > first[f"{part}_elbo"] + 1
    found = fitted.evaluate(MANY[:200].astype(np.float32), num_samples=100)
    assert not found.kl_is_exact
    assert sum(layer.value for layer in found.kl_per_layer.values()) == pytest.approx(found.kl.value, abs=1e-3)
    assert list(found.to_dict()["kl_per_layer"]) == ["h1", "h2"]
    assert found.log_likelihood.value == pytest.approx(log_p(MANY[:200]).mean(), abs=1.0)
    assert fitted.result["evaluation"]["kl_per_layer"].keys() == {"h1", "h2"}
    fitted.save(tmp_path / "m.safetensors")
    again = aevb.load(tmp_path / "m.safetensors", like=start(1))
    rows = MANY[:20].astype(np.float32)
    np.testing.assert_array_equal(again.encode(rows).mean, fitted.encode(rows).mean)
    assert fitted.reconstruct(rows).shape == (20, D) and fitted.sample(3, seed=0).shape == (3, D)
    settings = aevb.reports.ReportSettings("elbo", diagnostics=False)
    content = aevb.reports.make_report(fitted, rows, settings=settings).content
    table = [line[0] for line in aevb.reports._page.numbers(content)]
    at = table.index("  KL(q(z|x) || p(z)), sampled")
    assert table[at + 1 : at + 3] == ["    of which layer h1, sampled", "    of which layer h2, sampled"]


def test_a_latent_without_layers_tells_of_none():
    class Joined(TwoLayers):
        def prior(self):
            return MultivariateNormal(jnp.zeros(5), jnp.asarray(np.block([[H1, A], [A.T, np.eye(J2)]]), float))

    joined = Joined(model().a, model().w)
    found = evaluate.elbo(joined, Exact(model()), ROWS.astype(np.float32), KEY, estimator=SgvbA())
    assert found.kl_per_layer is None
    np.testing.assert_allclose(found.bound, log_p(ROWS), atol=1e-3)
    assert latent_diagnostics(joined, Exact(model()), ROWS.astype(np.float32), KEY).layers is None
    summary = train.EpochSummary(1, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 1.0, 1.0)
    assert summary.kl_per_layer is None


def test_a_latent_in_layers_is_trained_by_the_score_too():
    found = evaluate.elbo(model(), Exact(model()), ROWS.astype(np.float32), KEY, estimator=ScoreFunction(2))
    np.testing.assert_allclose(found.bound, log_p(ROWS), atol=1e-3)
    assert found.kl_per_layer.keys() == {"h1", "h2"}


def test_estimator_b_has_no_closed_form_and_says_what_to_use():
    assert isinstance(evaluate.elbo_estimator(model(), Exact(model()), like=ROWS), SgvbA)
    with pytest.raises(UnavailableError, match="Sequential to Sequential; use estimator 'sgvb-a'"):
        SgvbB()(KEY, model(), Exact(model()), jnp.asarray(ROWS[0], jnp.float32))


# --- what cannot be ---------------------------------------------------------------------------------------------------


def normal(size: int) -> Normal:
    return Normal(jnp.zeros(size), 1.0).to_event(1)


@pytest.mark.parametrize(
    ("sizes", "factors", "error", "message"),
    [
        ({}, {}, ValueError, "at least 1"),
        ({"a": 0}, {"a": normal(1)}, ValueError, "at least 1, in whole numbers, got {'a': 0}"),
        ({"a": 1, "b": 2}, {"a": normal(1)}, ValueError, "layers of z are a, b, but there are factors of a; give each"),
        ({"a": 1}, {"a": normal(1), "b": normal(1)}, ValueError, "layers of z are a, but there are factors of a, b"),
        ({"a": 1}, {}, ValueError, "factors of none"),
        ({"a": 2}, {"a": normal(3)}, ValueError, r"layer a is over shape \(3,\), but the layer has the length 2"),
        ({"a": 1}, {"a": Normal(0.0, 1.0)}, ValueError, r"layer a is over shape \(\), but the layer has the length 1"),
        ({"a": 2}, {"a": Normal(jnp.zeros(2), 1.0)}, ValueError, r"batch shape \(2,\).*add .to_event\(1\)"),
        ({"a": 1}, {"a": jnp.zeros(1)}, TypeError, "layer a must be a distribution, or a function"),
        ({"a": 1}, {"a": lambda drawn: jnp.zeros(1)}, TypeError, "but is, or makes, .*Tracer"),
        (
            {"a": 1, "b": 1},
            {"b": lambda drawn: Normal(drawn["a"], 1.0).to_event(1), "a": normal(1)},
            ValueError,
            "layer b asks for 'a', which is not drawn before it; drawn are none: put the factors into the order",
        ),
    ],
)
def test_layers_and_factors_that_do_not_fit_are_refused(sizes, factors, error, message):
    with pytest.raises(error, match=message):
        Sequential(sizes, factors)


def test_a_z_of_another_length_is_refused():
    d = Sequential({"a": 1, "b": 1}, {"a": normal(1), "b": normal(1)})
    for z in (jnp.zeros(3), jnp.zeros((4, 1)), jnp.zeros(())):
        with pytest.raises(ValueError, match="must end with an axis of 2"):
            d.log_prob(z)
    with pytest.raises(ValueError, match="lays z out as a \\(1\\), b \\(1\\), the other as b \\(1\\), a \\(1\\)"):
        log_ratio_per_layer(d, Sequential({"b": 1, "a": 1}, d.factors), jnp.zeros(2))


def test_a_posterior_and_a_prior_with_other_layouts_are_refused():
    class Swapped(Learned):
        def posterior(self, x):
            return Sequential({"h2": J2, "h1": J1}, super().posterior(x).factors)

    class Longer(Learned):
        def posterior(self, x):
            return Sequential(SIZES | {"h3": 1}, super().posterior(x).factors | {"h3": normal(1)})

    swapped, longer = Swapped(*jax.tree.leaves(start()[1])), Longer(*jax.tree.leaves(start()[1]))
    rows = MANY[:100].astype(np.float32)
    layouts = r"posterior\(\) of Swapped lays z out as h2 \(2\), h1 \(3\), but prior\(\) of TwoLayers as h1 \(3\), h2"
    with pytest.raises(ValueError, match=layouts):
        aevb.fit_model((start()[0], swapped), rows, estimator=Iwae(2))
    with pytest.raises(ValueError, match="lays z out"):
        evaluate.elbo(start()[0], swapped, rows, KEY, estimator=Iwae(2))
    with pytest.raises(ValueError, match=r"z of shape \(6,\), but prior\(\) of TwoLayers over z of shape \(5,\)"):
        aevb.fit_model((start()[0], longer), rows)
    with pytest.raises(ValueError, match="is over z of shape"):
        log_prior_of(model(), jnp.asarray(rows[0]), jnp.zeros(6))


def test_the_picture_of_the_dimensions_tells_its_layers():
    none, size, prior = Mean(1.0, 0.1, 9), np.array([0.2, 0.5, 0.3, 0.4]), np.array([9.0, 1.0, 1.0, 1.0])
    layers = (LatentLayer("h1", 1, 3, 3, none, False, False), LatentLayer("h2", 4, 4, 1, none, True, True))
    told = LatentDiagnostics(
        none, False, None, size * prior**2, np.ones(4), prior, size > 0.01, np.eye(4), None, None, None, None, layers
    )
    names = {}
    for of, few in ((layers, 9), (layers, 2), (None, 2)):
        figure = Figure()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_figures, "_FEW_DIMENSIONS", few)
            _figures.draw_latent_dimensions(told._replace(layers=of), figure)
        ax = figure.axes[-1]
        names[bool(of), few] = [text.get_text() for text in ax.texts], [t.get_text() for t in ax.get_xticklabels()]
    assert names[True, 9] == (["h1", "h2"], ["1", "2", "3", "4"])
    assert names[True, 2] == (["h1", "h2"], ["2", "3", "1", "4"])
    assert names[False, 2] == ([], ["2", "4", "3", "1"])
