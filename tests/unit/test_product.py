"""The product of rows and a matrix against the plain one: values, derivatives, and every way to batch it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _models import build, by_names

from aevb.models import Linear
from aevb.models.networks import row_times_matrix

X = jax.random.normal(jax.random.key(0), (5, 2, 3))
W = jax.random.normal(jax.random.key(1), (3, 4))


def plain(x, w):
    return x @ w


def total(product):
    """A curved function of all rows and samples, so that second derivatives are not zero."""
    return lambda x, w: jnp.sum(jax.vmap(jax.vmap(lambda row: jnp.sum(jnp.tanh(product(row, w)))))(x) ** 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda product: product(X[0, 0], W),
        lambda product: jax.vmap(jax.vmap(lambda row: product(row, W)))(X),
        lambda product: jax.vmap(lambda row: product(row, W), in_axes=1, out_axes=1)(X[0].T),
        lambda product: jax.vmap(product)(X[0], jnp.stack([W, 2 * W])),
        lambda product: jax.vmap(product, in_axes=(None, 2))(X[0, 0], jnp.stack([W, 2 * W], axis=2)),
        lambda product: jax.vmap(lambda w: jax.vmap(lambda row: product(row, w))(X[0]))(jnp.stack([W, 2 * W])),
        lambda product: jax.vmap(lambda row: jax.vmap(lambda w: product(row, w))(jnp.stack([W, 2 * W])))(X[0]),
        lambda product: total(product)(X, W),
        lambda product: jax.grad(total(product), argnums=(0, 1))(X, W),
        lambda product: jax.jit(jax.grad(total(product), argnums=(0, 1)))(X, W),
        lambda product: jax.jacfwd(total(product), argnums=(0, 1))(X, W),
        lambda product: jax.hessian(total(product), argnums=(0, 1))(X[:2], W),
        lambda product: jax.vmap(jax.grad(total(product), argnums=1), in_axes=(0, None))(X[:, None], W),
        lambda product: jax.jacrev(lambda w: product(X[0, 0], w))(W),
        lambda product: jax.grad(jax.checkpoint(total(product)), argnums=1)(X, W),
        lambda product: jax.lax.map(lambda row: product(row, W), X[:, 0], batch_size=2),
    ],
)
def test_it_is_the_plain_product(make):
    for ours, expected in zip(jax.tree.leaves(make(row_times_matrix)), jax.tree.leaves(make(plain)), strict=True):
        assert ours.shape == expected.shape
        assert ours.dtype == expected.dtype
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_the_wider_type_wins(x64):
    assert row_times_matrix(X[0, 0], W.astype(np.float64)).dtype == np.float64


def test_the_gradient_of_the_matrix_reads_rows_and_samples_in_place():
    """No transpose of what lies along rows and samples, which the plain product's gradient has."""
    text = {}
    for product in (row_times_matrix, plain):
        gradient = jax.jit(jax.grad(total(product), argnums=1))
        text[product] = gradient.lower(jnp.ones((50, 40, 30)), jnp.ones((30, 20))).compile().as_text()
    assert "dimensions={2,0,1}" not in text[row_times_matrix]
    assert "dimensions={2,0,1}" in text[plain]  # if not: XLA has learnt it, and `_product` can go


def test_initial_weights():
    """Glorot's uniform on +-sqrt(6 / (in + out)), and N(0, 0.01^2): largest value or standard deviation, at 5 sigma."""
    layer = Linear(100, 400, "glorot", key=jax.random.key(2))
    limit = np.sqrt(6 / 500)
    # The largest of n uniforms falls short of the limit by limit / n on average.
    assert limit * (1 - 5e-4) < np.abs(layer.weight).max() <= limit * (1 + 1e-6)
    assert abs(np.mean(layer.weight)) < 5 * limit / np.sqrt(3 * 40_000)
    assert not np.any(layer.bias)
    layer = Linear(100, 400, "paper", key=jax.random.key(2))
    for values in (layer.weight, layer.bias):
        assert abs(np.std(values) / 0.01 - 1) < 5 / np.sqrt(2 * values.size)


def test_encoder_and_decoder_begin_apart():
    """Where the two hidden layers have one shape, they must not have the same weights."""
    generative, recognition = build(by_names(3, 3, (4,), "tanh", "bernoulli"), key=jax.random.key(0))
    weights = [leaf for leaf in jax.tree.leaves((generative, recognition)) if leaf.shape == (3, 4)]
    assert len(weights) >= 2
    assert not np.array_equal(weights[0], weights[1])
