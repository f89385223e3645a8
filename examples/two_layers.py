"""Two stochastic layers, x <- h1 <- h2, on digits through the whole door (Burda, Grosse & Salakhutdinov 2016).

q(h1 | x) q(h2 | h1) and p(h2) p(h1 | h2) p(x | h1) are drawn in opposite orders, and both are over z = (h1, h2).
Smaller than the paper's, whose layers have 100 and 50 dimensions and whose networks have 200 and 100 units.

    python examples/two_layers.py [DIRECTORY]
"""

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import aevb
from aevb.distributions import Bernoulli, Normal, Sequential, positive_scale, split_layers
from aevb.models import MLP, AbstractPriorLikelihood, AbstractRecognitionModel, Linear

SIZES = {"h1": 20, "h2": 10}  # where each layer lies in z: the same for q and p
H1, H2, D = *SIZES.values(), 784


class Gaussian(AbstractRecognitionModel):
    """N(loc, scale) of one layer, from what is below or above it."""

    network: MLP
    out: Linear

    def posterior(self, x):
        loc, raw_scale = jnp.split(self.out(self.network(x)), 2)
        return Normal(loc, positive_scale(raw_scale)).to_event(1)


class Generative(AbstractPriorLikelihood):
    h1_given_h2: Gaussian
    network: MLP
    logits: Linear

    def prior(self):
        h2 = Normal(jnp.zeros(H2), 1.0).to_event(1)
        return Sequential(SIZES, {"h2": h2, "h1": lambda drawn: self.h1_given_h2.posterior(drawn["h2"])})

    def likelihood(self, z):
        return Bernoulli(self.logits(self.network(split_layers(z, SIZES)["h1"]))).to_event(1)


class Recognition(AbstractRecognitionModel):
    h1_given_x: Gaussian
    h2_given_h1: Gaussian

    def posterior(self, x):
        h1 = self.h1_given_x.posterior(x)
        return Sequential(SIZES, {"h1": h1, "h2": lambda drawn: self.h2_given_h1.posterior(drawn["h1"])})


def models(seed):
    def gaussian(key, num_in, hidden, num_out):
        keys = jax.random.split(key)
        return Gaussian(MLP(num_in, (hidden,), key=keys[0]), Linear(hidden, 2 * num_out, key=keys[1]))

    k = jax.random.split(jax.random.key(seed), 5)
    generative = Generative(gaussian(k[0], H2, 50, H1), MLP(H1, (200,), key=k[1]), Linear(200, D, key=k[2]))
    return generative, Recognition(gaussian(k[3], D, 200, H1), gaussian(k[4], H1, 50, H2))


def main(epochs=20, num_rows=20_000, num_test=1000, out=None):
    out = Path(out or tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    rows = (aevb.data.load("mnist").rows[:num_rows] >= 128).astype(np.uint8)
    test = (aevb.data.load_test("mnist").rows[:num_test] >= 128).astype(np.uint8)
    options = {"epochs": epochs, "estimator": "iwae", "num_samples": 5, "validation": 0.0, "evaluation_samples": 100}
    fitted = aevb.fit_model(models(seed=0), rows, test=test, **options)
    found = fitted.evaluate(test)
    print(f"ELBO {found.bound}, log p(x) at least {found.log_likelihood}, KL {found.kl} nats; of the latter")
    print(", ".join(f"{kl} by {name}" for name, kl in found.kl_per_layer.items()))

    settings = aevb.reports.ReportSettings("is", 100, diagnostics=epochs > 1)
    report = aevb.reports.make_report(fitted, test, settings=settings)
    print("page:", aevb.reports.save_report(report, out, "two stochastic layers")[0])
    fitted.save(out / "model.safetensors")
    again = aevb.load(out / "model.safetensors", like=models(seed=1))
    assert np.array_equal(again.encode(test).mean, fitted.encode(test).mean)
    return fitted, report


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
