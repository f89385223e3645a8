"""The Gaussian of the circle, with a pathwise gradient for its concentration."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from numpyro.distributions import constraints

from ._special import float_dtype, open_uniform

# Gauss-Legendre on [0, 1], for the implicit gradient and the variance.
_NODES, _WEIGHTS = (0.5 * np.polynomial.legendre.leggauss(32)[0] + 0.5, 0.5 * np.polynomial.legendre.leggauss(32)[1])


def wrap(angle: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same angle in [-pi, pi]. An angle that is there already keeps all its digits."""
    return angle - 2 * jnp.pi * jnp.round(angle / (2 * jnp.pi))


def one_minus_ratio(kappa: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 - A, A = I1(kappa) / I0(kappa): by its asymptotic series where the difference has no digits left."""
    edge = 20.0 if np.finfo(kappa.dtype).bits <= 32 else 200.0
    large = kappa > edge
    far, near = jnp.where(large, kappa, edge), jnp.where(large, 1.0, kappa)
    y = 1.0 / far
    series = y * (1 / 2 + y * (1 / 8 + y * (1 / 8 + y * (25 / 128 + y * (13 / 32 + y * 1073 / 1024)))))
    return jnp.where(large, series, 1.0 - jax.scipy.special.i1e(near) / jax.scipy.special.i0e(near))


@jax.custom_jvp
def log_i0e(kappa: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(I0(kappa) e^-kappa), with a derivative, A - 1, that does not cancel at a large kappa."""
    return jnp.log(jax.scipy.special.i0e(kappa))


@log_i0e.defjvp
def _log_i0e_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return log_i0e(primals[0]), -one_minus_ratio(primals[0]) * tangents[0]


def _draw(key: PRNGKeyArray, kappa: Float[Array, "..."]) -> Float[Array, "..."]:
    """Best & Fisher (1979): wrapped Cauchy proposals 2 atan(sqrt((s - 1) / (s + 1)) tan(pi u / 2)), |u| < 1.

    NumPyro's sampler takes the arccosine of a number near one, and so is a lattice of 3.5e-4 in float32: coarser than
    the distribution from kappa = 1e7.
    """
    k = jnp.maximum(kappa, 1e-8)
    s1 = (1.0 + 1.0 / (jnp.sqrt(1.0 + 4.0 * k * k) + 2.0 * k)) / (2.0 * k)  # s - 1, s = (1 + sqrt(1 + 4 k^2)) / 2 k
    spread = jnp.sqrt(s1 / (s1 + 2.0))

    def trial(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, z, done = state
        of_u, of_v = jax.random.split(jax.random.fold_in(key, i))
        u = 2.0 * open_uniform(of_u, k.shape, k.dtype) - 1.0
        proposal = 2.0 * jnp.arctan(spread * jnp.tan(0.5 * jnp.pi * u))
        y = k * s1 + 2.0 * k * jnp.square(jnp.sin(0.5 * proposal))
        accept = jnp.log(y) + 1.0 - y >= jnp.log(open_uniform(of_v, k.shape, k.dtype))
        return i + 1, jnp.where(done, z, proposal), done | accept

    def unfinished(state: tuple[Array, Array, Array]) -> Bool[Array, ""]:
        return (state[0] < 100) & ~jnp.all(state[2])  # two in three are accepted: 100 refusals have probability 1e-47

    start = (jnp.array(0), jnp.zeros_like(k), jnp.zeros(k.shape, bool))
    return jax.lax.while_loop(unfinished, trial, start)[1]


@jax.custom_jvp
def with_implicit_gradient(kappa: Float[Array, "..."], z: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""z, drawn with loc 0, with dz/dkappa = -(dF/dkappa) / f: the noise F(z; kappa) is held fixed."""
    return z


@with_implicit_gradient.defjvp
def _implicit_gradient(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    r"""dF/dkappa = int_0^z (cos t - A) f(t) dt, or minus the integral from z to pi, whichever does not cancel."""
    kappa, z = primals
    x = jnp.abs(z)
    inner = 2.0 * kappa * jnp.square(jnp.sin(0.5 * x)) < 3.0
    # Outside, f has fallen by e^-30 within 30 / (kappa sin z).
    reach = jnp.minimum(jnp.pi - x, 30.0 / jnp.where(inner, 1.0, jnp.maximum(kappa * jnp.sin(x), 1e-6)))
    start, length = jnp.where(inner, 0.0, x), jnp.where(inner, x, -reach)
    t = start[..., None] + jnp.abs(length)[..., None] * jnp.asarray(_NODES, z.dtype)
    # cos t - A = (1 - A) - 2 sin^2(t/2), and cos t - cos z = 2 sin((z - t)/2) sin((z + t)/2).
    weight = one_minus_ratio(kappa)[..., None] - 2.0 * jnp.square(jnp.sin(0.5 * t))
    density = jnp.exp(2.0 * kappa[..., None] * jnp.sin(0.5 * (x[..., None] - t)) * jnp.sin(0.5 * (x[..., None] + t)))
    integral = length * jnp.sum(jnp.asarray(_WEIGHTS, z.dtype) * weight * density, axis=-1)
    return z, -jnp.sign(z) * integral * tangents[0]


class VonMises(dist.VonMises):
    r"""p(z) = e^(kappa cos(z - loc)) / (2 pi I0(kappa)), -pi <= z < pi, kappa = concentration.

    NumPyro's has no gradient for kappa through its rejection loop, and that of its log I0 cancels at a large kappa.
    Concentration 0 is the uniform distribution on the circle.

    The gradient through a sample is that of E[f(z)] for an f on the CIRCLE, f(-pi) = f(pi), as of cos z and sin z. Of
    any other f the part p(pi) [f(pi) - f(-pi)], which comes of the jump, is missing: let networks see cos z and sin z.

    Example:
        >>> gradient = jax.grad(lambda k: jnp.mean(jnp.cos(VonMises(0.0, k).sample(jax.random.key(0), (20_000,)))))
        >>> print(gradient(1.0).round(1))  # d/dk I1(k)/I0(k) = 0.35
        0.4
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "concentration": constraints.nonnegative}
    reparametrized_params: ClassVar = ["loc", "concentration"]

    @property
    def has_rsample(self) -> bool:
        """True, unlike NumPyro's."""
        return True

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Angles in radians, of shape (*sample_shape, *batch)."""
        dtype = float_dtype(self.loc, self.concentration)
        kappa = jnp.broadcast_to(jnp.asarray(self.concentration, dtype), sample_shape + self.batch_shape)
        z = jax.lax.stop_gradient(_draw(key, jax.lax.stop_gradient(kappa)))
        return wrap(self.loc + with_implicit_gradient(kappa, z))

    rsample = sample

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats per radian; an angle beyond +-pi is the one that it stands for."""
        kappa = jnp.asarray(self.concentration, float_dtype(self.loc, self.concentration))
        known = jnp.isfinite(value)
        turn = jnp.square(jnp.sin(0.5 * (jnp.where(known, value, 0.0) - self.loc)))
        return jnp.where(known, -2.0 * kappa * turn - log_i0e(kappa) - jnp.log(2 * jnp.pi), -jnp.inf)

    @property
    def variance(self) -> Float[Array, "..."]:
        """E[d^2], d in [-pi, pi] the angle from the mean direction: 1 / kappa for a large kappa, pi^2 / 3 at 0.

        NumPyro's is the circular variance 1 - A, of half that size, in no unit of angle.
        """
        kappa = jnp.asarray(self.concentration, float_dtype(self.loc, self.concentration))
        # Beyond 12 / sqrt(kappa) less than 1e-12 of the mass is left.
        reach = jnp.minimum(jnp.pi, 12.0 / jnp.sqrt(jnp.maximum(kappa, 1.0)))[..., None]
        d = reach * jnp.asarray(_NODES, kappa.dtype)
        weight = jnp.asarray(_WEIGHTS, kappa.dtype) * jnp.exp(-2.0 * kappa[..., None] * jnp.square(jnp.sin(0.5 * d)))
        variance = jnp.sum(weight * d**2, axis=-1) / jnp.sum(weight, axis=-1)
        return jnp.broadcast_to(variance, self.batch_shape)
