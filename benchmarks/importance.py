"""Speed of importance sampling: against its matrix products alone, and against a plain PyTorch loop over rows.

    pip install -e '.[benchmark]'
    python benchmarks/importance.py            # writes benchmarks/importance.json, about 10 minutes

log p(x) of MNIST test rows with K = 5,000 samples each under a 784-200-200-50 model (tanh, weights as initialised:
their values do not change the work). Contestants take turns, so that a machine that speeds up or slows down does so
for all:

products  the decoder's three matrix products for as many samples, in the same batches, compiled by JAX; nothing else
aevb      `aevb.evaluate.importance_sampling`: noise, log-densities, log-sum-exp, error, effective sample size, k-hat
torch     the loop that most public code has: for each row, encode, draw K samples, decode, logsumexp

Reported: median seconds per 1,000 rows over rounds, and one run of `aevb` over all 10,000 rows.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path

import jax
import numpy as np

import aevb
from aevb.data import choose_preprocessing, fix
from aevb.models import Mlp, Vae

K, HIDDEN, J, D = 5000, 200, 50, 784


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def products(rows, batch):
    """As many products as `rows` times K samples need, `batch` samples at a time."""
    shapes = ((J, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, D))
    weights = [jax.random.normal(jax.random.key(i), shape) / 20 for i, shape in enumerate(shapes)]
    z = jax.random.normal(jax.random.key(9), (batch, J))

    @jax.jit
    def run(z, weights):
        def step(z, _):
            h = z
            for w in weights:
                h = h @ w
            return z + 1e-20 * h[:, :J], None  # each product depends on the last, so that none is left out

        return jax.lax.scan(step, z, None, length=rows * K // batch)[0]

    return lambda: jax.block_until_ready(run(z, weights))


def torch_loop(pair, x):
    import torch

    torch.set_num_threads(os.cpu_count())
    generative, recognition = pair

    def layers(trunk, *heads):
        return [(torch.tensor(np.asarray(w.weight)), torch.tensor(np.asarray(w.bias))) for w in (*trunk.layers, *heads)]

    encoder = layers(recognition.trunk, recognition.loc, recognition.raw_scale)
    decoder = layers(generative.trunk, generative.logits)
    rows = torch.tensor(x, dtype=torch.float32)

    @torch.no_grad()
    def run():
        for row in rows:
            h = row[None]
            for w, b in encoder[:-2]:
                h = torch.tanh(h @ w + b)
            loc, raw = (h @ w + b for w, b in encoder[-2:])
            scale = torch.exp(2 * torch.asinh(raw / 4))
            eps = torch.randn(K, J)
            z = h = loc + scale * eps
            for w, b in decoder[:-1]:
                h = torch.tanh(h @ w + b)
            logits = h @ decoder[-1][0] + decoder[-1][1]
            log_p = -torch.nn.functional.binary_cross_entropy_with_logits(
                logits, row.expand(K, D), reduction="none"
            ).sum(1)
            log_w = log_p - 0.5 * (z**2).sum(1) + 0.5 * (eps**2).sum(1) + torch.log(scale).sum()
            torch.logsumexp(log_w, 0)

    return run


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--all-rows", type=int, default=10_000)
    parser.add_argument("--out", default=Path(__file__).with_suffix(".json"), type=Path)
    args = parser.parse_args()
    data = aevb.data.load_test("mnist")
    x = fix(choose_preprocessing(data, "bernoulli", "dynamic", "auto"), data.rows, jax.random.key(784))
    pair = Vae(D, J, Mlp((HIDDEN, HIDDEN), "tanh")).build(key=jax.random.key(0))
    batches = {f"products, {batch} samples at a time": products(args.rows, batch) for batch in (500, 1000, 5000)}
    contestants = {
        **batches,
        "aevb": lambda: aevb.evaluate.importance_sampling(
            *pair, x[: args.rows], jax.random.key(1), num_samples=K, proposal="encoder"
        ),
        "torch": torch_loop(pair, x[: args.rows]),
    }
    contestants["aevb"]()  # compiles
    for run in batches.values():
        run()
    times = {name: [] for name in contestants}
    for _ in range(args.rounds):
        for name, run in contestants.items():
            times[name].append(seconds(run))
    medians = {name: round(float(np.median(each)), 2) for name, each in times.items()}
    # The fastest way to cut the products is the floor.
    floor = min(batches, key=lambda name: np.median(times[name]))
    ratio = float(np.median(np.array(times["aevb"]) / np.array(times[floor])))
    over_torch = float(np.median(np.array(times["torch"]) / np.array(times["aevb"])))
    whole = seconds(
        lambda: aevb.evaluate.importance_sampling(
            *pair, x[: args.all_rows], jax.random.key(1), num_samples=K, proposal="encoder"
        )
    )
    result = {
        "what": f"seconds for {args.rows} rows of {K} importance samples each, 784-200-200-50; contestants take turns",
        "rounds": args.rounds,
        "cpu_cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "torch")}
        | {"python": platform.python_version()},
        "seconds": medians,
        "aevb_over_products": round(ratio, 3),
        "speed_over_torch": round(over_torch, 3),
        "all_rows": {"rows": args.all_rows, "seconds": round(whole, 1)},
    }
    print(json.dumps(result, indent=2))
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
