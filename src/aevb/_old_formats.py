"""What model files of older formats say, in today's words. They are read for ever; `tests/golden` holds some of each.

- Format 1 called the reconstruction term log_likelihood, and had log densities of the scaled data.
- Formats 1 and 2 had a flat "architecture" in the place of specs, and other names of arrays.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from aevb.models import LIKELIHOODS, NETWORKS, POSTERIORS, PRIORS, Vae

_ARCHITECTURE = {
    "data_dim", "latent_dim", "hidden", "activation", "likelihood", "grey", "sigmoid_mean", "min_scale", "posterior",
    "prior", "prior_components", "flow_steps", "flow_hidden",
}  # fmt: skip
# Fields that came after the first files, and what their absence means.
_CAME_LATER = {"posterior": "gaussian", "prior": "normal", "prior_components": 0, "flow_steps": 0, "flow_hidden": []}


def vae_of(architecture: Any, arrays: Mapping[str, np.ndarray]) -> Vae:
    """The spec of a flat architecture, of formats 1 and 2.

    Raises:
        ValueError: it is not of that form.
    """
    if not isinstance(architecture, dict) or not _ARCHITECTURE - set(_CAME_LATER) <= set(architecture) <= _ARCHITECTURE:
        raise ValueError(f"the architecture must be an object of the fields {sorted(_ARCHITECTURE)}")
    a = {**_CAME_LATER, **architecture}
    scaled = {"sigmoid_mean": a["sigmoid_mean"], "min_scale": a["min_scale"]}
    likelihoods = {
        "bernoulli": {"grey": a["grey"]},
        "continuous-bernoulli": {},
        "gaussian": scaled,
        "discretized-logistic": scaled,
    }
    if a["likelihood"] not in likelihoods:
        raise ValueError(f"formats 1 and 2 had no likelihood {a['likelihood']!r}")
    flow = {"steps": a["flow_steps"], "hidden": a["flow_hidden"], "activation": a["activation"]}
    components = {"components": a["prior_components"]}
    options = {"iaf": flow, "coupling": flow, "flow": flow, "mixture": components, "vamp": components}
    posterior = POSTERIORS.make(a["posterior"], **options.get(a["posterior"], {}))
    return Vae(
        a["data_dim"],
        a["latent_dim"],
        NETWORKS.make("mlp", hidden=a["hidden"], activation=a["activation"]),
        LIKELIHOODS.make(a["likelihood"], **likelihoods[a["likelihood"]]),
        posterior,
        PRIORS.make(a["prior"], **options.get(a["prior"], {})),
        raw_angles=posterior.is_angle and _sees_raw_angles(arrays, a["latent_dim"]),
    )


def _sees_raw_angles(arrays: Mapping[str, np.ndarray], latent_dim: int) -> bool:
    """The first files of angles had decoders that saw J numbers, and not their cosines and sines."""
    names = ("generative.trunk.layers[0].weight", "generative.loc.weight", "generative.logits.weight")
    first = next((arrays[name] for name in names if name in arrays), None)
    return first is not None and first.shape[:1] == (latent_dim,)


def renamed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of formats 1 and 2 by today's names."""
    return {_renamed(name): array for name, array in arrays.items()}


def _renamed(name: str) -> str:
    half, _, rest = name.partition(".")
    part, _, leaf = rest.partition(".")
    if part in ("loc", "raw_scale", "raw_lower", "logits"):
        return f"{half}.maps['{part}'].{leaf}"
    if part == "trunk":
        return f"{half}.network.{leaf}"
    return f"{half}.maps{rest.removeprefix('heads')}" if part.startswith("heads[") else name


# Log densities in a history or result of format 1.
_OLD = ("elbo", "log_likelihood", "bound", "objective")


def upgraded(content: dict[str, Any], units: float) -> dict[str, Any]:
    """History or result of a file of format 1.

    Args:
        content: of the file.
        units: nats by which a log density in the data's own units is above that of the scaled data.
    """
    new: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            value = upgraded(value, units) if name == "evaluation" else value
            if name.endswith(_OLD) and isinstance(value.get("mean"), float):
                value = {**value, "mean": value["mean"] + units}
        elif name.endswith(_OLD) and isinstance(value, float):
            value = value + units
        plain = name in ("log_likelihood", "train_log_likelihood", "validation_log_likelihood")
        new[name.replace("log_likelihood", "reconstruction") if plain else name] = value
    return new
