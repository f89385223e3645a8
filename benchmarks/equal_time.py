"""Estimators against each other at equal wall-clock time: IWAE-5 against DReG-5, and SGVB B against STL.

    python benchmarks/equal_time.py            # writes benchmarks/equal_time.json, about 30 minutes

Model 784-200-200-50, tanh, Adam 1e-3, batch 100, dynamically binarised MNIST (all 60,000 training rows). The two of a
pair run side by side, each in a process of its own on a core of its own, for the same number of seconds of training
after compilation. Reported: log p(x) of the 10,000 test images, binarised once, by importance sampling with K = 1,000,
its standard error over rows, and the standard error of the paired difference.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import time
from pathlib import Path

import numpy as np

PAIRS = ((("iwae", 5), ("dreg", 5)), (("sgvb-b", 1), ("stl", 1)))


def train(name, num_samples, core, seconds, evaluation_samples, channel):
    """Train one estimator for `seconds` on one core, and send what came out."""
    os.sched_setaffinity(0, {core})
    import jax
    import jax.numpy as jnp

    import aevb
    from aevb.data import choose_preprocessing, fix
    from aevb.models import Mlp, Vae

    data = aevb.data.load("mnist")
    prepare = choose_preprocessing(data, "bernoulli", "dynamic", "auto")
    pair = Vae(784, 50, Mlp((200, 200), "tanh")).build(key=jax.random.key(0))
    estimator = aevb.estimators.ESTIMATORS.make(name, num_samples=num_samples)
    optimizer = aevb.train.Adam().build(aevb.train.Constant().build(1e-3, 1))
    algorithm = aevb.train.aevb(*pair, estimator, optimizer, num_examples=len(data), prepare=prepare)
    state, rows = algorithm.init(jax.random.key(1)), jnp.asarray(data.rows)
    epoch = aevb.train.compile_epoch(algorithm, num_examples=len(data), batch_size=100)
    state = jax.block_until_ready(epoch(state, rows, jax.random.key(2), jnp.int32(0)))[0]  # compiles
    num_epochs, start = 1, time.perf_counter()
    while time.perf_counter() - start < seconds:
        state, metrics = epoch(state, rows, jax.random.key(2), jnp.int32(num_epochs))
        bound = float(np.mean(jax.device_get(metrics.bound)))
        num_epochs += 1
    trained = time.perf_counter() - start
    test = fix(prepare, aevb.data.load_test("mnist").rows, jax.random.key(784))
    models = algorithm.model(state)
    log_p = aevb.evaluate.log_likelihood(
        *models, test, jax.random.key(3), num_samples=evaluation_samples, proposal="encoder"
    )
    elbo = aevb.evaluate.elbo(*models, test, jax.random.key(4)).bound
    channel.send((name, num_samples, num_epochs, trained, bound, log_p, elbo))


def run_pair(pair, seconds, evaluation_samples):
    """Both of a pair at once; their results, and the paired difference of the second over the first."""
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))
    channels, processes = [], []
    for (name, num_samples), core in zip(pair, (cores[0], cores[-1]), strict=True):
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=train, args=(name, num_samples, core, seconds, evaluation_samples, send))
        process.start()
        channels.append(receive)
        processes.append(process)
    outcomes = [channel.recv() for channel in channels]
    for process in processes:
        process.join()
    results = []
    for name, num_samples, num_epochs, trained, bound, log_p, elbo in outcomes:
        results.append(
            {
                "estimator": name,
                "num_samples": num_samples,
                "epochs": num_epochs,
                "train_seconds": round(trained, 1),
                "train_bound_last_epoch": round(bound, 3),
                "test_log_likelihood": round(float(log_p.mean(dtype=np.float64)), 3),
                "standard_error": round(float(log_p.std(ddof=1) / len(log_p) ** 0.5), 3),
                "test_elbo": round(float(elbo.mean(dtype=np.float64)), 3),
            }
        )
    difference = (outcomes[1][5] - outcomes[0][5]).astype(np.float64)
    return {
        "runs": results,
        "second_minus_first": round(float(difference.mean()), 3),
        "standard_error_of_difference": round(float(difference.std(ddof=1) / len(difference) ** 0.5), 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each")
    parser.add_argument("--samples", type=int, default=1000, help="K of the evaluation")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    report = {
        "what": __doc__.split("\n\n")[0],
        "model": "784-200-200-50, tanh, Adam 1e-3, batch 100, dynamically binarised MNIST; one seed each",
        "minutes": args.minutes,
        "evaluation_samples": args.samples,
        "cores_each": 1,
        "device": platform.processor() or platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "equinox", "numpyro", "numpy")},
        "pairs": [],
    }
    for pair in PAIRS:
        report["pairs"].append(run_pair(pair, 60 * args.minutes, args.samples))
        print(json.dumps(report["pairs"][-1]), flush=True)
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
