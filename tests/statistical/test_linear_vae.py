"""A linear VAE trained by AEVB reaches the maximum likelihood of probabilistic PCA (Lucas et al. 2019)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _oracles import gaussian_log_density, linear_elbo, ppca_log_likelihood, z_scores

from aevb import evaluate
from aevb.distributions import Normal, positive_scale
from aevb.estimators import SgvbB
from aevb.models import Encoder, Mlp, StandardNormalPrior
from aevb.train import Adam, Cosine, aevb, epochs

D, J, N, BATCH, EPOCHS = 8, 2, 2000, 100, 120


class LinearDecoder(StandardNormalPrior):
    """p(x | z) = N(W z + mu, s^2 I): one learned scale for all columns."""

    linear: eqx.nn.Linear
    raw_scale: jax.Array
    latent_dim: int = eqx.field(static=True, default=J)

    def likelihood(self, z):
        return Normal(self.linear(z), positive_scale(self.raw_scale)).to_event(1)

    @property
    def scale(self) -> float:
        return float(positive_scale(self.raw_scale))


def make_rows() -> np.ndarray:
    rng = np.random.default_rng(7)
    weight = rng.normal(size=(D, J)) * np.array([1.5, 0.8])
    noise = 0.5 * rng.normal(size=(N, D))
    return (rng.normal(size=(N, J)) @ weight.T + rng.normal(size=D) + noise).astype(np.float32)


ROWS = make_rows()


def train(kl_weight=None) -> tuple[LinearDecoder, Encoder]:
    decoder = LinearDecoder(eqx.nn.Linear(J, D, key=jax.random.key(0)), jnp.zeros(()))
    encoder = Encoder(D, J, Mlp(()), key=jax.random.key(1))
    schedule = Cosine().build(0.02, EPOCHS * N // BATCH)
    algorithm = aevb(decoder, encoder, SgvbB(), Adam().build(schedule), num_examples=N, kl_weight=kl_weight)
    start = algorithm.init(jax.random.key(2))
    for state, _ in epochs(algorithm, start, ROWS, order_key=jax.random.key(3), batch_size=BATCH, num_epochs=EPOCHS):
        last = state
    return algorithm.model(last)


@pytest.fixture(scope="module")
def trained() -> tuple[LinearDecoder, Encoder]:
    return train()


def log_marginal(decoder: LinearDecoder) -> np.ndarray:
    """Of each row under the learnt parameters, in closed form."""
    return gaussian_log_density(ROWS, decoder.linear.bias, decoder.linear.weight, decoder.scale)


def exact_elbo(decoder: LinearDecoder, encoder: Encoder) -> np.ndarray:
    """Of each row under the learnt parameters, in closed form."""

    class Parts:  # the fields that the oracle asks for
        weight, mean, log_scale = decoder.linear.weight, decoder.linear.bias, jnp.log(positive_scale(decoder.raw_scale))

    def one(x):
        return linear_elbo(Parts, encoder.maps["loc"](x), positive_scale(encoder.maps["raw_scale"](x)), x)

    return np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(ROWS)), np.float64)


def test_training_reaches_the_maximum_likelihood_of_ppca(trained):
    best = ppca_log_likelihood(ROWS, J)
    reached = log_marginal(trained[0]).mean()
    assert best - 0.01 < reached <= best + 1e-4


def test_the_bound_is_tight_at_the_end(trained):
    assert abs(log_marginal(trained[0]).mean() - exact_elbo(*trained).mean()) < 0.01


@pytest.mark.parametrize("name", ["elbo", "log_likelihood"])
def test_evaluation_agrees_with_the_closed_form(trained, name):
    decoder, encoder = trained
    exact = exact_elbo(decoder, encoder) if name == "elbo" else log_marginal(decoder)

    def error_of(decoder):
        if name == "elbo":
            return evaluate.elbo(decoder, encoder, ROWS, jax.random.key(4)).bound - exact
        return evaluate.log_likelihood(decoder, encoder, ROWS, jax.random.key(4), num_samples=20) - exact

    assert abs(z_scores(error_of(decoder), 0.0)) < 5
    # Planted defect: a likelihood whose scale is a fifth too large; `positive_scale` is inverted for it.
    raw = jnp.asarray(4 * np.sinh(np.log(1.2 * decoder.scale) / 2), jnp.float32)
    wrong = eqx.tree_at(lambda d: d.raw_scale, decoder, raw)
    assert abs(wrong.scale / decoder.scale - 1.2) < 1e-3
    assert abs(z_scores(error_of(wrong), 0.0)) > 5


def test_a_kl_that_counts_twice_is_seen():
    """Negative control: this defect leaves the bound looking healthy and the likelihood below its maximum."""
    decoder, _ = train(kl_weight=lambda step: 2.0 * jnp.ones_like(step, jnp.float32))
    assert log_marginal(decoder).mean() < ppca_log_likelihood(ROWS, J) - 0.05


def test_one_latent_dimension_fewer_is_seen():
    assert ppca_log_likelihood(ROWS, J - 1) < ppca_log_likelihood(ROWS, J) - 0.1
