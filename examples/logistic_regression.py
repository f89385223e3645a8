"""Bayesian logistic regression with a latent for each row, which no conjugate rule solves: the Challenger's O-rings.

Twenty-three shuttle flights before the accident (Dalal, Fowlkes & Hoadley 1989): launch temperature, and whether an
O-ring was damaged. Flights differ in more than temperature, so each has an offset of its own:

    beta ~ N(0, 2^2 I),    z_i ~ N(0, 1),    y_i ~ Bernoulli(sigmoid(beta_0 + beta_1 t_i + z_i))

Full variational Bayes gives q(beta) and an encoder q(z | t, y); the model only tells `log_joint`. The exact posterior
of beta is known to six digits by quadrature, over z for each row and over a grid of beta.

    python examples/logistic_regression.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import aevb
from aevb.distributions import Bernoulli, Normal, positive_scale
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel

TEMPERATURE = np.array([66, 70, 69, 68, 67, 72, 73, 70, 57, 63, 70, 78, 67, 53, 67, 75, 70, 81, 76, 79, 75, 76, 58.0])
DAMAGED = np.array([0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1.0])
PRIOR_SCALE = 2.0


class Flight(AbstractGenerativeModel):
    """p(y, z | t) of one flight, x = (t, y); t is given, and so has no density."""

    beta: jax.Array  # (2,)

    def _outcome(self, t, z):
        return Bernoulli(self.beta[0] + self.beta[1] * t + z)

    def log_joint(self, x, z):
        return self._outcome(x[0], z[0]).log_prob(x[1]) + Normal(0.0, 1.0).log_prob(z[0])

    def sample(self, key):
        z_key, y_key = jax.random.split(key)
        z = jax.random.normal(z_key, (1,))
        t = jnp.zeros(())  # a flight at the mean temperature
        return jnp.stack([t, self._outcome(t, z[0]).sample(y_key).astype(t.dtype)]), z


class Encoder(AbstractRecognitionModel):
    """q(z | t, y)."""

    network: eqx.nn.MLP

    def posterior(self, x):
        loc, raw_scale = jnp.split(self.network(x), 2)
        return Normal(loc, positive_scale(raw_scale)).to_event(1)


def standardised():
    t = (TEMPERATURE - TEMPERATURE.mean()) / TEMPERATURE.std()
    return np.stack([t, DAMAGED], axis=1)


def by_quadrature():
    """Exact posterior means and standard deviations of beta, and log p(y)."""
    t, y = standardised().T
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    grid = np.linspace(-7, 7, 281)
    b0, b1 = np.meshgrid(grid, grid, indexing="ij")
    log_joint = -0.5 * (b0**2 + b1**2) / PRIOR_SCALE**2 - np.log(2 * np.pi * PRIOR_SCALE**2)
    for ti, yi in zip(t, y, strict=True):
        logit = (b0 + b1 * ti)[..., None] + nodes
        log_joint += np.log((np.exp(yi * logit - np.logaddexp(0, logit)) * weights / weights.sum()).sum(-1))
    cell = (grid[1] - grid[0]) ** 2
    evidence = np.exp(log_joint).sum() * cell
    p = np.exp(log_joint) * cell / evidence
    mean = np.array([(p * b).sum() for b in (b0, b1)])
    sd = np.array([(p * (b - m) ** 2).sum() ** 0.5 for b, m in zip((b0, b1), mean, strict=True)])
    return mean, sd, float(np.log(evidence))


def main(num_epochs=8000):
    rows = standardised().astype(np.float32)
    generative = Flight(jnp.zeros(2))
    recognition = Encoder(eqx.nn.MLP(2, 2, 16, 1, activation=jnp.tanh, key=jax.random.key(0)))
    schedule = aevb.train.Cosine().build(0.01, num_epochs)
    algorithm = aevb.train.full_vb(
        generative,
        recognition,
        aevb.estimators.SgvbA(20),
        aevb.train.Adam().build(schedule),
        num_examples=len(rows),
        prior_scale=PRIOR_SCALE,
        init_scale=0.5,
    )
    objectives = []
    for state, summary in aevb.train.epochs(  # noqa: B007  (the last state is the result)
        algorithm, algorithm.init(jax.random.key(1)), rows, order_key=jax.random.key(2), batch_size=len(rows),
        num_epochs=num_epochs,
    ):  # fmt: skip
        objectives.append(summary.objective)
    q = aevb.train.parameter_posterior(state)
    bound = len(rows) * float(np.mean(objectives[-1000:]))
    mean, sd, log_evidence = by_quadrature()
    for j, name in enumerate(("intercept", "temperature")):
        print(f"{name}: {float(q.loc.beta[j]):.3f} ± {float(q.scale.beta[j]):.3f}; exact {mean[j]:.3f} ± {sd[j]:.3f}")
    print(f"bound on log p(y): {bound:.3f} nats; exact {log_evidence:.3f}")
    return np.asarray(q.loc.beta), np.asarray(q.scale.beta), bound, (mean, sd, log_evidence)


if __name__ == "__main__":
    main()
