"""Exact identities, recompilations, and reproducibility to the byte.

    pip install -e '.[test]'
    python benchmarks/exactness.py             # writes benchmarks/exactness.json, about a minute

Uses the closed forms of tests/_oracles.py and the linear VAE of tests/statistical/test_linear_vae.py, which hold the
same bounds in the test suite.
"""

import json
import platform
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import aevb
from aevb.estimators import SgvbA, SgvbB

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "statistical")]

import test_linear_vae as linear_vae  # noqa: E402
from _oracles import Problem, ppca_log_likelihood  # noqa: E402


def identity(x64: bool) -> float:
    """With q = p(z | x), every sample's log p(x, z) - log q(z | x) is log p(x): the largest error over 1,000 rows."""
    with jax.enable_x64(x64):
        problem = Problem.make(20, 4, 1000)
        rows = jnp.asarray(problem.rows, jnp.result_type(float))
        args = (problem.generative(), problem.recognition())
        keys = jax.random.split(jax.random.key(0), len(rows))
        bound = jax.vmap(SgvbA(), in_axes=(0, None, None, 0))(keys, *args, rows).bound
        # The same rows, rounded as the model sees them, go into the closed form.
        exact = problem._replace(rows=np.asarray(rows, np.float64)).log_marginal()
        return float(np.abs(np.asarray(bound, np.float64) - exact).max())


def agreement() -> dict[str, float]:
    """Means of A and B over 200,000 draws with a wrong q, and their difference in standard errors."""
    with jax.enable_x64(True):
        problem = Problem.make(20, 4, 1)
        args = (problem.generative(), problem.recognition(shift=0.3, scale=1.3))
        x = jnp.asarray(problem.rows[0])
        keys = jax.random.split(jax.random.key(1), (2, 200_000))
        a, b = (
            np.asarray(jax.jit(jax.vmap(lambda k, e=e: e(k, *args, x).bound))(k))
            for e, k in zip((SgvbA(), SgvbB()), keys, strict=True)
        )
        error = float(np.hypot(a.std() / np.sqrt(a.size), b.std() / np.sqrt(b.size)))
        return {
            "mean_a": round(float(a.mean()), 4),
            "mean_b": round(float(b.mean()), 4),
            "difference_in_standard_errors": round(abs(float(a.mean() - b.mean())) / error, 2),
            "variance_a": round(float(a.var()), 4),
            "variance_b": round(float(b.var()), 4),
        }


def probabilistic_pca() -> dict[str, float]:
    """A trained linear VAE's exact mean log p(x) against the maximum likelihood of probabilistic PCA."""
    decoder, _ = linear_vae.train()
    reached = float(linear_vae.log_marginal(decoder).mean())
    best = ppca_log_likelihood(linear_vae.ROWS, linear_vae.J)
    return {"maximum": round(best, 5), "reached": round(reached, 5), "gap": round(best - reached, 5)}


def recompilations() -> int:
    """How many more programs the second and third call of a compiled epoch make."""
    rows = np.random.default_rng(0).integers(0, 2, (1050, 20), dtype=np.uint8)
    generative, recognition = aevb.models.Vae(20, 2, aevb.models.Mlp((16,))).build(key=jax.random.key(0))
    optimizer = aevb.train.Adam().build(1e-3)
    algorithm = aevb.train.aevb(generative, recognition, SgvbB(), optimizer, num_examples=len(rows))
    run = aevb.train.compile_epoch(algorithm, num_examples=len(rows), batch_size=100)
    state, on_device = algorithm.init(jax.random.key(1)), jax.device_put(rows)
    sizes = []
    for epoch in range(3):
        state, _ = run(state, on_device, jax.random.key(2), jnp.asarray(epoch, jnp.int32))
        sizes.append(run._cache_size())
    return sizes[-1] - sizes[0]


def same_bytes() -> dict[str, bool]:
    """Two fits of MNIST with one seed."""
    fits = [aevb.fit("mnist", epochs=2, hidden=(64,), evaluation_samples=0, seed=3) for _ in range(2)]
    arrays = [
        [
            np.asarray(leaf).tobytes()
            for leaf in jax.tree.leaves(eqx.filter((f.generative, f.recognition), eqx.is_array))
        ]
        for f in fits
    ]
    timings = {"seconds", "examples_per_second"}
    metrics = [[{k: v for k, v in r.items() if k not in timings} for r in f.history] for f in fits]
    return {"arrays": arrays[0] == arrays[1], "metrics": json.dumps(metrics[0]) == json.dumps(metrics[1])}


def main() -> None:
    report = {
        "identity_largest_error_float64": identity(True),
        "identity_largest_error_float32": identity(False),
        "estimators_a_and_b": agreement(),
        "linear_vae_against_probabilistic_pca_nats_per_row": probabilistic_pca(),
        "recompilations_after_the_first_epoch": recompilations(),
        "same_seed_same_bytes": same_bytes(),
        "versions": {"aevb": aevb.__version__, "jax": jax.__version__, "python": platform.python_version()},
    }
    text = json.dumps(report, indent=2)
    print(text)
    Path(__file__).with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
