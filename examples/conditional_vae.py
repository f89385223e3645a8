"""A conditional auto-encoder, p(x | z, c) p(z | c), on labelled digits through the whole door; then digits to order.

An example is (x, c): 784 binarised pixels and a label as ten numbers, one of them 1. `split` says what of it is given.

    python examples/conditional_vae.py [DIRECTORY]
"""

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import aevb
from aevb.distributions import Bernoulli, Normal, positive_scale
from aevb.models import MLP, AbstractPriorLikelihood, AbstractRecognitionModel, Linear

J, D, LABELS = 5, 784, 10


class Digits(AbstractPriorLikelihood):
    """z ~ N(U c, I), x ~ Bernoulli(MLP(z, c))."""

    prior_mean: Linear
    network: MLP
    logits: Linear

    def split(self, x):
        return x[0], (x[1],)

    def prior(self, c):
        return Normal(self.prior_mean(c), 1.0).to_event(1)

    def likelihood(self, z, c):
        return Bernoulli(self.logits(self.network(jnp.concatenate([z, c])))).to_event(1)


class Encoder(AbstractRecognitionModel):
    """q(z | x, c)."""

    network: MLP
    out: Linear

    def posterior(self, x):
        loc, raw_scale = jnp.split(self.out(self.network(jnp.concatenate(x))), 2)
        return Normal(loc, positive_scale(raw_scale)).to_event(1)


def models(seed):
    k = jax.random.split(jax.random.key(seed), 5)
    generative = Digits(Linear(LABELS, J, key=k[0]), MLP(J + LABELS, (200,), key=k[1]), Linear(200, D, key=k[2]))
    return generative, Encoder(MLP(D + LABELS, (200,), key=k[3]), Linear(200, 2 * J, key=k[4]))


def labelled(dataset, num):
    """(x, c) of the first rows: a pixel is 1 where it is brighter than half."""
    return (dataset.rows[:num] >= 128).astype(np.uint8), np.eye(LABELS, dtype=np.uint8)[dataset.labels[:num]]


def main(epochs=10, num_rows=20_000, num_test=1000, diagnostics=True, out=None):
    out = Path(out or tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    rows, test = labelled(aevb.data.load("mnist"), num_rows), labelled(aevb.data.load_test("mnist"), num_test)
    fitted = aevb.fit_model(models(seed=0), rows, test=test, epochs=epochs, validation=0.0, evaluation_samples=100)
    found = fitted.evaluate(test)
    print(f"ELBO {found.bound}, log p(x | c) at least {found.log_likelihood} nats")
    digits = fitted.sample(40, seed=0, given=np.repeat(np.eye(LABELS), 4, axis=0))  # four of each

    settings = aevb.reports.ReportSettings("is", 100, diagnostics=diagnostics)
    report = aevb.reports.make_report(fitted, test, settings=settings)
    print("page:", aevb.reports.save_report(report, out, "conditional VAE")[0])
    fitted.save(out / "model.safetensors")
    again = aevb.load(out / "model.safetensors", like=models(seed=1))
    assert np.array_equal(again.encode(test).mean, fitted.encode(test).mean)
    return fitted, digits


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
