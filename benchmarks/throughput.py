"""Training speed against plain PyTorch and against the matrix products of the step alone, in one run.

    pip install -e '.[benchmark]'
    python benchmarks/throughput.py            # writes benchmarks/throughput.json, about 8 minutes

For each network, epochs over MNIST's 60,000 rows in minibatches of 100 take turns, so that a machine that speeds up
or slows down does so for all:

products  the matrix products of one step (forward, and backward to weights and activations), 600 times, compiled by
          JAX; nothing else. The floor.
aevb      what `aevb fit` runs: shuffling, preparation of the rows, per-row noise, SGVB B, Adam, the check for
          non-finite values, the metrics.
torch     plain PyTorch eager in a process of its own that idles between its turns; data as float32 in memory, fused
          Adam, the same network, loss and noise.

and what the rest of our time goes to, by leaving parts out:

no adam      plain SGD in Adam's stead: the difference is the optimiser's traffic over its moments
no noise     z = the posterior mean: the difference is the latent noise
bare         both of these

Reported are medians over rounds, and medians of the ratios of neighbours.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import aevb
from aevb.data import choose_preprocessing
from aevb.distributions import kl_divergence
from aevb.estimators import AbstractEstimator, Estimate
from aevb.models import BernoulliLikelihood, Mlp, Vae

BATCH = 100
NETWORKS = {"784-256-2": (256, 2, "relu"), "784-500-20": (500, 20, "tanh")}


class MeanOnly(AbstractEstimator):
    """Estimator B without its noise, to measure what the noise costs. Not an estimate of anything."""

    num_samples: int = eqx.field(static=True, default=1)

    def __call__(self, key, generative, recognition, x):
        q = recognition.posterior(x)
        kl = kl_divergence(q, generative.prior())
        log_likelihood = generative.likelihood(q.mean).log_prob(x)
        return Estimate(log_likelihood - kl, log_likelihood, kl)


def products(hidden: int, latent: int) -> Callable[[], None]:
    """One epoch of the step's matrix products."""
    keys = jax.random.split(jax.random.key(0), 6)
    normal = jax.random.normal
    xs = normal(keys[0], (600, BATCH, 784))
    w1, wm, ws = normal(keys[1], (hidden, 784)), normal(keys[2], (latent, hidden)), normal(keys[3], (latent, hidden))
    w3, w4 = normal(keys[4], (hidden, latent)), normal(keys[5], (784, hidden))
    weights = tuple(w * 0.01 for w in (w1, wm, ws, w3, w4))

    @jax.jit
    def epoch(xs, weights):
        w1, wm, ws, w3, w4 = weights

        def step(carry, x):
            h = x @ w1.T
            m, s = h @ wm.T, h @ ws.T
            d = m @ w3.T
            out = d @ w4.T
            g4, gd = out.T @ d, out @ w4
            g3, gz = gd.T @ m, gd @ w3
            gm, gs = gz.T @ h, (gz * s).T @ h
            gh = gz @ wm + (gz * s) @ ws
            return (gh.T @ x, gm, gs, g3, g4), None

        return jax.lax.scan(step, weights, xs)[0]

    return lambda: jax.block_until_ready(epoch(xs, weights))


def ours(
    hidden: int,
    latent: int,
    activation: str,
    binarization: str,
    rows,
    optimizer: optax.GradientTransformation,
    estimator: AbstractEstimator,
) -> Callable[[], None]:
    """One epoch of `aevb`."""
    preprocessing = choose_preprocessing(aevb.data.load("mnist"), BernoulliLikelihood(), binarization, "auto")
    spec = Vae(784, latent, Mlp((hidden,), activation), BernoulliLikelihood(preprocessing.grey))
    generative, recognition = spec.build(key=jax.random.key(0))
    algorithm = aevb.train.aevb(
        generative, recognition, estimator, optimizer, num_examples=len(rows), prepare=preprocessing
    )
    run = aevb.train.compile_epoch(algorithm, num_examples=len(rows), batch_size=BATCH)
    state, number = algorithm.init(jax.random.key(1)), 0
    key = jax.random.key(2)

    def epoch() -> None:
        nonlocal state, number
        state, metrics = run(state, rows, key, jnp.asarray(number, jnp.int32))
        jax.block_until_ready((state, metrics))
        number += 1

    return epoch


def torch_eager(hidden: int, latent: int, activation: str, binarization: str, rows) -> Callable[[], None]:
    """One epoch of plain PyTorch."""
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits

    torch.set_num_threads(os.cpu_count() or 1)
    data = torch.from_numpy(rows).float() / 255

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode, self.loc, self.log_var = (
                nn.Linear(784, hidden),
                nn.Linear(hidden, latent),
                nn.Linear(hidden, latent),
            )
            self.decode, self.logits = nn.Linear(latent, hidden), nn.Linear(hidden, 784)
            self.activation = {"relu": torch.relu, "tanh": torch.tanh}[activation]

        def forward(self, x):
            h = self.activation(self.encode(x))
            loc, log_var = self.loc(h), self.log_var(h)
            z = loc + torch.exp(0.5 * log_var) * torch.randn_like(loc)
            return self.logits(self.activation(self.decode(z))), loc, log_var

    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def epoch() -> None:
        order = torch.randperm(len(data))
        for start in range(0, len(data), BATCH):
            x = data[order[start : start + BATCH]]
            if binarization == "dynamic":
                x = torch.bernoulli(x)
            logits, loc, log_var = model(x)
            reconstruction = binary_cross_entropy_with_logits(logits, x, reduction="sum")
            kl = -0.5 * (1 + log_var - loc.square() - log_var.exp()).sum()
            loss = (reconstruction + kl) / len(x)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return epoch


def _torch_worker(pipe, *shape) -> None:
    epoch = torch_eager(*shape, np.array(aevb.data.load("mnist").rows))
    while pipe.recv():
        epoch()
        pipe.send(None)


def torch_apart(*shape) -> tuple[Callable[[], None], Callable[[], None]]:
    """PyTorch in a process of its own, idle between its turns, so that the two thread pools do not fight.

    Returns (run an epoch, end the process).
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_torch_worker, args=(there, *shape), daemon=True)
    process.start()

    def epoch() -> None:
        here.send(True)
        here.recv()
        time.sleep(0.5)  # until its threads have stopped spinning; not counted, see `measure`

    def stop() -> None:
        here.send(False)
        process.join()

    return epoch, stop


def measure(contestants: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; one warm-up round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, epoch in contestants.items():
            start = time.perf_counter()
            epoch()
            if number:
                times[name].append(time.perf_counter() - start - (0.5 if name == "torch" else 0.0))
    return times


def write_report(args: argparse.Namespace, results: list[dict]) -> None:
    """The JSON file."""
    versions = {"jax": jax.__version__, "python": platform.python_version()}
    if not args.no_torch:
        versions["torch"] = importlib.metadata.version("torch")
    report = {
        "what": "median seconds per epoch over MNIST, 60,000 rows, batch 100, Adam 1e-3; contestants take turns",
        "rounds": args.rounds,
        "cpu_cores": os.cpu_count(),
        "device": str(jax.devices()[0].platform),
        "versions": versions,
        "results": results,
    }
    args.out.write_text(json.dumps(report, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-torch", action="store_true", help="where PyTorch is not installed")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    dataset = aevb.data.load("mnist")
    device_rows = jax.device_put(dataset.rows)
    adam, sgd = optax.adam(1e-3), optax.sgd(1e-4)
    results = []
    for name, (hidden, latent, activation) in NETWORKS.items():
        for binarization in ("none", "dynamic"):
            shape = (hidden, latent, activation, binarization)
            contestants = {
                "products": products(hidden, latent),
                "aevb": ours(*shape, device_rows, adam, aevb.estimators.SgvbB()),
                "no adam": ours(*shape, device_rows, sgd, aevb.estimators.SgvbB()),
                "no noise": ours(*shape, device_rows, adam, MeanOnly()),
                "bare": ours(*shape, device_rows, sgd, MeanOnly()),
            }
            if not args.no_torch:
                contestants["torch"], stop = torch_apart(*shape)
            times = measure(contestants, args.rounds)
            if not args.no_torch:
                stop()
            median = {key: statistics.median(values) for key, values in times.items()}
            row = {
                "network": name,
                "activation": activation,
                "pixels": "grey" if binarization == "none" else "binarised afresh at each presentation",
                "seconds_per_epoch": {key: round(value, 4) for key, value in median.items()},
                "examples_per_second": round(len(dataset) / median["aevb"]),
                "aevb_over_products": round(
                    statistics.median(a / b for a, b in zip(times["aevb"], times["products"], strict=True)), 3
                ),
            }
            if "torch" in times:
                row["speed_over_torch"] = round(
                    statistics.median(a / b for a, b in zip(times["torch"], times["aevb"], strict=True)), 3
                )
            results.append(row)
            print(json.dumps(row), flush=True)
            write_report(args, results)  # after each row: a run that is cut short leaves what it measured


if __name__ == "__main__":
    main()
