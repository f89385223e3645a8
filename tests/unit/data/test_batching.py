"""Epoch orders are permutations that only (key, epoch) decide; splits are disjoint, complete and reproducible."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb.data import epoch_order, split
from aevb.errors import ConfigError, DataError

KEY = jax.random.key(3)


@pytest.mark.parametrize("num_examples", [1, 2, 7, 1000])
def test_an_order_is_a_permutation(num_examples):
    order = epoch_order(KEY, 0, num_examples)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(num_examples))


def test_orders_differ_between_epochs_and_keys_and_repeat_for_the_same():
    orders = [epoch_order(key, epoch, 50).tolist() for key in (KEY, jax.random.key(4)) for epoch in range(5)]
    assert len(set(map(tuple, orders))) == 10
    jitted = jax.jit(partial(epoch_order, num_examples=50))
    assert jitted(KEY, jnp.int32(3)).tolist() == epoch_order(KEY, 3, 50).tolist() == orders[3]
    with jax.numpy_dtype_promotion("strict"), jax.enable_x64(True):
        again = jitted(KEY, 3)
        assert again.dtype == jnp.int32 and again.tolist() == orders[3]


def test_orders_are_uniform():
    trials, size = 4000, 5
    orders = np.asarray(jax.vmap(lambda e: epoch_order(KEY, e, size))(jnp.arange(trials)))
    share = np.array([[np.mean(orders[:, place] == row) for row in range(size)] for place in range(size)])
    sigma = np.sqrt(0.2 * 0.8 / trials)
    assert np.abs(share - 0.2).max() < 5 * sigma
    # Control: an order that is merely rotated at random half the time does not pass.
    biased = np.where(np.arange(trials)[:, None] % 2 == 0, np.arange(size), orders)
    assert np.abs(np.mean(biased[:, 0] == 0) - 0.2) > 5 * sigma


@pytest.mark.parametrize("wrong", [0, -1, 2**31])
def test_order_of_nothing(wrong):
    with pytest.raises(ValueError, match="examples"):
        epoch_order(KEY, 0, wrong)


def test_split_is_a_partition():
    train, validation = split(1000, 0.1, 7)
    assert train.dtype == validation.dtype == np.int64 and len(validation) == 100
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(1000))
    assert np.all(np.diff(train) > 0) and np.all(np.diff(validation) > 0)
    assert validation.tolist() == split(1000, 0.1, 7)[1].tolist() != split(1000, 0.1, 8)[1].tolist()
    assert 300 < validation.mean() < 700
    assert split(10, 0.3, 0)[1].tolist() == [1, 2, 3]  # pinned: runs must stay repeatable
    assert [len(part) for part in split(2, 0.5, 0)] == [1, 1]


def test_split_errors():
    for fraction in (0.0, 1.0, -0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="fraction"):
            split(10, fraction, 0)
    with pytest.raises(ConfigError, match="seed"):
        split(10, 0.5, -1)
    for num_examples, fraction in ((1, 0.5), (10, 0.01), (10, 0.99), (0, 0.5)):
        with pytest.raises(DataError, match="at least one"):
            split(num_examples, fraction, 0)
