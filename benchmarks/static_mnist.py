"""Statically binarised MNIST, 784-400-400-40: test log p(x) beside published values, by three methods.

    python benchmarks/static_mnist.py --data binarized_mnist.npz   # writes static_mnist_400-400.json, 45 minutes
    python benchmarks/static_mnist.py --data binarized_mnist.npz --hidden 400

The data are the binarisation of Larochelle & Murray (50,000 training, 10,000 validation, 10,000 test images), as one
.npz with `train`, `valid` and `test`, eight pixels to a byte. Training: ReLU, Adam 1e-4, batch 100, estimator B, up to
500 epochs, the parameters of the best validation ELBO. Published, importance sampling with 200 samples: 89.78 ± 0.01
and 89.9 nats (minus log p). The public script that the first of them is said to come from has one hidden layer of 400
units, and a second one in a comment; with one layer 1.6 nats or more are missing, with two none.

Reported: ELBO and importance sampling with 200 and 5,000 samples, with k-hat; annealed importance sampling from the
prior and from the encoder on some test rows, importance sampling on the same rows beside them, and the bidirectional
gap on rows simulated from the model.
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
from aevb import evaluate


def plain(mean):
    return {"mean": round(mean.value, 3), "standard_error": round(mean.standard_error, 3), "rows": mean.num_rows}


def fit(parts, hidden, epochs):
    return aevb.fit(
        parts["train"],
        validation=parts["valid"],
        test=parts["test"],
        hidden=hidden,
        latent_dim=40,
        activation="relu",
        likelihood="bernoulli",
        learning_rate=1e-4,
        batch_size=100,
        epochs=epochs,
        early_stopping=60,
        evaluation_samples=0,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", type=Path, help="file of the trained model: read if it exists, else written")
    parser.add_argument("--hidden", type=int, nargs="+", default=[400, 400])
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=100, help="rows for AIS")
    parser.add_argument("--is-rows", type=int, default=10_000, help="rows for importance sampling with --samples")
    parser.add_argument("--distributions", type=int, default=1000)
    parser.add_argument("--simulated", type=int, default=50)
    parser.add_argument("--out", type=Path, help="default: static_mnist_HIDDEN.json beside this script")
    args = parser.parse_args()
    layers = "-".join(map(str, args.hidden))
    out = args.out or Path(__file__).with_name(f"static_mnist_{layers}.json")
    with np.load(args.data) as file:
        parts = {name: np.unpackbits(file[name], axis=1) for name in ("train", "valid", "test")}
    if args.model and args.model.exists():
        fitted = aevb.load(args.model)
    else:
        fitted = fit(parts, tuple(args.hidden), args.epochs)
        if args.model:
            fitted.save(args.model)
    if fitted.config.model.network.hidden != tuple(args.hidden):
        parser.error(f"{args.model} has hidden layers {fitted.config.model.network.hidden}, not {tuple(args.hidden)}")
    pair = (fitted.generative, fitted.recognition)
    _, x = fitted.prepare(parts["test"])
    key = jax.random.key(0)
    result = {
        "what": f"test set of statically binarised MNIST, 784-{layers}-40, nats per row",
        "epochs": len(fitted.history),
        "best_validation_elbo": round(max(record["validation_elbo"] for record in fitted.history), 2),
        "elbo": plain(evaluate.mean(evaluate.elbo(*pair, x, key).bound)),
    }
    for k, num_rows in ((200, len(x)), (args.samples, args.is_rows)):
        start = time.perf_counter()
        spread = x[np.linspace(0, len(x) - 1, num_rows).astype(int)]
        whole = evaluate.importance_sampling(*pair, spread, key, num_samples=k, proposal="encoder")
        result[f"is_{k}"] = plain(evaluate.mean(whole.log_likelihood)) | {
            "standard_error_by_samples": float(np.sqrt(np.sum(whole.standard_error.astype(float) ** 2)) / num_rows),
            "median_effective_samples": round(float(np.median(whole.effective_sample_size)), 1),
            "share_khat_above_0.7": round(float(np.mean(whole.khat > 0.7)), 4),
            "seconds": round(time.perf_counter() - start, 1),
        }
        print(json.dumps(result, indent=2), flush=True)
    some = x[np.linspace(0, len(x) - 1, args.rows).astype(int)]
    same = evaluate.importance_sampling(*pair, some, key, num_samples=args.samples, proposal="encoder").log_likelihood
    result[f"is_{args.samples}_same_rows"] = plain(evaluate.mean(same))
    for start_from in ("prior", "encoder"):
        start = time.perf_counter()
        settings = evaluate.Annealing(num_distributions=args.distributions, start=start_from)
        ais = evaluate.annealed_importance_sampling(*pair, some, key, settings)
        result[f"ais_from_{start_from}"] = plain(evaluate.mean(ais.log_likelihood)) | {
            "less_is": plain(evaluate.mean(ais.log_likelihood - same)),
            "distributions": args.distributions,
            "median_effective_chains": round(float(np.median(ais.effective_sample_size)), 1),
            "seconds": round(time.perf_counter() - start, 1),
        }
        print(json.dumps(result, indent=2), flush=True)
    for start_from in ("prior", "encoder"):
        settings = evaluate.Annealing(num_distributions=args.distributions, start=start_from)
        both = evaluate.bidirectional_gap(*pair, args.simulated, key, settings)
        result[f"bidirectional_gap_from_{start_from}"] = plain(both.gap)
    result |= {
        "cpu_cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": importlib.metadata.version("jax"), "python": platform.python_version()},
    }
    print(json.dumps(result, indent=2))
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
