"""An amortised hierarchical model on real data, with a latent that is not Gaussian: batting averages of 1970.

Hits in the first 45 at-bats of 18 players (Efron & Morris 1975, table 1):

    p_i ~ Beta(a, b),    hits_i ~ Binomial(45, p_i)

a and b are learnt by maximum marginal likelihood (empirical Bayes) together with an encoder q(p | hits) = Beta(.., ..).
The model gives only its `log_joint`, which is all that estimator A asks for; gradients reach Beta's parameters by
implicit reparameterisation. Here everything is known: hits_i are beta-binomial, and p_i given hits_i is
Beta(a + hits_i, b + 45 - hits_i), which the encoder can represent, so the bound should reach log p(X).

    python examples/batting.py
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.optimize
import scipy.stats

import aevb
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel

AT_BATS = 45
HITS = np.array([18, 17, 16, 15, 14, 14, 13, 12, 11, 11, 10, 10, 10, 10, 10, 9, 8, 7])


class BattingAverages(AbstractGenerativeModel):
    """p(x, z) of one player: x = (hits,), z = (probability of a hit,)."""

    logit_mean: jax.Array  # () of a / (a + b)
    log_strength: jax.Array  # () log(a + b)

    def _prior(self):
        mean, strength = jax.nn.sigmoid(self.logit_mean), jnp.exp(self.log_strength)
        return dist.Beta(mean * strength, (1 - mean) * strength)

    def log_joint(self, x, z):
        return self._prior().log_prob(z[0]) + dist.Binomial(AT_BATS, z[0]).log_prob(x[0])

    def sample(self, key):
        z_key, x_key = jax.random.split(key)
        z = self._prior().sample(z_key, (1,))
        return dist.Binomial(AT_BATS, z).sample(x_key).astype(z.dtype), z


class Encoder(AbstractRecognitionModel):
    """q(z | x) = Beta(e^u + e^v hits, e^w + e^v misses): conjugate in form, but u, v and w must be found."""

    u: jax.Array
    v: jax.Array
    w: jax.Array

    def posterior(self, x):
        weight = jnp.exp(self.v)
        return dist.Beta(jnp.exp(self.u) + weight * x, jnp.exp(self.w) + weight * (AT_BATS - x)).to_event(1)


def maximum_likelihood():
    """a, b and log p(X) at the maximum of the beta-binomial likelihood."""

    def negative(free):
        mean, strength = 1 / (1 + np.exp(-free[0])), np.exp(free[1])
        return -scipy.stats.betabinom.logpmf(HITS, AT_BATS, mean * strength, (1 - mean) * strength).sum()

    best = scipy.optimize.minimize(negative, [-1.0, 4.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    mean, strength = 1 / (1 + np.exp(-best.x[0])), np.exp(best.x[1])
    return mean * strength, (1 - mean) * strength, -best.fun


def main(num_epochs=3000):
    rows = HITS[:, None].astype(np.float32)
    generative = BattingAverages(jnp.array(-1.0), jnp.array(5.5))
    recognition = Encoder(jnp.array(4.0), jnp.array(0.0), jnp.array(5.0))
    optimizer = aevb.train.Adam().build(aevb.train.Cosine().build(0.02, num_epochs))
    algorithm = aevb.train.aevb(
        generative, recognition, aevb.estimators.StickingTheLanding(5), optimizer, num_examples=len(rows)
    )
    bounds = []
    for state, summary in aevb.train.epochs(  # noqa: B007  (the last state is the result)
        algorithm, algorithm.init(jax.random.key(0)), rows, order_key=jax.random.key(1), batch_size=len(rows),
        num_epochs=num_epochs,
    ):  # fmt: skip
        bounds.append(summary.bound)
    generative, recognition = algorithm.model(state)
    a, b, best = maximum_likelihood()
    q = [dist.Beta(*_concentrations(recognition, hits)) for hits in HITS]
    means = np.array([float(d.mean) for d in q])
    exact = (a + HITS) / (a + b + AT_BATS)
    bound = len(rows) * float(np.mean(bounds[-500:]))
    print(f"bound on log p(X): {bound:.3f} nats; maximum of the marginal likelihood {best:.3f}")
    print(f"average of all players: {float(jax.nn.sigmoid(generative.logit_mean)):.4f}, exact {a / (a + b):.4f}")
    print("player  hits/45  estimate  exact")
    for i in (0, 8, 17):
        print(f"{i + 1:>6}  {HITS[i] / AT_BATS:.3f}    {means[i]:.3f}     {exact[i]:.3f}")
    return bound, best, means, exact


def _concentrations(recognition, hits):
    q = recognition.posterior(jnp.array([float(hits)])).base_dist
    return q.concentration1[0], q.concentration0[0]


if __name__ == "__main__":
    main()
