"""What importance sampling saves by asking a flow for the density of its own draws alone.

    python benchmarks/flow_density.py          # writes benchmarks/flow_density.json, about a minute

log p(x) of rows of 100 bits under a model with an inverse autoregressive flow over J = 40 dimensions, 1,000 samples a
row. `own` is what the library does: log q comes with each draw. `inverse` asks for log q at the same draws, which costs
the flow J passes for each. The two take turns; told are the medians and the quartiles of the ratio of neighbours.
"""

import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path

import jax
import numpy as np

from aevb.distributions import rsample_and_log_prob
from aevb.estimators import log_mean_exp
from aevb.models import Iaf, Mlp, Vae, log_joint_of, posterior_of

D, J, K, ROWS, ROUNDS = 100, 40, 1000, 8, 9


def main() -> None:
    """Measure and write."""
    generative, recognition = Vae(D, J, Mlp((64,)), posterior=Iaf()).build(key=jax.random.key(0))
    rows = np.random.default_rng(0).integers(0, 2, (ROWS, D)).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), ROWS)

    def log_p(key, x, ask_inverse):
        q = posterior_of(recognition, x)
        z, log_q = rsample_and_log_prob(q, key, (K,))
        log_q = q.log_prob(z) if ask_inverse else log_q
        return log_mean_exp(jax.vmap(lambda z: log_joint_of(generative, x, z))(z) - log_q)

    def of_all(ask_inverse):
        # Row after row, as evaluation does where memory is short: each row's samples are one batch.
        return jax.jit(lambda: jax.lax.map(lambda one: log_p(*one, ask_inverse), (keys, rows)))

    ways = {"own": of_all(False), "inverse": of_all(True)}
    found = {name: np.asarray(run()) for name, run in ways.items()}  # compiles
    seconds = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, run in ways.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    told = {
        "milliseconds_per_row": {name: 1e3 * float(np.median(each)) / ROWS for name, each in seconds.items()},
        "inverse_over_own": [
            float(ratio) for ratio in np.quantile(np.divide(seconds["inverse"], seconds["own"]), [0.25, 0.5, 0.75])
        ],
        "largest_difference_in_nats": float(np.max(np.abs(found["own"] - found["inverse"]))),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "jax": importlib.metadata.version("jax"),
    }
    print(json.dumps(told, indent=2))
    Path(__file__).with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
