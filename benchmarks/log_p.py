"""How far each method's log p(x) is from the truth: from quadrature at J = 2, from annealing from the prior above.

    python benchmarks/log_p.py                 # writes benchmarks/log_p.json; half an hour on two cores
    python benchmarks/log_p.py --rows 20 --latents 2 --epochs 2   # a look

Trains `aevb fit mnist` (784-256-256-J, dynamic binarisation) for each J, 30 epochs at J = 2 as the default is, and
takes the first test rows. For each J: the ELBO; importance sampling with K samples from q(z | x) and from the defensive
mixture, and their effective sample sizes; and at J = 2 and 20 annealing from the prior and from the mixture, and below
five dimensions the harmonic mean. `less_reference` is the mean of a method's values less the reference's over the rows,
with its standard error; `claimed_error` what the method says of the mean's own noise, the rows being these.
"""

import argparse
import importlib.metadata
import json
import platform
from pathlib import Path

import jax
import numpy as np

import aevb
from aevb import evaluate

ANNEALED = (2, 20)  # dimensions at which the chains run


def described(log_p, reference, claimed=None, effective=None):
    difference = evaluate.mean(np.asarray(log_p, np.float64) - reference)
    found = {
        "mean": round(float(np.mean(log_p)), 3),
        "less_reference": round(difference.value, 3),
        "standard_error": round(difference.standard_error, 3),
        "largest_miss": round(float(np.max(np.abs(log_p - reference))), 2),
    }
    if claimed is not None:
        found["claimed_error"] = round(float(np.sqrt(np.sum(np.asarray(claimed, np.float64) ** 2)) / len(claimed)), 3)
    if effective is not None:
        found["median_effective_sample_size"] = round(float(np.median(effective)), 1)
    return found


def of_latents(latent_dim, args):
    epochs = args.epochs or (30 if latent_dim == 2 else 6)
    fitted = aevb.fit("mnist", latent_dim=latent_dim, epochs=epochs, evaluation_samples=0)
    _, x = fitted.prepare(aevb.data.load_test("mnist").take(np.arange(args.rows)))
    pair, key = (fitted.generative, fitted.recognition), jax.random.key(0)
    values = {"elbo": (evaluate.elbo(*pair, x, key, estimator=aevb.estimators.SgvbB(100)).bound,)}
    for proposal in ("encoder", "defensive"):
        for k in args.samples:
            found = evaluate.importance_sampling(*pair, x, key, num_samples=k, proposal=proposal)
            errors = (found.standard_error, found.effective_sample_size)
            values[f"importance sampling, {proposal}, K = {k}"] = (found.log_likelihood, *errors)
    if latent_dim in ANNEALED:
        for start in ("prior", "encoder"):
            settings = evaluate.Annealing(num_distributions=args.distributions, start=start)
            found = evaluate.annealed_importance_sampling(*pair, x, key, settings)
            errors = (found.standard_error, found.effective_sample_size)
            values[f"annealing, start {start}, T = {args.distributions}"] = (found.log_likelihood, *errors)
    if latent_dim < 5:
        found = evaluate.harmonic_log_likelihood(*pair, x, key)
        values["harmonic mean"] = (found.log_likelihood, found.standard_error, found.effective_sample_size)
    result = {"epochs": epochs, "components": evaluate.proposal_components(*pair, x[0])}
    if evaluate.has_quadrature(fitted.generative):
        found = evaluate.quadrature_log_likelihood(fitted.generative, x, fitted.recognition)
        reference, result["reference"] = found.log_likelihood, "quadrature"
        result["quadrature"] = {
            "mean": round(float(reference.mean()), 3),
            "largest_error": round(float(found.error.max()), 4),
        }
    else:
        best = next((name for name in values if name.startswith("annealing, start prior")), None)
        # Without annealing: the largest estimate that is unbiased or low, as the mean of the defensive ones.
        best = best or f"importance sampling, defensive, K = {max(args.samples)}"
        reference, result["reference"] = np.asarray(values[best][0], np.float64), best
    result["methods"] = {name: described(found[0], reference, *found[1:]) for name, found in values.items()}
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--latents", type=int, nargs="+", default=[2, 5, 20, 50])
    parser.add_argument("--samples", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--distributions", type=int, default=1000)
    parser.add_argument("--epochs", type=int, help="of every fit; default: 30 at J = 2, 6 above")
    parser.add_argument("--out", default=Path(__file__).with_suffix(".json"), type=Path)
    args = parser.parse_args()
    result = {
        "what": "nats per row, MNIST test rows binarised once, 784-256-256-J; no timings",
        "settings": {name: value for name, value in vars(args).items() if name != "out"},
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": importlib.metadata.version("jax"), "python": platform.python_version()},
        "latents": {},
    }
    for latent_dim in args.latents:
        result["latents"][str(latent_dim)] = of_latents(latent_dim, args)
        print(json.dumps(result["latents"][str(latent_dim)], indent=2), flush=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
