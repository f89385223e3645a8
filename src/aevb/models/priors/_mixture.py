"""A mixture of distributions of which none is held."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import Distribution, support_depends_on_parameters


class Mixture(Distribution):
    r"""p(z) = sum_k w_k p_k(z), each p_k made where it is used, for no distribution may cross a `vmap`.

    Args:
        log_weights: log w_k, normalised, shape (K,).
        component: parameters of one component -> its distribution.
        parameters: a pytree of arrays with a leading axis of length K.

    Example:
        >>> import jax.numpy as jnp
        >>> from aevb.distributions import Normal
        >>> log_weights, locs = jnp.log(jnp.array([0.25, 0.75])), jnp.array([[0.0], [2.0]])
        >>> p = Mixture(log_weights, lambda loc: Normal(loc, 1.0).to_event(1), locs)
        >>> print(f"{p.log_prob(jnp.array([1.0])):.4f}")
        -1.4189
    """

    def __init__(self, log_weights: Float[Array, " K"], component: Callable[[Any], Distribution], parameters: Any):
        self.log_weights, self.component, self.parameters = log_weights, component, parameters
        super().__init__((), self._one(0).event_shape)

    @property
    def support(self) -> Any:
        """That of the first component; all have the same."""
        return self._one(0).support

    @property
    def support_moves(self) -> bool:
        """Whether the parameters of the components move the edges of theirs."""
        return support_depends_on_parameters(self._one(0))

    @property
    def has_rsample(self) -> bool:
        """False: the choice of a component has no gradient."""
        return False

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*shape"]:
        """k ~ w, then z ~ p_k; shape (*sample_shape, J)."""

        def draw(key: PRNGKeyArray) -> Array:
            k_key, z_key = jax.random.split(key)
            return self._one(jax.random.categorical(k_key, self.log_weights)).sample(z_key)

        for _ in sample_shape:
            draw = jax.vmap(draw)
        return draw(jax.random.split(key, sample_shape) if sample_shape else key)

    def log_prob(self, value: Float[Array, "*shape"], intermediates: object = None) -> Float[Array, "*samples"]:
        """log sum_k w_k p_k(z), in nats, by a log-sum-exp."""
        each = jax.vmap(lambda parameters: self.component(parameters).log_prob(value))(self.parameters)
        weights = self.log_weights.reshape(-1, *(1,) * (each.ndim - 1))
        return jax.scipy.special.logsumexp(weights + each, axis=0)

    def _one(self, k: int | Array) -> Distribution:
        return self.component(jax.tree.map(lambda leaf: leaf[k], self.parameters))
