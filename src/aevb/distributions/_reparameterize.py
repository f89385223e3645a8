"""A distribution made of noise and a differentiable map: z = g(eps), section 2.4 of the paper."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray, Real
from numpyro.distributions import constraints

from aevb.errors import UnavailableError

from ._location_scale import LogNormal
from ._special import exp_within, log_range
from ._support import is_fixed, is_whole, support_depends_on_parameters


class Reparameterized(dist.Distribution):
    r"""q(z) of z = g(eps), eps ~ p(eps), with g differentiable and one to one.

    By the change of variables log q(z) = log p(eps) - log |det dg/deps|. What g depends on besides eps (the outputs of
    an encoder, say) is closed over, and gradients flow into it.

    Args:
        noise: p(eps), reparameterised, without batch axes, of event shape (J,) or ().
        g: eps -> z, of the same shape.
        inverse: z -> eps. Without it, log q is known only for z that were drawn together with it
            (`rsample_and_log_prob`), which is all that estimator A needs.
        log_det: eps -> log |det dg/deps|, a number. None: from the Jacobian, by J forward derivatives and a
            factorisation: right for every g, and O(J^3).
        support: of z; the real line (or J of them) unless said otherwise.
        support_moves: whether what g closes over moves an edge of that support at which q's density is not zero, as
            the edges of z = low + width * u, u uniform, move; the estimators that rest on E_q[grad log q] = 0 refuse
            such a q. None: no, if the noise lies on all of R^J and no edge of `support` is an array; else yes.

    Example:
        >>> noise = dist.Normal(jnp.zeros(2), jnp.ones(2)).to_event(1)
        >>> q = Reparameterized(noise, jnp.exp, inverse=jnp.log)  # the composition that makes a Log-Normal
        >>> z = jnp.array([1.0, 2.0])
        >>> print(jnp.allclose(q.log_prob(z), dist.LogNormal(0.0, 1.0).log_prob(z).sum()))
        True
    """

    def __init__(
        self,
        noise: dist.Distribution,
        g: Callable[[Array], Array],
        *,
        inverse: Callable[[Array], Array] | None = None,
        log_det: Callable[[Array], Array] | None = None,
        support: constraints.Constraint | None = None,
        support_moves: bool | None = None,
    ):
        if noise.batch_shape != ():
            raise ValueError(
                f"the noise must be one distribution over the whole event, but it has batch shape {noise.batch_shape}; "
                "use noise.to_event()"
            )
        if not noise.has_rsample:
            raise TypeError(f"{type(noise).__name__} is no reparameterised noise: its own parameters get no gradient")
        self.noise, self.g, self.inverse = noise, g, inverse
        self.log_det = log_det if log_det is not None else self.log_det_of_jacobian
        self._support = support if support is not None else constraints.independent(constraints.real, noise.event_dim)
        if support_moves is None:
            carried = is_whole(noise.support) and not support_depends_on_parameters(noise)
            support_moves = not (carried and is_fixed(self._support))
        self.support_moves = support_moves
        super().__init__((), noise.event_shape)

    @property
    def support(self) -> constraints.Constraint:
        """Where z can lie."""
        return self._support

    @property
    def has_rsample(self) -> bool:
        """True: that is what it is for."""
        return True

    def rsample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*shape"]:
        """z = g(eps), of shape (*sample_shape, *event)."""
        return self._over_samples(self.g, self.noise.rsample(key, sample_shape))

    sample = rsample

    def rsample_and_log_prob(
        self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*samples"]]:
        """z = g(eps), and log q(z) from the same eps: g is not inverted."""
        eps = self.noise.rsample(key, sample_shape)
        log_q = self.noise.log_prob(eps) - self._over_samples(self.log_det, eps)
        return self._over_samples(self.g, eps), log_q

    def log_prob(self, value: Float[Array, "*shape"], intermediates: object = None) -> Float[Array, "*samples"]:
        """log q(z), by the inverse of g.

        Raises:
            UnavailableError: no inverse was given.
        """
        if self.inverse is None:
            raise UnavailableError(
                "log q(z) at a given z needs the inverse of g, which this distribution was not given; samples drawn "
                "by rsample_and_log_prob have theirs"
            )
        eps = self._over_samples(self.inverse, value)
        return self.noise.log_prob(eps) - self._over_samples(self.log_det, eps)

    def _over_samples(self, function: Callable[[Array], Array], values: Array) -> Array:
        for _ in range(values.ndim - self.event_dim):
            function = jax.vmap(function)
        return function(values)

    def log_det_of_jacobian(self, eps: Array) -> Array:
        if eps.ndim == 0:
            return jnp.log(jnp.abs(jax.grad(self.g)(eps)))
        jacobian = jax.jacfwd(lambda flat: self.g(flat.reshape(eps.shape)).ravel())(eps.ravel())
        return jnp.linalg.slogdet(jacobian)[1]


class AsDrawn(NamedTuple):
    """A distribution in the coordinate u that it is drawn in: z = value(u), of which z may keep less than u."""

    sample: Callable[[PRNGKeyArray, tuple[int, ...]], Array]  # key, sample_shape -> u
    value: Callable[[Array], Array]  # u -> z
    log_prob: Callable[[Array], Array]  # u -> log q(z)
    held: Callable[[Array], Array]  # u of one event -> whether z keeps less of it


class SelfDrawn(dist.Distribution):
    """A distribution that knows itself how it is drawn, as one of several parts does."""

    def as_drawn(self) -> AsDrawn:
        """What `as_drawn` is to tell."""
        raise NotImplementedError

    def drawn_and_log_prob(
        self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*samples"]]:
        """u and log q(z) of the same draw."""
        raise NotImplementedError


def as_drawn(q: dist.Distribution) -> AsDrawn:
    """u = log z for a `LogNormal`, alone, in an `Independent` or as a layer of a `Sequential`; for all else u is z.

    A sample of a LogNormal is held at numbers that floats can hold. Its density there is not what it was drawn with: of
    one with loc = -60 and scale = 1, q is e^-91 at every held sample and e^59 at a draw, and a bound that takes the
    former is 149 nats too high. Other families are held, too, where a shape is small. But their tails are powers of z:
    q(z) z at the held point is shape times the mass beyond it, and a weight is too large by 1 / shape at most.

    Example:
        >>> draws = as_drawn(LogNormal(-60.0, 1.0))
        >>> u = draws.sample(jax.random.key(0), ())
        >>> print(u < -50, draws.value(u) > 1e-20, draws.log_prob(u) > 50)
        True True True
    """
    if isinstance(q, SelfDrawn):
        return q.as_drawn()
    base, num_dims = q, 0
    while isinstance(base, dist.Independent | dist.ExpandedDistribution):
        if isinstance(base, dist.Independent):
            num_dims += base.reinterpreted_batch_ndims
        base = base.base_dist
    if not isinstance(base, LogNormal):
        return AsDrawn(q.rsample if q.has_rsample else q.sample, lambda z: z, q.log_prob, lambda z: jnp.zeros((), bool))
    shape = q.batch_shape + q.event_shape
    log_z = LogNormal(jnp.broadcast_to(base.loc, shape), jnp.broadcast_to(base.scale, shape))

    def log_prob(u: Array) -> Array:
        return jnp.sum(log_z.log_prob_of_log(u), axis=tuple(range(-num_dims, 0)))

    def held(u: Array) -> Array:
        low, high = log_range(u.dtype)
        return jnp.any((u < low) | (u > high))

    return AsDrawn(log_z.base_dist.rsample, exp_within, log_prob, held)


def drawn_and_log_prob(
    q: dist.Distribution, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()
) -> tuple[Float[Array, "*shape"], Float[Array, "*samples"]]:
    """As `rsample_and_log_prob`, but for u in the place of z; see `as_drawn`."""
    if isinstance(q, Reparameterized):
        return q.rsample_and_log_prob(key, sample_shape)
    if not q.has_rsample:
        raise UnavailableError(
            f"{type(q).__name__} has no reparameterised sampler, so the gradient of an SGVB estimator would miss "
            "its encoder; use a posterior family that has one"
        )
    if isinstance(q, SelfDrawn):
        return q.drawn_and_log_prob(key, sample_shape)
    draws = as_drawn(q)
    u = draws.sample(key, sample_shape)
    return u, draws.log_prob(u)


def rsample_and_log_prob(
    q: dist.Distribution, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()
) -> tuple[Float[Array, "*shape"], Float[Array, "*samples"]]:
    """Samples z of q through which gradients flow, and log q(z), without inverting any map.

    Args:
        q: any reparameterised distribution.
        key: of the noise.
        sample_shape: of the samples, before q's own axes.

    Raises:
        UnavailableError: q is not reparameterised; its samples carry no gradient, and training on them would be
            silently wrong.

    Example:
        >>> z, log_q = rsample_and_log_prob(dist.Normal(0.0, 1.0), jax.random.key(0), (3,))
        >>> z.shape, log_q.shape
        ((3,), (3,))
    """
    u, log_q = drawn_and_log_prob(q, key, sample_shape)
    return as_drawn(q).value(u), log_q


def sample_and_log_prob(
    q: dist.Distribution, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()
) -> tuple[Real[Array, "*shape"], Float[Array, "*samples"]]:
    """Samples z of q, held fixed, and log q(z), through which gradients flow into q's parameters: the score.

    Args:
        q: any distribution with a sampler and a density, reparameterised or not.
        key: of the samples.
        sample_shape: of the samples, before q's own axes.

    Example:
        >>> score = jax.grad(lambda loc: sample_and_log_prob(dist.Normal(loc, 1.0), jax.random.key(0))[1])
        >>> z, _ = sample_and_log_prob(dist.Normal(0.5, 1.0), jax.random.key(0))
        >>> print(jnp.allclose(score(0.5), z - 0.5))
        True
    """
    draws = as_drawn(q)
    u = jax.lax.stop_gradient(draws.sample(key, sample_shape))
    return draws.value(u), draws.log_prob(u)
