"""A model of one's own through the whole door: robust factor analysis, fitted, judged, pictured, saved and read back.

p(z) = N(0, I), p(x | z) = Student-t(W z + b, scale; 4 degrees of freedom): heavy tails, so that a few wild
measurements do not bend the factors. No closed form exists for anything but the prior. The generative model gives
only `log_joint` and `sample`, which is all that estimator A (eq. 6) asks for; what more it could do, it says.

    python examples/own_model.py [DIRECTORY]
"""

import sys
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import aevb
from aevb.distributions import Normal, StudentT, positive_scale
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
        scale = positive_scale(self.raw_scale, 1e-3)
        return StudentT(jnp.full_like(scale, 4.0), self.loadings @ z + self.offset, scale)


class Encoder(AbstractRecognitionModel):
    """q(z | x): a Gaussian whose mean and scale are read off a small network."""

    network: eqx.nn.MLP

    def posterior(self, x):
        loc, raw_scale = jnp.split(self.network(x), 2)
        return Normal(loc, positive_scale(raw_scale)).to_event(1)


def models(seed):
    keys = jax.random.split(jax.random.key(seed), 2)
    generative = RobustFactorAnalysis(0.1 * jax.random.normal(keys[0], (6, 2)), jnp.zeros(6), jnp.zeros(6))
    return generative, Encoder(eqx.nn.MLP(6, 4, 32, 1, activation=jnp.tanh, key=keys[1]))


def simulate(num, loadings, seed):
    """Rows from two known factors, with heavy-tailed noise."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(num, loadings.shape[1]))
    return (z @ loadings.T + 0.3 * rng.standard_t(4, size=(num, len(loadings)))).astype(np.float32)


def main(epochs=60, out=None):
    out = Path(out or tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    true_loadings = np.random.default_rng(0).normal(size=(6, 2))
    rows, test = simulate(5000, true_loadings, seed=1), simulate(1000, true_loadings, seed=2)
    options = {"epochs": epochs, "learning_rate": 0.01, "learning_rate_schedule": "cosine"}
    fitted = aevb.fit_model(models(seed=0), rows, validation=0.0, evaluation_samples=0, **options)
    log_p = fitted.evaluate(test, num_samples=200).log_likelihood
    print(f"held-out log p(x) by importance sampling: {log_p} nats per row")
    found, true = np.asarray(fitted.generative.loadings), true_loadings  # they may differ by a rotation, W W' may not
    error = np.abs(found @ found.T - true @ true.T).max() / np.abs(true @ true.T).max()
    print(f"largest error of W W', relative to its largest entry: {error:.3f}")

    report = aevb.reports.make_report(fitted, test, settings=aevb.reports.ReportSettings("is", 200))
    print("page:", aevb.reports.save_report(report, out, "robust factor analysis")[0])
    fitted.save(out / "model.safetensors")
    again = aevb.load(out / "model.safetensors", like=models(seed=1))
    assert np.array_equal(again.encode(test).mean, fitted.encode(test).mean)
    return log_p, error


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
