"""Where a posterior lies and how wide it is, in numbers that are finite for every member of every family."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from ._location_scale import MultivariateStudentT, StudentT
from ._reparameterize import Reparameterized

# Their moments need not exist, or overflow long before a sample does, or (the last) have no closed form.
_BY_QUANTILES = (
    dist.Cauchy,
    dist.HalfCauchy,
    dist.InverseGamma,
    dist.Levy,
    dist.LogNormal,
    dist.MultivariateStudentT,
    dist.Pareto,
    dist.StudentT,
    dist.Weibull,
    Reparameterized,
)
_NORMAL_QUANTILES = (0.15865525, 0.5, 0.84134475)  # of a Gaussian: mean - sd, mean, mean + sd


def location_and_scale(q: dist.Distribution) -> tuple[Float[Array, "*z"], Float[Array, "*z"]]:
    """Where a posterior lies and how wide it is: mean and standard deviation, in each dimension.

    Families whose moments need not exist or overflow where samples do not (Cauchy, Student's t, Pareto, log-normal,
    Weibull), or that have none in closed form (F, Gompertz, flows), give their median, and half the distance between
    their 16 % and 84 % quantiles; for a Gaussian the two mean the same. One that does not know its quantiles either (a
    flow) gives those of 1,000 draws with a fixed key. An angle's mean is its mean direction, and its deviation is taken
    from there, the short way round.

    Example:
        >>> print(*location_and_scale(dist.Gamma(4.0, 2.0)))
        2.0 1.0
    """
    base = q
    while isinstance(base, dist.Independent):
        base = base.base_dist
    if not isinstance(base, _BY_QUANTILES):
        try:
            return q.mean, jnp.sqrt(q.variance)
        except NotImplementedError:
            pass
    try:
        if isinstance(base, MultivariateStudentT):
            width = jnp.linalg.norm(base.scale_tril, axis=-1)
            base = StudentT(jnp.asarray(base.df)[..., None], base.loc, width)
        low, middle, high = (base.icdf(p) for p in _NORMAL_QUANTILES)
    except (NotImplementedError, ImportError):  # NumPyro's own Student's t wants a package for it
        draws = q.sample(jax.random.key(0), (1000,))
        low, middle, high = jnp.quantile(draws, jnp.asarray(_NORMAL_QUANTILES, draws.dtype), axis=0)
    return middle, 0.5 * (high - low)
