"""A convolutional auto-encoder on MNIST through the whole door: a network of one's own, everything else as it is.

Pixels are drawn as 0 or 1 with probability value / 255 by a transform: log p(x) is that of binary images.

    python examples/conv_vae.py [DIRECTORY]
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import aevb
from aevb.distributions import Bernoulli, Normal, positive_scale
from aevb.models import AbstractRecognitionModel, StandardNormalPrior

J = 10  # latent dimensions


@dataclasses.dataclass(frozen=True)
class Binarized(aevb.AbstractTransform):
    """0 or 1, with probability value / 255; `encode` sees the probability."""

    def __call__(self, key, row):
        return (jax.random.uniform(key, row.shape) < row / 255.0).astype(jnp.float32)

    def expected(self, row):
        return row / 255.0

    def inverse(self, x):
        return 255.0 * x


class ConvEncoder(AbstractRecognitionModel):
    """q(z | x): two strided convolutions, 28 x 28 -> 14 x 14 -> 7 x 7, then mean and scale."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    out: eqx.nn.Linear

    def posterior(self, x):
        h = jax.nn.relu(self.second(jax.nn.relu(self.first(x[None]))))
        loc, raw_scale = jnp.split(self.out(h.ravel()), 2)
        return Normal(loc, positive_scale(raw_scale)).to_event(1)


class ConvDecoder(StandardNormalPrior):
    """p(x | z): the way back, to the logits of 28 x 28 pixels."""

    first: eqx.nn.Linear
    second: eqx.nn.ConvTranspose2d
    out: eqx.nn.ConvTranspose2d
    latent_dim: int = J

    def likelihood(self, z):
        h = jax.nn.relu(self.first(z)).reshape(16, 7, 7)
        return Bernoulli(self.out(jax.nn.relu(self.second(h)))[0]).to_event(2)


def models(seed):
    k, form = jax.random.split(jax.random.key(seed), 6), {"kernel_size": 4, "stride": 2, "padding": 1}
    down = eqx.nn.Conv2d(1, 8, **form, key=k[0]), eqx.nn.Conv2d(8, 16, **form, key=k[1])
    up = eqx.nn.ConvTranspose2d(16, 8, **form, key=k[2]), eqx.nn.ConvTranspose2d(8, 1, **form, key=k[3])
    ends = eqx.nn.Linear(J, 784, key=k[4]), eqx.nn.Linear(784, 2 * J, key=k[5])
    return ConvDecoder(ends[0], *up), ConvEncoder(*down, ends[1])


def main(epochs=3, num_rows=5000, num_test=200, out=None):
    (out := Path(out or tempfile.mkdtemp())).mkdir(parents=True, exist_ok=True)
    rows = aevb.data.load("mnist").take(np.arange(num_rows))
    test = aevb.data.load_test("mnist").take(np.arange(num_test))
    options = {"transform": Binarized(), "validation": 0.0, "evaluation_samples": 0}
    fitted = aevb.fit_model(models(seed=0), rows, epochs=epochs, **options)
    report = aevb.reports.make_report(fitted, test, settings=aevb.reports.ReportSettings("is", 50, diagnostics=False))
    print("ELBO", fitted.evaluate(test, num_samples=0).bound, "nats")
    print("page:", aevb.reports.save_report(report, out, "convolutional VAE")[0])
    fitted.save(out / "model.safetensors")
    again = aevb.load(out / "model.safetensors", like=models(seed=1), transform=Binarized())
    assert np.array_equal(again.reconstruct(test), fitted.reconstruct(test))
    return again, report


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
