"""Noise and cost of every estimator's gradient, on a trained model of MNIST.

    python benchmarks/estimators.py            # writes benchmarks/estimators.json, about 10 minutes

1. The table of `aevb compare-estimators` on a 784-200-200-50 model trained for 20 epochs by estimator B: variance,
   signal-to-noise ratio and milliseconds of a gradient, from the same parameters, the same 100 test rows, 200 draws.
2. Cost of a training step relative to estimator B with one sample: epochs over 3,000 rows, minibatches of 100, taking
   turns; medians of the ratios of neighbours.
3. A step of IWAE with K = 50 against its matrix products alone, also by turns, and the memory that XLA asks for at
   K = 5, 50, 500 and 5,000.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import aevb
from aevb.estimators import ESTIMATORS
from aevb.models import Mlp, Vae

BATCH, HIDDEN, LATENT = 100, 200, 50
MATCHED = (
    ("sgvb-b", 1), ("sgvb-a", 1), ("stl", 1), ("score", 1), ("iwae", 5), ("dreg", 5), ("vimco", 5), ("renyi", 5),
    ("ciwae", 5), ("miwae", 5), ("piwae", 5), ("iwae", 50), ("dreg", 50),
)  # fmt: skip


def table(epochs, draws):
    """Part 1."""
    fitted = aevb.fit(
        "mnist", latent_dim=LATENT, hidden=(HIDDEN, HIDDEN), epochs=epochs, estimator="sgvb-b", evaluation_samples=100
    )
    lines = []
    for line in fitted.compare_estimators(
        aevb.data.load_test("mnist"), num_rows=BATCH, num_samples=(1, 2, 5, 10, 50), num_draws=draws
    ):
        lines.append(line.to_dict())
        variance = {group: round(line.groups[group].variance, 4) for group in ("recognition", "generative")}
        print(line.estimator, line.num_samples, variance, flush=True)
    return {"epochs": epochs, "draws": draws, "test": fitted.result["evaluation"], "lines": lines}


def step_function(name, num_samples, rows):
    """An epoch over `rows` with this estimator, as training runs it."""
    pair = Vae(784, LATENT, Mlp((HIDDEN, HIDDEN), "tanh")).build(key=jax.random.key(0))
    algorithm = aevb.train.aevb(
        *pair, ESTIMATORS.make(name, num_samples=num_samples), optax.adam(1e-3), num_examples=len(rows)
    )
    epoch = aevb.train.compile_epoch(algorithm, num_examples=len(rows), batch_size=BATCH)
    box = [algorithm.init(jax.random.key(1))]

    def run():
        box[0], _ = epoch(box[0], rows, jax.random.key(2), jnp.int32(0))
        jax.block_until_ready(box[0])

    return run, algorithm


def products(num_samples, steps):
    """The matrix products of a step: the encoder on M rows, the decoder on M K, forward and backward."""
    keys = iter(jax.random.split(jax.random.key(0), 20))
    encoder = [(784, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 2 * LATENT)]
    decoder = [(LATENT, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 784)]
    weights = [0.01 * jax.random.normal(next(keys), shape) for shape in encoder + decoder]
    xs = jax.random.normal(next(keys), (steps, BATCH, 784))

    def forward_and_back(inputs, ws, first):
        """Activations by ws in turn; then gradients of weights and (but for data) of inputs."""
        acts = [inputs]
        for w in ws:
            acts.append(acts[-1] @ w)
        delta, grads = acts[-1], []
        for w, a in zip(reversed(ws), reversed(acts[:-1]), strict=True):
            grads.append(a.T @ delta)
            if not (first and w is ws[0]):
                delta = delta @ w.T
        return acts[-1], delta, grads

    @jax.jit
    def epoch(xs, weights):
        def step(carry, x):
            # The carry enters each step, so that nothing can be taken out of the loop.
            h, _, g1 = forward_and_back(x + carry, weights[:3], first=True)
            z = jnp.repeat(h[:, :LATENT], num_samples, axis=0)
            _, _, g2 = forward_and_back(z, weights[3:], first=False)
            return carry + 1e-20 * sum(g[0, 0] for g in g1 + g2), None

        return jax.lax.scan(step, jnp.zeros(()), xs)[0]

    return lambda: jax.block_until_ready(epoch(xs, weights))


def by_turns(functions, rounds):
    """Seconds of each function, round by round."""
    for function in functions.values():
        function()  # compiles
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds, name, base):
    return round(statistics.median(a / b for a, b in zip(seconds[name], seconds[base], strict=True)), 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    rows = jnp.asarray((aevb.data.load("mnist").rows[:3000] > 127).astype(np.uint8))
    report = {
        "what": __doc__.split("\n\n")[0],
        "model": "784-200-200-50, tanh, batch 100",
        "cpu_cores": os.cpu_count(),
        "device": platform.processor() or platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "equinox", "numpyro", "optax")},
    }

    functions = {f"{name} {k}": step_function(name, k, rows)[0] for name, k in MATCHED}
    seconds = by_turns(functions, args.rounds)
    report["step_cost_relative_to_sgvb_b"] = {name: ratio(seconds, name, "sgvb-b 1") for name in functions}
    print(report["step_cost_relative_to_sgvb_b"], flush=True)

    few = rows[:1000]
    pair = {"iwae 50": step_function("iwae", 50, few)[0], "products": products(50, len(few) // BATCH)}
    seconds = by_turns(pair, args.rounds)
    report["iwae_50"] = {
        "seconds_per_step": {name: round(statistics.median(s) / (len(few) // BATCH), 4) for name, s in seconds.items()},
        "over_products": ratio(seconds, "iwae 50", "products"),
    }
    report["iwae_temporary_megabytes"] = {}
    for k in (5, 50, 500, 5000):
        _, algorithm = step_function("iwae", k, few)
        batch = aevb.train.Batch(few[:BATCH], jnp.arange(BATCH))
        compiled = jax.jit(algorithm.step).lower(algorithm.init(jax.random.key(1)), batch).compile()
        report["iwae_temporary_megabytes"][str(k)] = round(compiled.memory_analysis().temp_size_in_bytes / 1e6, 1)
    print(report["iwae_50"], report["iwae_temporary_megabytes"], flush=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")

    report["gradients"] = table(args.epochs, args.draws)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
