"""Full variational Bayes (Appendix F) where the answer is known: the mean of Gaussian data with a latent offset each.

    theta ~ N(0, 1),   z_i ~ N(0, 1),   x_i = theta + z_i + noise,   noise ~ N(0, s^2)

Given X the exact posterior of theta is N(m, v) with 1/v = 1 + N / (1 + s^2). A factorised q(theta) q(z | x) finds m
exactly, but not v: the best such q has 1/v = 1 + N / s^2, narrower, because it cannot let theta and z_i share what they
explain. Both are compared below, and the bound with its closed-form maximum and with log p(X).

    python examples/full_vb.py
"""

import jax
import jax.numpy as jnp
import numpy as np

import aevb
from aevb.distributions import Normal, positive_scale
from aevb.models import AbstractPriorLikelihood, AbstractRecognitionModel

NOISE = 0.8


class Offset(AbstractPriorLikelihood):
    """p(x, z) given theta."""

    theta: jax.Array  # ()

    def prior(self):
        return Normal(jnp.zeros(1), jnp.ones(1)).to_event(1)

    def likelihood(self, z):
        return Normal(self.theta + z, NOISE).to_event(1)


class Encoder(AbstractRecognitionModel):
    """q(z | x), linear in x, which is the form of the optimum."""

    slope: jax.Array  # ()
    offset: jax.Array  # ()
    raw_scale: jax.Array  # ()

    def posterior(self, x):
        return Normal(self.slope * x + self.offset, positive_scale(self.raw_scale) * jnp.ones(1)).to_event(1)


def closed_form(x):
    """Exact posterior of theta, the best factorised one, its bound, and log p(X)."""
    n, s2 = len(x), NOISE**2
    exact = 1 / (1 + n / (1 + s2))
    mean = exact * x.sum() / (1 + s2)
    variance = 1 / (1 + n / s2)
    t2 = 1 / (1 + 1 / s2)  # of q(z | x), whose mean is t2 (x - mean) / s2
    mu = t2 * (x - mean) / s2
    log_likelihood = -0.5 * n * np.log(2 * np.pi * s2) - 0.5 * ((x - mean - mu) ** 2 + variance + t2).sum() / s2
    kl_z = 0.5 * (mu**2 + t2 - 1 - np.log(t2)).sum()
    bound = log_likelihood - kl_z - 0.5 * (mean**2 + variance - 1 - np.log(variance))
    covariance = (1 + s2) * np.eye(n) + 1.0
    log_evidence = -0.5 * (
        x @ np.linalg.solve(covariance, x) + np.linalg.slogdet(covariance)[1] + n * np.log(2 * np.pi)
    )
    return {"mean": mean, "exact_sd": exact**0.5, "factorised_sd": variance**0.5, "bound": bound, "log_p": log_evidence}


def main(num_epochs=1500):
    x = 0.7 + np.random.default_rng(0).normal(size=200) + NOISE * np.random.default_rng(1).normal(size=200)
    rows = x[:, None].astype(np.float32)
    zero = jnp.zeros(())
    schedule = aevb.train.Cosine().build(0.02, 4 * num_epochs)
    algorithm = aevb.train.full_vb(
        Offset(zero),
        Encoder(zero, zero, zero),
        aevb.estimators.SgvbB(10),
        aevb.train.Adam().build(schedule),
        num_examples=len(rows),
        init_scale=0.1,
    )
    objectives = []
    for state, summary in aevb.train.epochs(  # noqa: B007  (the last state is the result)
        algorithm, algorithm.init(jax.random.key(0)), rows, order_key=jax.random.key(1), batch_size=50,
        num_epochs=num_epochs,
    ):  # fmt: skip
        objectives.append(summary.objective)
    q = aevb.train.parameter_posterior(state)
    found = {
        "mean": float(q.loc.theta),
        "factorised_sd": float(q.scale.theta),
        "bound": len(rows) * float(np.mean(objectives[-200:])),
    }
    exact = closed_form(rows[:, 0].astype(np.float64))
    print(f"posterior mean of theta: {found['mean']:.4f}, exact {exact['mean']:.4f}")
    print(
        f"its standard deviation: {found['factorised_sd']:.4f}, best factorised {exact['factorised_sd']:.4f}, "
        f"exact posterior {exact['exact_sd']:.4f}"
    )
    print(
        f"bound on log p(X): {found['bound']:.2f} nats, its maximum {exact['bound']:.2f}, log p(X) {exact['log_p']:.2f}"
    )
    return found, exact


if __name__ == "__main__":
    main()
