"""What the verbs of a fitted model return, and what their noise is made of."""

import dataclasses
import enum
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from aevb import evaluate
from aevb.data import DataInfo

# How log p(x) is computed; "auto" is "quadrature" for one or two latent dimensions, and "is", importance sampling, for
# more or where a number of samples is given.
Method = Literal["auto", "quadrature", "is"]
NUM_SAMPLES = 100  # of importance sampling, where none are named
_KEYS = {"quadrature": "quadrature_log_likelihood", "is": "importance_sampled_log_likelihood"}


class Purpose(enum.IntEnum):
    """What the noise of evaluation is for, and what its key is folded with."""

    ELBO, IMPORTANCE, GRADIENTS, CHOICE, CHAINS, SIMULATED, LATENT, GAPS, CALIBRATION, PREDICTIVE, GENERATION = range(
        11
    )


class Latents(NamedTuple):
    """Mean and standard deviation of q(z | x) for each row: two arrays of shape (N, J).

    Families whose moments need not exist or overflow (Cauchy, Student's t, Pareto, log-normal, Weibull), or that have
    none in closed form (F, Gompertz, flows), give their median and half the distance between their 16 % and 84 %
    quantiles; for a Gaussian the two are the same. A flow's quantiles are those of 1,000 draws with a fixed key, and so
    are the moments of a layer that is drawn given others (`aevb.distributions.location_and_scale`).
    """

    mean: Float[np.ndarray, "N J"]
    scale: Float[np.ndarray, "N J"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How good a model is on some rows; all in nats per example, higher is better (but `kl`).

    Log densities are in the data's own units; less `log_jacobian` they are those of the scaled data.

    `bound` is the ELBO, `reconstruction` its term E_q[log p(x | z)], `kl` its other term, D_KL(q(z | x) || p(z)): in
    closed form, or where there is none, from the same sample of z (`kl_is_exact` says which); both None for a model
    that has log p(x, z) in one piece. `kl_per_layer` is what each layer of a latent in layers adds to it, from the same
    sample, and need be no divergence by itself: see `aevb.estimators.Estimate`.
    `log_likelihood` is log p(x) by `method`, "quadrature" or "is" (importance sampling, with `num_samples` a row); None
    where it was not asked for, or where the model has no likelihood (grey pixels under a Bernoulli decoder).
    """

    measures: tuple[str, str, str]
    bound: evaluate.Mean
    reconstruction: evaluate.Mean | None
    kl: evaluate.Mean | None
    kl_is_exact: bool
    log_likelihood: evaluate.Mean | None
    method: Method
    num_samples: int
    binarization: str
    scaling: str
    log_jacobian: float
    data: DataInfo
    kl_per_layer: dict[str, evaluate.Mean] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        bound, reconstruction, kl = self.measures
        layers = {name: layer.to_dict() for name, layer in (self.kl_per_layer or {}).items()}
        return {
            bound: self.bound.to_dict(),
            reconstruction: None if self.reconstruction is None else self.reconstruction.to_dict(),
            kl: None if self.kl is None else self.kl.to_dict(),
            **({"kl_per_layer": layers} if layers else {}),
            "kl_is_exact": self.kl_is_exact,
            _KEYS[self.method]: None if self.log_likelihood is None else self.log_likelihood.to_dict(),
            "num_samples": self.num_samples,
            "num_rows": self.bound.num_rows,
            "unit": "nats per example",
            "binarization": self.binarization,
            "scaling": self.scaling,
            "log_jacobian": self.log_jacobian,
            "data": dataclasses.asdict(self.data),
        }
