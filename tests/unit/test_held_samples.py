"""Samples of a LogNormal that floats cannot hold: log q is that of the draw, and nothing exceeds log p(x).

p(z) = Exponential(1), p(x | z) = N(z, 1), one x = 0; q = LogNormal(loc, 1) far below the least sample.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from aevb.distributions import Exponential, LogNormal, Normal, as_drawn, rsample_and_log_prob, sample_and_log_prob
from aevb.estimators import Dreg, Iwae, ScoreFunction, SgvbA, StickingTheLanding, Vimco
from aevb.evaluate import importance_sampling
from aevb.models import AbstractPriorLikelihood, AbstractRecognitionModel

KEY = jax.random.key(0)
LOG_P = 0.5 + scipy.stats.norm.logsf(1.0)  # log of the integral of e^-z N(0; z, 1)


class Generative(AbstractPriorLikelihood):
    def prior(self):
        return Exponential(jnp.ones(1)).to_event(1)

    def likelihood(self, z):
        return Normal(z, 1.0).to_event(1)


class Recognition(AbstractRecognitionModel):
    loc: jax.Array

    def posterior(self, x):
        return LogNormal(self.loc[None], 1.0).to_event(1)


@pytest.mark.parametrize("loc", [-60.0, -100.0])
@pytest.mark.parametrize(
    ("estimator", "slack"),
    [(SgvbA(2000), 0.0), (StickingTheLanding(2000), 0.1), (ScoreFunction(2000, "leave-one-out"), 0.2)],
    ids=["sgvb-a", "stl", "score"],
)
def test_elbo_and_gradient_are_those_of_the_draws(estimator, slack, loc):
    def bound(q):
        return estimator(KEY, Generative(), q, jnp.zeros(1)).bound

    elbo, gradient = eqx.filter_value_and_grad(bound)(Recognition(jnp.array(loc)))
    # log p(x, 0) + entropy; -log q has the standard deviation sqrt(3/2).
    exact = scipy.stats.norm.logpdf(0) + loc + 0.5 * np.log(2 * np.pi * np.e)
    assert float(elbo) == pytest.approx(exact, abs=5 * np.sqrt(1.5 / 2000))
    assert float(gradient.loc) == pytest.approx(1.0, abs=1e-5 + slack)


@pytest.mark.parametrize("estimator", [Iwae(5), Dreg(5), Vimco(5)], ids=["iwae", "dreg", "vimco"])
def test_bounds_of_many_samples_lie_below_log_p(estimator):
    def bound(q):
        return estimator(KEY, Generative(), q, jnp.zeros(1)).bound

    value, gradient = eqx.filter_value_and_grad(bound)(Recognition(jnp.array(-60.0)))
    assert -62 < float(value) < LOG_P
    assert float(gradient.loc) > 0  # towards the posterior


def test_dreg_of_one_sample_is_sticking_the_landing_here_too():
    q = Recognition(jnp.array(-60.0))
    one, other = (
        eqx.filter_grad(lambda q, e=e: e(KEY, Generative(), q, jnp.zeros(1)).bound)(q).loc
        for e in (Dreg(1), StickingTheLanding(1))
    )
    assert float(one) == pytest.approx(float(other), rel=1e-5) != 0


@pytest.mark.parametrize("loc", [0.0, -42.5, -60.0])
def test_importance_samples_do_not_exceed_log_p(loc):
    rows = np.zeros((1, 1), np.float32)
    for proposal in ("encoder", "defensive"):
        found = importance_sampling(
            Generative(), Recognition(jnp.array(loc)), rows, KEY, num_samples=20_000, proposal=proposal
        )
        assert found.log_likelihood[0] < LOG_P + 0.05
    assert found.log_likelihood[0] > LOG_P - 0.05  # the defensive mixture reaches the posterior by the prior


def test_where_nothing_is_held_the_density_is_the_density(precision):
    q = LogNormal(jnp.array([0.5, -1.0]), 0.7).expand([3, 2]).to_event(1)
    for draw in (rsample_and_log_prob, sample_and_log_prob):
        z, log_q = draw(q, KEY, (4,))
        assert z.shape == (4, 3, 2)
        np.testing.assert_allclose(log_q, q.log_prob(z), rtol=1e-10 if precision == "float64" else 1e-5)
    score = jax.grad(lambda loc: sample_and_log_prob(LogNormal(loc, 2.0), KEY)[1])(0.5)
    log_z = jnp.log(sample_and_log_prob(LogNormal(0.5, 2.0), KEY)[0])
    assert float(score) == pytest.approx(float((log_z - 0.5) / 4), rel=1e-5)


def test_above_the_largest_sample_the_bound_does_not_grow():
    q = LogNormal(jnp.array([60.0, 1e3]), 1.0)
    draws = as_drawn(q)
    u = draws.sample(KEY, ())
    weight = -3 * jnp.log(draws.value(u)) - draws.log_prob(u)  # against p(z) = 2 z^-3
    np.testing.assert_allclose(weight, -2 * jnp.log(draws.value(u)) + 0.5 * np.log(2 * np.pi), atol=5.0)
