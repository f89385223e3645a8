"""From a raw network output on the whole real line to a standard deviation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

# Beyond |raw| ~ 2 * _KNEE the exponential turns into a power of raw.
_KNEE = 2.0


def log_scale(raw: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""log sigma = c asinh(raw / 2c), with c = 2.

    The paper's Appendix C has log sigma^2 = raw. That is what this is near zero (slope 1/2), but the exponential
    overflows float32 at raw = 89, and a clamp or a softplus has a gradient of exactly zero somewhere. The inverse
    hyperbolic sine grows like a logarithm, so that for |raw| <= 1e4 the scale stays in [4e-8, 3e7] and its logarithm
    has a gradient of at least 2e-4 everywhere: value, KL and gradient remain finite and none is ever zero.

    Args:
        raw: any real numbers.

    Returns:
        The natural logarithm of a standard deviation, same shape.

    Example:
        >>> import jax.numpy as jnp
        >>> print(log_scale(jnp.array([-1e4, 0.0, 1e4])).round())
        [-17.   0.  17.]
    """
    return _KNEE * jnp.arcsinh(raw / (2.0 * _KNEE))


def positive_scale(raw: Float[Array, "*shape"], floor: float = 0.0) -> Float[Array, "*shape"]:
    """A standard deviation: floor + exp(log_scale(raw)).

    Args:
        raw: any real numbers.
        floor: smallest value. A Gaussian likelihood needs one above zero, or it is unbounded: the decoder could put
            its mean on a data point and let the scale go to nothing.

    Returns:
        Positive numbers, same shape, in the unit of the variable that they scale.

    Example:
        >>> import jax.numpy as jnp
        >>> print(positive_scale(jnp.array([0.0]), floor=0.5))
        [1.5]
    """
    return floor + jnp.exp(log_scale(raw))
