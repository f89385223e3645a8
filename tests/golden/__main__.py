"""Write small model files of the format that this aevb writes, and the numbers that they must give for ever.

    python -m tests.golden

Between them they hold each likelihood, each posterior and each prior. A release that changes the format writes its own
folder once, and leaves those of the formats before as they are: `unit/test_golden.py` reads them all.
"""

import json
import sys
import warnings
from pathlib import Path

import jax
import numpy as np

import aevb
from aevb import modelfile

HERE = Path(__file__).parent

_BITS = np.random.default_rng(1).integers(0, 2, (40, 4), dtype=np.uint8)
_GREY = np.random.default_rng(2).integers(0, 256, (40, 2, 2), dtype=np.uint8)
_REAL = np.random.default_rng(3).normal([5.0, -300.0, 0.1, 0.0], [1.0, 40.0, 0.01, 2.0], (40, 4)).astype(np.float32)
_UNIT = np.random.default_rng(4).uniform(0.05, 0.95, (40, 4)).astype(np.float32)

# Data and options of each kind of likelihood.
LIKELIHOODS = {
    "bernoulli": (_BITS, {"likelihood": "bernoulli"}),
    "bernoulli-dynamic": (_GREY, {"likelihood": "bernoulli"}),
    "bernoulli-threshold": (_GREY, {"likelihood": "bernoulli", "binarization": "threshold"}),
    "cross-entropy": (_GREY, {"likelihood": "bernoulli", "binarization": "none"}),
    "gaussian": (_REAL, {"likelihood": "gaussian"}),
    "gaussian-sigmoid": (_UNIT, {"likelihood": "gaussian", "sigmoid_mean": True, "scaling": "none"}),
    "continuous-bernoulli": (_GREY, {"likelihood": "continuous-bernoulli"}),
    "discretized-logistic": (_GREY, {"likelihood": "discretized-logistic", "min_scale": 0.01}),
    "laplace": (_REAL, {"likelihood": "laplace"}),
    "student-t": (_REAL, {"likelihood": "student-t", "df": 7.0}),
}
_FLOW = {"flow_steps": 2, "flow_hidden": (5,)}
_OPTIONS = {"iaf": _FLOW, "coupling": _FLOW, "flow": _FLOW, "mixture": {"prior_components": 3}}
_OPTIONS["vamp"] = _OPTIONS["mixture"]


def cases() -> dict[str, tuple[np.ndarray, dict]]:
    """Data and options of each file, by its name."""
    from aevb.models import POSTERIORS, PRIORS, choose_latents

    pairs = [choose_latents(POSTERIORS.make(kind), None) for kind in POSTERIORS.kinds]
    pairs = [(posterior.kind, prior.kind) for posterior, prior in pairs]
    met = {prior for _, prior in pairs}
    pairs += [(choose_latents(None, PRIORS.make(kind))[0].kind, kind) for kind in PRIORS.kinds if kind not in met]
    pairs += [("full-covariance", "vamp"), ("coupling", "flow")]
    found = {}
    for i, (posterior, prior) in enumerate(pairs):
        name = list(LIKELIHOODS)[i % len(LIKELIHOODS)]
        rows, options = LIKELIHOODS[name]
        options = {**options, **_OPTIONS.get(posterior, {}), **_OPTIONS.get(prior, {})}
        found[f"{name}_{posterior}_{prior}"] = rows, {**options, "posterior": posterior, "prior": prior}
    return found


def few(found: dict) -> dict:
    """Those that have a likelihood, or a kind with options, that none before them has. Format 4 differs from 3 in its
    configuration alone."""
    met: set[str] = set()
    kept = {}
    for name, case in found.items():
        likelihood, *latents = name.split("_")
        new = {likelihood, *(kind for kind in latents if kind in _OPTIONS or kind == "elliptical")} - met
        met |= new
        if new:
            kept[name] = case
    return kept


def numbers(fitted: "aevb.FittedModel", rows: np.ndarray) -> dict:
    """What a model says of three rows: x and z, the densities at them, and the verbs that need no sampling."""
    x = np.asarray(fitted.prepare(rows[:3])[1], np.float32)
    keys = jax.random.split(jax.random.key(5), 3)
    z = jax.jit(jax.vmap(lambda key, x: fitted.recognition.posterior(x).sample(key)))(keys, x)
    latents = fitted.encode(rows[:3])
    values = {
        "x": x, "z": z, **densities(fitted, x, z), "mean": latents.mean, "scale": latents.scale,
        "decoded": fitted.decode(np.asarray(z)),
    }  # fmt: skip
    return {name: np.asarray(value, np.float64).tolist() for name, value in values.items()}


def densities(fitted: "aevb.FittedModel", x: np.ndarray, z: np.ndarray) -> dict:
    """log p(x, z), log p(z) and log q(z | x) of three rows."""

    def of_one(x, z):
        joint, prior = fitted.generative.log_joint(x, z), fitted.generative.prior().log_prob(z)
        return {
            "log_joint": joint,
            "log_prior": prior,
            "log_posterior": fitted.recognition.posterior(x).log_prob(z),
        }

    return jax.jit(jax.vmap(of_one))(x, z)


def main() -> None:
    """Write the folder of today's format, if it is not there yet."""
    folder = HERE / f"format{modelfile.FORMAT}"
    if folder.exists():
        sys.exit(f"{folder} is there already: golden files are written once and never changed")
    folder.mkdir()
    expected = {}
    for name, (rows, options) in few(cases()).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", aevb.GuessWarning)
            fitted = aevb.fit(
                rows, latent_dim=2, hidden=(5,), epochs=1, batch_size=20, evaluation_samples=0, quiet=True,
                validation=0.0, **options,
            )  # fmt: skip
        fitted.save(folder / f"{name}.safetensors")
        expected[name] = numbers(fitted, rows)
        print(name)
    (folder / "numbers.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
