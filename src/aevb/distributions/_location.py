"""Where a posterior lies and how wide it is, in numbers that are finite for every member of every family."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from ._location_scale import MultivariateStudentT, StudentT
from ._reparameterize import Reparameterized
from ._sequential import Sequential, split_layers

# Their moments need not exist, or overflow long before a sample does, or have no closed form.
_BY_QUANTILES = (
    dist.Cauchy,
    dist.Gompertz,
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
# Draws of what has no closed form, with a fixed key: the same noise for every x, so that where q does not depend on x
# its location does not either.
_DRAWS, _AT_ONCE = 1000, 50


def location_and_scale(q: dist.Distribution) -> tuple[Float[Array, "*z"], Float[Array, "*z"]]:
    """Where a posterior lies and how wide it is: mean and standard deviation, in each dimension.

    Families whose moments need not exist or overflow where samples do not (Cauchy, Student's t, Pareto, log-normal,
    Weibull), or that have none in closed form (F, Gompertz, flows), give their median, and half the distance between
    their 16 % and 84 % quantiles; for a Gaussian the two mean the same. One that does not know its quantiles either (a
    flow) gives those of 1,000 draws with a fixed key. An angle's mean is its mean direction, and its deviation is taken
    from there, the short way round.

    Of a `Sequential`, a layer that asks for no other is as above. Of one that does, the mean is that of its conditional
    means over 1,000 draws of the layers before it, with a fixed key, and the variance E[var] + Var[mean] of the same:
    its mean is off by a 32nd of the standard deviation of its conditional mean. Where a factor has no moments all of
    these give quantiles of 1,000 draws.

    Example:
        >>> print(*location_and_scale(dist.Gamma(4.0, 2.0)))
        2.0 1.0
    """
    if isinstance(q, Sequential):
        return _of_layers(q)
    if (moments := _moments(q)) is not None:
        return moments
    base = _base(q)
    try:
        if isinstance(base, MultivariateStudentT):
            width = jnp.linalg.norm(base.scale_tril, axis=-1)
            base = StudentT(jnp.asarray(base.df)[..., None], base.loc, width)
        low, middle, high = (base.icdf(p) for p in _NORMAL_QUANTILES)
    except (NotImplementedError, ImportError):  # NumPyro's own Student's t wants a package for it
        low, middle, high = _quantiles_of_draws(q)
    return middle, 0.5 * (high - low)


def _base(q: dist.Distribution) -> dist.Distribution:
    while isinstance(q, dist.Independent):
        q = q.base_dist
    return q


def _moments(q: dist.Distribution) -> tuple[Float[Array, "*z"], Float[Array, "*z"]] | None:
    """Mean and standard deviation; None where they need not exist, or have no closed form."""
    if isinstance(_base(q), _BY_QUANTILES):
        return None
    try:
        return q.mean, jnp.sqrt(q.variance)
    except NotImplementedError:
        return None


def _quantiles_of_draws(q: dist.Distribution) -> Float[Array, "3 *z"]:
    draws = q.sample(jax.random.key(0), (_DRAWS,))
    return jnp.quantile(draws, jnp.asarray(_NORMAL_QUANTILES, draws.dtype), axis=0)


def _of_layers(q: Sequential) -> tuple[Float[Array, " J"], Float[Array, " J"]]:
    """A layer that asks for no other by itself; of the others mean and deviation over draws."""
    key = jax.random.key(0)
    if all(moments is not None for moments in q.each_factor(key, _moments).values()):
        sampled = _moments_over_draws(q)
    else:
        low, middle, high = _quantiles_of_draws(q)
        sampled = middle, 0.5 * (high - low)
    exact = q.each_factor(key, location_and_scale)  # of a layer that asks for no other: whatever is drawn
    parts = (split_layers(part, q.sizes) for part in sampled)
    loc, scale = (
        jnp.concatenate([part[name] if q.given[name] else exact[name][i] for name in q.sizes])
        for i, part in enumerate(parts)
    )
    return loc, scale


def _moments_over_draws(q: Sequential) -> tuple[Float[Array, " J"], Float[Array, " J"]]:
    """E[m] and sqrt(E[s^2] + Var[m]), m and s the factors' means and deviations along a draw; piece by piece."""

    def of(key: Array) -> tuple[Array, Array]:
        each = [moments for moments in q.each_factor(key, _moments).values() if moments is not None]
        return jnp.concatenate([m for m, _ in each]), jnp.concatenate([s for _, s in each])

    def add(sums: tuple[Array, Array, Array], keys: Array) -> tuple[tuple[Array, Array, Array], None]:
        m, s = jax.vmap(of)(keys)
        first = m - centre  # less a mean that is nearly right, so that squares cancel nothing
        return (sums[0] + first.sum(0), sums[1] + jnp.square(first).sum(0), sums[2] + jnp.square(s).sum(0)), None

    keys = jax.random.split(jax.random.key(0), (_DRAWS // _AT_ONCE, _AT_ONCE))
    centre = jnp.mean(jax.vmap(of)(keys[0])[0], axis=0)
    nothing = jnp.zeros_like(centre)
    (first, second, squares), _ = jax.lax.scan(add, (nothing, nothing, nothing), keys)
    off = first / _DRAWS
    return centre + off, jnp.sqrt(squares / _DRAWS + jnp.maximum(second / _DRAWS - jnp.square(off), 0.0))
