"""x W for one row x, which stays one product of two matrices under any number of `vmap`s over rows and samples."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float


def row_times_matrix(x: Float[Array, "*rows in"], w: Float[Array, "in out"]) -> Float[Array, "*rows out"]:
    """x W, with derivatives of every order.

    The same numbers as `x @ w`. But the gradient of that with respect to W, under the two `vmap`s over rows and over
    samples of an importance-weighted bound, contracts two axes at once, for which XLA first transposes all that it
    reads. Here the axes of rows are laid into one before each product, which costs nothing: they lie so in memory.

    Example:
        >>> row_times_matrix(jnp.ones(3), jnp.ones((3, 2)))
        Array([3., 3.], dtype=float32)
    """
    dtype = jnp.result_type(x, w)
    product: Array = _product.bind(x.astype(dtype), w.astype(dtype))
    return product


def _as_one_matrix(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _multiply(x: Array, w: Array) -> Array:
    return (_as_one_matrix(x) @ w).reshape(*x.shape[:-1], w.shape[1])


def _batched(args: tuple[Array, Array], axes: tuple[Any, Any]) -> tuple[Array, int]:
    """One more axis of rows, in front; where W has an axis too, there is no single product to make of them."""
    x, w = args
    if axes[1] is None:
        return _product.bind(jnp.moveaxis(x, axes[0], 0), w), 0
    return jax.vmap(_multiply, in_axes=axes)(x, w), 0


# JAX says nothing of the types of what makes a primitive.
_product: Any = Primitive("row_times_matrix")
_defbilinear: Any = ad.defbilinear

_product.def_impl(jax.jit(_multiply))
_product.def_abstract_eval(lambda x, w: ShapedArray((*x.shape[:-1], w.shape[1]), x.dtype))
mlir.register_lowering(_product, mlir.lower_fun(_multiply, multiple_results=False))
_defbilinear(
    _product,
    lambda ct, x, w: _product.bind(ct, w.T),
    lambda ct, x, w: _as_one_matrix(x).T @ _as_one_matrix(ct),
)
batching.primitive_batchers[_product] = _batched
