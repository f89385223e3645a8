"""What one family of latent variables is: its parameters, from raw network outputs, and its standard member."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from ._scale import log_scale, positive_scale
from ._von_mises import wrap

Kind = Literal["real", "positive", "unit", "angle"]
Support = Literal["real", "positive", "unit", "interval", "circle", "simplex"]
Strategy = Literal["inverse CDF", "location-scale", "composition", "implicit"]


def constrain(kind: Kind, raw: Float[Array, " J"]) -> Float[Array, " J"]:
    """A raw network output on the whole real line -> a parameter of this kind, with a gradient that is never zero.

    Args:
        kind: "real", "positive", "unit" (the interval (0, 1)) or "angle" ([-pi, pi]).
        raw: any real numbers.

    Example:
        >>> print(constrain("unit", jnp.array([0.0])), constrain("positive", jnp.array([0.0])))
        [0.5] [1.]
    """
    match kind:
        case "real":
            return raw
        case "positive":
            return positive_scale(raw)
        case "unit":
            # 1 / (1 + 1/s), s a positive scale: the logistic function's own gradient underflows at raw = 20.
            return 1.0 / (1.0 + jnp.exp(-log_scale(raw)))
        case "angle":
            return wrap(raw)


@dataclass(frozen=True)
class Family:
    """One family of distributions of J latent variables.

    Attributes:
        name: on the command line, in a configuration and in a model file.
        parameters: argument of `make` -> the kind of number that it is.
        make: constrained parameters, each of shape (J,) -> a distribution with event shape (J,).
        standard_parameters: those of the member that serves as prior, the same in each dimension.
        support: where a member lies. An "interval" lies where its own parameters say.
        strategy: how its samples are made differentiable (section 2.4).
        edges: of the standard member's support, in each dimension.
        movable: whether the parameters move the lower and the upper edge.

    Example:
        >>> from aevb.distributions import FAMILIES
        >>> q = FAMILIES["gamma"].from_raw({"concentration": jnp.zeros(2), "rate": jnp.zeros(2)})
        >>> print(q.event_shape, q.mean)
        (2,) [1. 1.]
    """

    name: str
    parameters: Mapping[str, Kind]
    make: Callable[..., dist.Distribution]
    standard_parameters: Mapping[str, float]
    support: Support
    strategy: Strategy
    edges: tuple[float, float] = (-math.inf, math.inf)
    movable: tuple[bool, bool] = (False, False)

    def from_raw(self, raw: Mapping[str, Float[Array, " J"]]) -> dist.Distribution:
        """Raw network outputs, one array of shape (J,) per parameter -> a member, of event shape (J,).

        Raises:
            ValueError: a parameter is missing, or one is not this family's.
        """
        if set(raw) != set(self.parameters):
            raise ValueError(
                f"the {self.name} family has the parameters {sorted(self.parameters)}, but got {sorted(raw)}"
            )
        return self.make(**{name: constrain(kind, raw[name]) for name, kind in self.parameters.items()})

    def standard(self, latent_dim: int) -> dist.Distribution:
        """The member that serves as a prior p(z), of event shape (latent_dim,)."""
        return self.make(**{name: jnp.full(latent_dim, value) for name, value in self.standard_parameters.items()})
