"""The closed table of families that a latent vector can have, by the name that the command line knows them by."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from ._bounded import Pareto, Reciprocal, Triangular, Uniform
from ._dirichlet import Beta, Dirichlet, F
from ._family import Family, Kind
from ._gamma import Chi2, Gamma
from ._inverse_cdf import Cauchy, Erlang, Exponential, Gompertz, Rayleigh, Weibull
from ._likelihoods import ContinuousBernoulli
from ._location_scale import Gumbel, Logistic, LogNormal, StudentT
from ._von_mises import VonMises


def _each(family: Callable[..., dist.Distribution]) -> Callable[..., dist.Distribution]:
    """J independent members, as one distribution over a vector."""
    return lambda **parameters: family(**parameters).to_event(1)


def _uniform(low: Float[Array, " J"], width: Float[Array, " J"]) -> dist.Distribution:
    return Uniform(low, low + width, width=width).to_event(1)


def _reciprocal(low: Float[Array, " J"], excess: Float[Array, " J"]) -> dist.Distribution:
    """On [low, low (1 + excess)]."""
    return Reciprocal(low, low * (1.0 + excess), log_ratio=jnp.log1p(excess)).to_event(1)


def _erlang(rate: Float[Array, " J"]) -> dist.Distribution:
    return Erlang(2, rate).to_event(1)


_REAL: dict[str, Kind] = {"loc": "real", "scale": "positive"}
_SHAPE_SCALE: dict[str, Kind] = {"scale": "positive", "concentration": "positive"}
_SHAPE_RATE: dict[str, Kind] = {"concentration": "positive", "rate": "positive"}
_STANDARD = {"loc": 0.0, "scale": 1.0}
_POSITIVE = (0.0, math.inf)
_UNIT = (0.0, 1.0)

_ALL = (
    Family("normal", _REAL, _each(dist.Normal), _STANDARD, "real", "location-scale"),
    Family("cauchy", _REAL, _each(Cauchy), _STANDARD, "real", "inverse CDF"),
    Family("laplace", _REAL, _each(dist.Laplace), _STANDARD, "real", "location-scale"),
    Family("logistic", _REAL, _each(Logistic), _STANDARD, "real", "location-scale"),
    Family(
        "student-t",
        {"df": "positive", **_REAL},
        _each(StudentT),
        {"df": 4.0, **_STANDARD},
        "real",
        "location-scale",
    ),
    Family("gumbel", _REAL, _each(Gumbel), _STANDARD, "real", "inverse CDF"),
    Family(
        "uniform",
        {"low": "real", "width": "positive"},
        _uniform,
        {"low": 0.0, "width": 1.0},
        "interval",
        "location-scale",
        edges=_UNIT,
        movable=(True, True),
    ),
    Family(
        "triangular",
        {"low": "real", "width": "positive", "peak": "unit"},
        _each(Triangular),
        {"low": 0.0, "width": 1.0, "peak": 0.5},
        "interval",
        "location-scale",
        edges=_UNIT,
        movable=(True, True),
    ),
    Family(
        "exponential",
        {"rate": "positive"},
        _each(Exponential),
        {"rate": 1.0},
        "positive",
        "inverse CDF",
        edges=_POSITIVE,
    ),
    Family(
        "rayleigh", {"scale": "positive"}, _each(Rayleigh), {"scale": 1.0}, "positive", "inverse CDF", edges=_POSITIVE
    ),
    Family(
        "pareto",
        {"scale": "positive", "alpha": "positive"},
        _each(Pareto),
        {"scale": 1.0, "alpha": 2.0},
        "positive",
        "inverse CDF",
        edges=(1.0, math.inf),
        movable=(True, False),
    ),
    Family(
        "weibull",
        _SHAPE_SCALE,
        _each(Weibull),
        {"scale": 1.0, "concentration": 2.0},
        "positive",
        "inverse CDF",
        edges=_POSITIVE,
    ),
    Family(
        "gompertz",
        _SHAPE_RATE,
        _each(Gompertz),
        {"concentration": 1.0, "rate": 1.0},
        "positive",
        "inverse CDF",
        edges=_POSITIVE,
    ),
    Family("erlang", {"rate": "positive"}, _erlang, {"rate": 1.0}, "positive", "inverse CDF", edges=_POSITIVE),
    Family(
        "gamma", _SHAPE_RATE, _each(Gamma), {"concentration": 2.0, "rate": 1.0}, "positive", "implicit", edges=_POSITIVE
    ),
    Family("log-normal", _REAL, _each(LogNormal), _STANDARD, "positive", "composition", edges=_POSITIVE),
    Family("chi-squared", {"df": "positive"}, _each(Chi2), {"df": 4.0}, "positive", "implicit", edges=_POSITIVE),
    Family(
        "f",
        {"df1": "positive", "df2": "positive"},
        _each(F),
        {"df1": 4.0, "df2": 8.0},
        "positive",
        "implicit",
        edges=_POSITIVE,
    ),
    Family(
        "reciprocal",
        {"low": "positive", "excess": "positive"},
        _reciprocal,
        {"low": 0.1, "excess": 99.0},
        "positive",
        "inverse CDF",
        edges=(0.1, 10.0),
        movable=(True, True),
    ),
    Family(
        "beta",
        {"concentration1": "positive", "concentration0": "positive"},
        _each(Beta),
        {"concentration1": 2.0, "concentration0": 2.0},
        "unit",
        "implicit",
        edges=_UNIT,
    ),
    Family(
        "continuous-bernoulli",
        {"logits": "real"},
        _each(ContinuousBernoulli),
        {"logits": 0.0},
        "unit",
        "inverse CDF",
        edges=_UNIT,
    ),
    Family(
        "dirichlet",
        {"concentration": "positive"},
        Dirichlet,
        {"concentration": 1.0},
        "simplex",
        "implicit",
        edges=_UNIT,
    ),
    Family(
        "von-mises",
        {"loc": "angle", "concentration": "positive"},
        _each(VonMises),
        {"loc": 0.0, "concentration": 0.0},
        "circle",
        "implicit",
        edges=(-math.pi, math.pi),
    ),
)

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _ALL})


def family_lies_within(q_family: str, p_family: str) -> bool:
    """Whether every member of q's family lies where the standard member of p's has a density.

    Where not, D_KL(q || p) is infinite for what an encoder may well say. Only supports are compared: a Cauchy lies
    within a Normal's, though its tails make that divergence infinite too.

    Args:
        q_family: name of the posterior's family.
        p_family: name of the prior's.

    Example:
        >>> family_lies_within("gamma", "normal"), family_lies_within("normal", "gamma")
        (True, False)
    """
    q, p = FAMILIES[q_family], FAMILIES[p_family]
    if "simplex" in (q.support, p.support):
        return q.support == p.support
    # An edge that the parameters move can come to lie anywhere on the real line, or on its positive half.
    low = (0.0 if q.support == "positive" else -math.inf) if q.movable[0] else q.edges[0]
    high = math.inf if q.movable[1] else q.edges[1]
    return low >= p.edges[0] and high <= p.edges[1]
