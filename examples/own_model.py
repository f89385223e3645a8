"""A model that is no preset: robust factor analysis of one's own, trained by the same parts that `aevb.fit` uses.

p(z) = N(0, I), p(x | z) = Student-t(W z + b, scale; 4 degrees of freedom): heavy tails, so that a few wild
measurements do not bend the factors. No closed form exists for anything but the prior. The generative model gives
only `log_joint` and `sample`, which is all that estimator A (eq. 6) asks for.

    python examples/own_model.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import aevb
from aevb.distributions import Normal, positive_scale
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel


class RobustFactorAnalysis(AbstractGenerativeModel):
    """p(x, z) of one row of D measurements explained by J factors."""

    loadings: jax.Array  # (D, J)
    offset: jax.Array  # (D,)
    raw_scale: jax.Array  # (D,)

    def log_joint(self, x, z):
        return jnp.sum(self._likelihood(z).log_prob(x)) + jnp.sum(Normal(jnp.zeros_like(z), 1.0).log_prob(z))

    def sample(self, key):
        z_key, x_key = jax.random.split(key)
        z = jax.random.normal(z_key, self.loadings.shape[1:])
        return self._likelihood(z).sample(x_key), z

    def _likelihood(self, z):
        return dist.StudentT(4.0, self.loadings @ z + self.offset, positive_scale(self.raw_scale, 1e-3))


class Encoder(AbstractRecognitionModel):
    """q(z | x): a Gaussian whose mean and scale are read off a small network."""

    network: eqx.nn.MLP

    def posterior(self, x):
        loc, raw_scale = jnp.split(self.network(x), 2)
        return Normal(loc, positive_scale(raw_scale)).to_event(1)


def simulate(num, loadings, seed):
    """Rows from two known factors, with heavy-tailed noise."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(num, loadings.shape[1]))
    return (z @ loadings.T + 0.3 * rng.standard_t(4, size=(num, len(loadings)))).astype(np.float32)


def main(num_epochs=60):
    true_loadings = np.random.default_rng(0).normal(size=(6, 2))
    rows, test = simulate(5000, true_loadings, seed=1), simulate(1000, true_loadings, seed=2)
    keys = jax.random.split(jax.random.key(0), 5)
    generative = RobustFactorAnalysis(0.1 * jax.random.normal(keys[0], (6, 2)), jnp.zeros(6), jnp.zeros(6))
    recognition = Encoder(eqx.nn.MLP(6, 4, 32, 1, activation=jnp.tanh, key=keys[1]))

    steps = num_epochs * len(rows) // 100
    optimizer = aevb.train.make_optimizer("adam", aevb.train.make_schedule("cosine", 1e-2, steps))
    algorithm = aevb.train.aevb(
        generative, recognition, aevb.estimators.SgvbA(num_samples=1), optimizer, num_examples=len(rows)
    )
    start = algorithm.init(keys[2])
    for state, summary in aevb.train.epochs(  # noqa: B007  (the last state is the result)
        algorithm, start, rows, order_key=keys[3], batch_size=100, num_epochs=num_epochs
    ):
        if summary.epoch % 20 == 0:
            print(f"epoch {summary.epoch}: ELBO {summary.bound:.3f} nats per row")

    generative, recognition = algorithm.model(state)
    log_p = aevb.evaluate.mean(aevb.evaluate.log_likelihood(generative, recognition, test, keys[4], num_samples=200))
    print(f"held-out log p(x) by importance sampling: {log_p} nats per row")
    # Factors are found up to a rotation, so compare what does not depend on it: W W'.
    found, true = np.asarray(generative.loadings), true_loadings
    error = np.abs(found @ found.T - true @ true.T).max() / np.abs(true @ true.T).max()
    print(f"largest error of W W', relative to its largest entry: {error:.3f}")
    return log_p, error


if __name__ == "__main__":
    main()
