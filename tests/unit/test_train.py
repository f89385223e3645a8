"""The training step, the compiled epoch, the loop, optimisers by name; and fits as a whole."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _models import build, by_names

import aevb as package
from aevb import evaluate
from aevb.data import epoch_order, split
from aevb.estimators import SgvbA, SgvbB
from aevb.models import Decoder, Encoder, GaussianLikelihood, Linear, Mlp
from aevb.train import (
    OPTIMIZERS,
    SCHEDULES,
    Adagrad,
    Adam,
    Algorithm,
    Batch,
    Metrics,
    Rmsprop,
    Sgd,
    TrainState,
    aevb,
    compile_epoch,
    epochs,
)
from aevb.train._aevb import log_parameter_prior

D, J = 4, 2
KEY0 = jax.random.key(0)
BAD = 999.0  # what a row begins with that `spoil` turns into NaN


def make_rows(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, D)).astype(np.float32)


def make_models() -> tuple[Decoder, Encoder]:
    generative = Decoder(D, J, Mlp((5,)), GaussianLikelihood(), key=jax.random.key(0))
    models = generative, Encoder(D, J, Mlp((5,)), key=jax.random.key(1))
    # Biases begin at zero, where a prior on them would have no gradient: move them off it.
    return jax.tree.map(lambda leaf: leaf + 0.1 * jnp.arange(1.0, leaf.size + 1) if leaf.ndim == 1 else leaf, models)


def spoil(key: jax.Array, row: jax.Array) -> jax.Array:
    return jnp.where(row[0] == BAD, jnp.nan, row.astype(float))


def make_algorithm(num_examples: int, **options) -> Algorithm:
    options = {"estimator": SgvbB(), "optimizer": Adam().build(0.01)} | options
    return aevb(
        *make_models(), options.pop("estimator"), options.pop("optimizer"), num_examples=num_examples, **options
    )


def same_bits(a, b) -> bool:
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(a) == len(b) and all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in zip(a, b, strict=True)
    )


def allclose(a, b, rtol: float = 1e-5, atol: float = 1e-6) -> bool:
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(a) == len(b) and all(np.allclose(x, y, rtol=rtol, atol=atol) for x, y in zip(a, b, strict=True))


# --- the epoch --------------------------------------------------------------------------------------------------------


def counting_algorithm(num_examples: int) -> Algorithm:
    """Counts how often each row comes, and reports the mean of the rows' first column as its bound."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        mean = jnp.mean(batch.rows[:, 0])
        counts = state.params.at[batch.indices].add(1)
        # The row that the index names must be the row that is handed over.
        mismatch = jnp.sum(jnp.abs(batch.rows[:, 1] - batch.indices))
        return state._replace(params=counts, step=state.step + 1), Metrics(
            mean, mismatch, jnp.array(True), mean, 2 * mean, mean
        )

    def init(key: jax.Array) -> TrainState:
        return TrainState(jnp.zeros(num_examples, jnp.int32), (), (), jnp.zeros((), jnp.int32), jnp.array(key))

    return Algorithm(init, step, lambda state: state, lambda state, batch: state.params)


def numbered_rows(num: int) -> np.ndarray:
    rows = make_rows(num)
    rows[:, 1] = np.arange(num)
    return rows


@pytest.mark.parametrize(("num", "batch_size"), [(12, 4), (13, 4), (15, 4), (5, 5), (7, 1), (7, 6)])
def test_an_epoch_sees_every_row_once(num, batch_size):
    algorithm = counting_algorithm(num)
    state = algorithm.init(jax.random.key(0))
    loop = epochs(
        algorithm, state, numbered_rows(num), order_key=jax.random.key(1), batch_size=batch_size, num_epochs=3
    )
    for number, (state, summary) in enumerate(loop, start=1):
        assert np.array_equal(state.params, np.full(num, number))
        assert int(state.step) == number * -(-num // batch_size)
        assert summary.epoch == number
        assert summary.grad_norm == 0.0  # rows and indices belong together


@pytest.mark.parametrize(("num", "batch_size"), [(12, 4), (13, 4), (15, 7)])
def test_means_over_an_epoch_weigh_rows_and_not_steps(num, batch_size):
    rows, algorithm = numbered_rows(num), counting_algorithm(num)
    rows[:, 0] += 10 * np.arange(num)
    loop = epochs(
        algorithm,
        algorithm.init(jax.random.key(0)),
        rows,
        order_key=jax.random.key(1),
        batch_size=batch_size,
        num_epochs=1,
    )
    _, summary = next(iter(loop))
    expected = rows[:, 0].astype(np.float64).mean()
    np.testing.assert_allclose(
        [summary.bound, summary.log_likelihood, summary.kl], expected * np.array([1, 2, 1]), rtol=1e-6
    )
    assert summary.skipped_steps == 0
    np.testing.assert_allclose(summary.examples_per_second * summary.seconds, num)


def test_epochs_come_in_different_orders_that_the_key_decides():
    seen = [tuple(np.asarray(epoch_order(jax.random.key(k), e, 50))) for k in (0, 1) for e in range(3)]
    assert len(set(seen)) == 6
    assert seen[0] == tuple(np.asarray(epoch_order(jax.random.key(0), 0, 50)))


@pytest.mark.parametrize("batch_size", [0, -1, 11])
def test_a_batch_must_fit_the_data(batch_size):
    with pytest.raises(ValueError, match=f"between 1 and the 10 rows of the data, got {batch_size}"):
        compile_epoch(counting_algorithm(10), num_examples=10, batch_size=batch_size)


@pytest.mark.parametrize("num", [43])
def test_a_second_epoch_compiles_nothing(num):
    algorithm = make_algorithm(num)
    run = compile_epoch(algorithm, num_examples=num, batch_size=10)
    rows, order_key = jax.device_put(make_rows(num)), jax.random.key(1)
    state, compiled = algorithm.init(jax.random.key(0)), []

    def listen(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    state, _ = run(state, rows, order_key, jnp.asarray(0, jnp.int32))
    first = len(compiled)
    assert first > 0  # the listener hears
    numbers = [jnp.asarray(e, jnp.int32) for e in (1, 2)]
    before = len(compiled)
    for number in numbers:
        state, _ = run(state, rows, order_key, number)
    assert len(compiled) == before
    assert run._cache_size() == 1


def test_a_run_goes_on_from_any_epoch_and_compiles_nothing_more():
    algorithm, order_key = make_algorithm(43), jax.random.key(1)
    options = {"rows": make_rows(43), "order_key": order_key, "batch_size": 10}

    def trained(state: TrainState, **which: int) -> tuple[TrainState, list]:
        summaries = []
        for state, summary in epochs(algorithm, state, **options, **which):  # noqa: B007, B020
            summaries.append(summary._replace(seconds=0.0, examples_per_second=0.0))
        return jax.tree.map(jnp.copy, state._replace(key=KEY0)), summaries

    whole, of_whole = trained(algorithm.init(KEY0), num_epochs=4)
    half, of_half = trained(algorithm.init(KEY0), num_epochs=2)
    end, of_rest = trained(half, num_epochs=2, first_epoch=2)
    assert same_bits(end[:-1], whole[:-1])
    assert of_half + of_rest == of_whole
    assert compile_epoch(algorithm, num_examples=43, batch_size=10)._cache_size() == 1
    other, _ = trained(algorithm.init(KEY0), num_epochs=4, first_epoch=1)  # negative control
    assert not same_bits(other[:-1], whole[:-1])


def test_an_algorithm_may_have_no_bound_and_no_recognition_model():
    """What wake-sleep and MCEM need: a state of their own, and steps that count by their own lights."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        mean = jnp.mean(batch.rows)
        carry = 0.5 * state.carry + 0.5 * mean
        return state._replace(carry=carry, step=state.step + 1), Metrics(mean, jnp.zeros(()), state.step != 1)

    def init(key: jax.Array) -> TrainState:
        return TrainState((), (), jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.array(key))

    algorithm = Algorithm(init, step, lambda state: (make_models()[0], None), lambda state, batch: state.params)
    rows = np.arange(12.0)[:, None]
    state, summary = next(epochs(algorithm, init(KEY0), rows, order_key=KEY0, batch_size=4, num_epochs=1))
    means = rows[np.asarray(epoch_order(KEY0, 0, 12)), 0].reshape(3, 4).mean(axis=1)
    np.testing.assert_allclose(state.carry, means @ [0.125, 0.25, 0.5], rtol=1e-6)
    np.testing.assert_allclose(summary.objective, (means[0] + means[2]) / 2, rtol=1e-6)
    assert summary.skipped_steps == 1
    assert (summary.bound, summary.log_likelihood, summary.kl) == (None, None, None)


def test_donation_leaves_the_callers_models_alone():
    generative, recognition = make_models()
    before = [np.array(v) for v in jax.tree.leaves((generative, recognition))]
    algorithm = aevb(generative, recognition, SgvbB(), Adam().build(0.1), num_examples=20)
    key = jax.random.key(0)
    for state, _ in epochs(algorithm, algorithm.init(key), make_rows(20), order_key=key, batch_size=5, num_epochs=2):
        trained = algorithm.model(state)
    assert same_bits((generative, recognition), before)
    assert not allclose(trained, before)
    np.asarray(jax.random.key_data(key))
    assert same_bits(algorithm.init(key).params, before)


# --- the objective ----------------------------------------------------------------------------------------------------


def one_batch(num: int = 12) -> Batch:
    return Batch(jnp.asarray(make_rows(num)), jnp.arange(num))


def gradients_and_metrics(algorithm: Algorithm, batch: Batch):
    both = jax.jit(lambda state, batch: (algorithm.gradients(state, batch), algorithm.step(state, batch)[1]))
    return both(algorithm.init(jax.random.key(7)), batch)


def gradients(algorithm: Algorithm, batch: Batch):
    return gradients_and_metrics(algorithm, batch)[0]


def mean_kl(models, rows: jax.Array) -> jax.Array:
    """Appendix B, written out."""

    def one(x):
        q = models[1].posterior(x)
        return -0.5 * jnp.sum(1 + jnp.log(q.variance) - q.mean**2 - q.variance)

    return jnp.mean(jax.vmap(one)(rows))


@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_kl_weight_weighs_the_kl_in_the_gradient_and_not_in_the_report(weight):
    batch = one_batch()
    plain = make_algorithm(12)
    weighted = make_algorithm(12, kl_weight=lambda step: jnp.asarray(weight, float))
    of_kl = jax.jit(jax.grad(mean_kl))(make_models(), batch.rows)
    # loss = -(log_likelihood - w kl)
    of_plain_gradients, of_plain = gradients_and_metrics(plain, batch)
    of_weighted_gradients, of_weighted = gradients_and_metrics(weighted, batch)
    expected = jax.tree.map(lambda g, k: g + (weight - 1.0) * k, of_plain_gradients, of_kl)
    assert allclose(of_weighted_gradients, expected, atol=1e-5)
    assert not allclose(of_weighted_gradients, of_plain_gradients, atol=1e-3)
    np.testing.assert_allclose(of_weighted.bound, of_plain.bound, rtol=1e-6)
    np.testing.assert_allclose(of_weighted.bound, of_weighted.log_likelihood - of_weighted.kl, rtol=1e-6)


def test_kl_weight_is_a_function_of_the_step():
    batch, algorithm = one_batch(), make_algorithm(12, kl_weight=optax.linear_schedule(0.0, 1.0, 10))
    state = algorithm.init(jax.random.key(7))
    at_end = jax.jit(algorithm.gradients)(state._replace(step=jnp.int32(10)), batch)
    plain = make_algorithm(12)
    assert allclose(at_end, jax.jit(plain.gradients)(plain.init(jax.random.key(7))._replace(step=jnp.int32(10)), batch))
    without = make_algorithm(12, kl_weight=lambda step: jnp.zeros(()))
    assert allclose(jax.jit(algorithm.gradients)(state, batch), gradients(without, batch))


def test_kl_weight_needs_a_kl():
    from _oracles import JointOnly, Problem

    problem = Problem.make(D, J, 3)
    algorithm = aevb(
        JointOnly(problem.generative()),
        problem.recognition(),
        SgvbA(),
        Sgd().build(0.1),
        num_examples=12,
        kl_weight=lambda step: jnp.zeros(()),
    )
    with pytest.raises(TypeError, match=r"kl_weight.*JointOnly"):
        algorithm.step(algorithm.init(jax.random.key(0)), one_batch())


@pytest.mark.parametrize("num_examples", [500])
def test_the_parameter_prior_pulls_matrices_by_w_over_n(num_examples):
    batch = one_batch()
    plain = make_algorithm(num_examples)
    with_prior = make_algorithm(num_examples, parameter_prior=True)
    of_plain, plain_metrics = gradients_and_metrics(plain, batch)
    of_prior, prior_metrics = gradients_and_metrics(with_prior, batch)
    difference = jax.tree.map(jnp.subtract, of_prior, of_plain)
    # The gradient handed to the optimiser is a loss's: the objective's own differs by -W / N.
    expected = jax.tree.map(
        lambda w: w / num_examples if w.ndim >= 2 else jnp.zeros_like(w),
        eqx.filter(make_models(), eqx.is_inexact_array),
    )
    assert allclose(difference, expected, rtol=1e-3, atol=1e-6)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected)) > 1e-3
    np.testing.assert_allclose(prior_metrics.bound, plain_metrics.bound, rtol=1e-6)  # reported without the prior


@pytest.mark.parametrize(
    ("prior", "options"), [("mixture", {"prior_components": 4}), ("vamp", {"prior_components": 4})]
)
def test_the_parameter_prior_lies_on_weights_and_not_on_points_of_a_prior(prior, options):
    """Pseudo-inputs of a VampPrior and means and scales of a mixture are matrices, but no weights of a network."""
    a = by_names(D, 2, (3,), "tanh", "gaussian", prior=prior, prior_components=4)
    models = eqx.filter(build(a, key=jax.random.key(0)), eqx.is_inexact_array)

    def is_linear(node):
        return isinstance(node, Linear)

    layers = [node for node in jax.tree.leaves(models, is_leaf=is_linear) if is_linear(node)]
    expected = -0.5 * sum(float(jnp.sum(layer.weight**2)) for layer in layers)
    assert len(layers) == 6
    np.testing.assert_allclose(log_parameter_prior(models), expected, rtol=1e-6)
    points = jax.tree.leaves(models[0].latent_prior)
    assert 0.5 * sum(float(jnp.sum(v**2)) for v in points if v.ndim >= 2) > 1  # what it was wrong by


def test_gradients_are_per_example_whatever_n_is():
    batch = one_batch()
    assert allclose(gradients(make_algorithm(12), batch), gradients(make_algorithm(60_000), batch))


def test_steps_raise_the_bound():
    algorithm, batch = make_algorithm(12, optimizer=Adam().build(0.01)), one_batch()
    step, state = jax.jit(algorithm.step), algorithm.init(jax.random.key(0))
    bounds = []
    for _ in range(600):
        state, metrics = step(state, batch)
        bounds.append(float(metrics.bound))
    first, last = np.array(bounds[:50]), np.array(bounds[-50:])
    error = np.hypot(first.std(ddof=1), last.std(ddof=1)) / np.sqrt(50)
    assert last.mean() - first.mean() > 5 * error


def test_grad_norm_is_the_euclidean_norm():
    algorithm, batch = make_algorithm(12), one_batch()
    grads, metrics = gradients_and_metrics(algorithm, batch)
    squares = [float(np.sum(np.square(g))) for g in jax.tree.leaves(grads)]
    np.testing.assert_allclose(metrics.grad_norm, np.sqrt(sum(squares)), rtol=1e-5)


# --- non-finite steps -------------------------------------------------------------------------------------------------


def rows_with_bad(num: int, bad: list[int]) -> np.ndarray:
    rows = make_rows(num)
    rows[bad, 0] = BAD
    return rows


def test_a_non_finite_step_is_skipped_whole():
    rows = rows_with_bad(12, [3])
    algorithm = make_algorithm(12, prepare=spoil)
    step, state = jax.jit(algorithm.step), algorithm.init(jax.random.key(0))
    good, bad = jnp.array([0, 1, 2]), jnp.array([2, 3, 4])
    state, metrics = step(state, Batch(jnp.asarray(rows)[good], good))  # optimiser state off its zeros
    assert np.isfinite(metrics.bound)
    after, metrics = step(state, Batch(jnp.asarray(rows)[bad], bad))
    assert not np.isfinite(metrics.bound)
    assert same_bits(after.params, state.params)
    assert same_bits(after.opt_state, state.opt_state)
    assert int(after.step) == int(state.step) + 1  # the next step has noise of its own
    again, metrics = step(after, Batch(jnp.asarray(rows)[good], good))
    assert np.isfinite(metrics.bound)
    assert not same_bits(again.params, after.params)  # control: a good step does move them


@pytest.mark.parametrize("num", [21])
def test_exactly_the_step_with_the_bad_row_is_skipped(num):
    rows, order_key = rows_with_bad(num, [3]), jax.random.key(1)
    algorithm = make_algorithm(num, prepare=spoil)
    loop = epochs(algorithm, algorithm.init(jax.random.key(0)), rows, order_key=order_key, batch_size=4, num_epochs=2)
    for state, summary in loop:
        assert summary.skipped_steps == 1
        assert np.isfinite([summary.bound, summary.log_likelihood, summary.kl, summary.grad_norm]).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
        last = jax.tree.map(np.array, (state.params, state.opt_state))
    # The same by hand, leaving that step out.
    step, state = jax.jit(algorithm.step), algorithm.init(jax.random.key(0))
    for epoch in range(2):
        order = np.asarray(epoch_order(order_key, epoch, num))
        for start in range(0, num, 4):
            index = order[start : start + 4]
            if 3 in index:
                state = state._replace(step=state.step + 1)
            else:
                state, _ = step(state, Batch(jnp.asarray(rows[index]), jnp.asarray(index)))
    assert allclose((state.params, state.opt_state), last)


def test_skipped_steps_are_left_out_of_the_means():
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        bound = jnp.mean(spoil(state.key, batch.rows[0])) * 0 + jnp.mean(batch.rows[:, 1])
        return state._replace(step=state.step + 1), Metrics(bound, bound * 0 + 1, jnp.isfinite(bound), bound)

    rows = numbered_rows(10)
    rows[4, 0] = BAD
    algorithm = counting_algorithm(10)._replace(step=step)
    state = algorithm.init(jax.random.key(0))
    _, summary = next(epochs(algorithm, state, rows, order_key=jax.random.key(0), batch_size=1, num_epochs=1))
    assert summary.skipped_steps == 1
    np.testing.assert_allclose(summary.bound, (45 - 4) / 9)
    np.testing.assert_allclose(summary.grad_norm, 1.0)
    assert summary.kl is None


def divergence(bad: list[int], num: int, num_epochs: int, batch_size: int = 2):
    algorithm = make_algorithm(num, prepare=spoil)
    rows, yielded = rows_with_bad(num, bad), []
    loop = epochs(
        algorithm,
        algorithm.init(jax.random.key(0)),
        rows,
        order_key=jax.random.key(1),
        batch_size=batch_size,
        num_epochs=num_epochs,
    )
    for _, summary in loop:
        yielded.append(summary)
    return yielded


def test_ten_skipped_steps_in_a_row_stop_the_run():
    with pytest.raises(
        package.DivergenceError, match=r"10 steps in a row.*step \d+ of epoch 1 \(rows \d+, \d+\)"
    ) as caught:
        divergence(list(range(30)), 30, 1)
    assert "weight" in str(caught.value) or "bias" in str(caught.value)  # a tensor's name
    assert "model[" in str(caught.value)
    rows = str(caught.value).split("(rows ")[1].split(")")[0]
    order = np.asarray(epoch_order(jax.random.key(1), 0, 30))
    assert rows == f"{order[18]}, {order[19]}"  # those of the tenth step


def test_nine_in_a_row_do_not():
    assert [s.skipped_steps for s in divergence(list(range(18)), 18, 1)] == [9]


def test_the_count_runs_on_over_epochs():
    with pytest.raises(package.DivergenceError, match="of epoch 2"):
        divergence(list(range(18)), 18, 2)


def test_an_epoch_without_a_good_step_has_no_numbers():
    """Its terms were 0.0, and so its ELBO in the history."""
    [summary] = divergence(list(range(4)), 4, 1)
    assert summary.skipped_steps == 2
    terms = (summary.bound, summary.objective, summary.log_likelihood, summary.kl, summary.grad_norm)
    assert np.isnan(terms).all()


def test_means_of_an_epoch_are_over_the_rows_of_the_steps_that_counted():
    """Three steps of 4, 4 and 2 rows, of which one of 4 is skipped: 6 rows are left."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        bad = jnp.any(batch.rows[:, 0] == BAD)
        mean = jnp.where(bad, jnp.nan, jnp.mean(batch.rows[:, 1]))
        return state._replace(step=state.step + 1), Metrics(mean, mean, jnp.isfinite(mean), mean, 2 * mean, -mean)

    rows, order = numbered_rows(10), np.asarray(epoch_order(jax.random.key(0), 0, 10))
    rows[order[1], 0] = BAD  # in the first batch
    algorithm = counting_algorithm(10)._replace(step=step)
    loop = epochs(algorithm, algorithm.init(KEY0), rows, order_key=KEY0, batch_size=4, num_epochs=1)
    _, summary = next(loop)
    expected = order[4:].mean()
    assert summary.skipped_steps == 1
    assert abs(expected - np.mean([order[4:8].mean(), order[8:].mean()])) > 0.01  # control: steps do not weigh the same
    np.testing.assert_allclose(
        [summary.bound, summary.log_likelihood, summary.kl], expected * np.array([1, 2, -1]), rtol=1e-6
    )


def test_an_epoch_of_skipped_steps_is_recorded_as_missing():
    """Two steps an epoch, of which only the very first is good: epochs 2 to 5 have no ELBO, and it was 0.0 nats."""
    seen = []
    with pytest.raises(package.DivergenceError, match="10 steps in a row"):
        config = package.Config(validation=0.0, latent_dim=J, hidden=(8,), epochs=9, batch_size=20, learning_rate=1e30)
        package.fit(make_rows(40), config, on_epoch=seen.append)
    assert [record["skipped_steps"] for record in seen] == [1, 2, 2, 2, 2]
    of_terms = [[record[name] for name in record if name.startswith("train_")] for record in seen]
    assert np.isfinite(of_terms[0]).all()
    assert of_terms[1:] == [[None] * len(of_terms[0])] * 4
    assert [record["grad_norm"] for record in seen[1:]] == [None] * 4


@pytest.mark.parametrize("options", [{}, {"early_stopping": 3}], ids=str)
def test_a_diverging_fit_gives_back_the_last_good_model(options):
    rows = make_rows(220)
    with pytest.raises(package.DivergenceError, match="10 steps in a row") as caught:
        package.fit(rows, latent_dim=J, hidden=(8,), epochs=3, batch_size=10, learning_rate=1e30, **options)
    fitted = caught.value.fitted
    leaves = jax.tree.leaves((fitted.generative, fitted.recognition))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert fitted.result["stopped"] == "diverged"
    assert fitted.encode(rows).mean.shape == (220, J)


def test_a_fit_that_diverges_late_gives_back_the_last_good_model():
    """Divergence in an epoch after the first: the loop has donated what it yielded before."""
    rows, seen = make_rows(220), []

    def remember(record):
        seen.append(record)

    with pytest.raises(package.DivergenceError, match=r"of epoch [2-9]") as caught:
        # Ten steps an epoch, the first of which is the only good one: the ten in a row end in the second epoch.
        config = package.Config(validation=0.0, latent_dim=J, hidden=(8,), epochs=3, batch_size=22, learning_rate=1e30)
        package.fit(rows, config, on_epoch=remember)
    assert len(seen) == 1
    leaves = jax.tree.leaves((caught.value.fitted.generative, caught.value.fitted.recognition))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert len(caught.value.fitted.history) == 1


# --- fits as a whole --------------------------------------------------------------------------------------------------

QUICK = {"latent_dim": J, "hidden": (6,), "epochs": 3, "batch_size": 16, "evaluation_samples": 5}
TIMINGS = {"seconds", "examples_per_second", "train_seconds"}


def without_timings(fitted) -> tuple:
    history = [{k: v for k, v in record.items() if k not in TIMINGS} for record in fitted.history]
    return history, {k: v for k, v in fitted.result.items() if k not in TIMINGS}


@pytest.mark.parametrize(
    "options",
    [{}, {"likelihood": "bernoulli", "binarization": "dynamic"}, {"estimator": "sgvb-a", "parameter_prior": True}],
    ids=str,
)
def test_one_seed_gives_one_result(options):
    options = {"likelihood": "gaussian"} | options
    rows = np.random.default_rng(0).uniform(size=(70, D)).astype(np.float32)
    first, again, other = (package.fit(rows, **QUICK, **options, seed=s) for s in (3, 3, 4))
    assert same_bits((first.generative, first.recognition), (again.generative, again.recognition))
    assert without_timings(first) == without_timings(again)
    assert not allclose((first.generative, first.recognition), (other.generative, other.recognition))
    assert without_timings(first) != without_timings(other)


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(package.ConfigError, match="kl_warmup"):
        package.fit(make_rows(40), **QUICK, kl_warmup=4)


class ReadyToTrain(Exception):
    """Raised where training would begin: the rest of the fit is not of interest."""


@pytest.mark.parametrize("kl_warmup", [0, 2])
def test_the_warm_up_reaches_one_after_its_epochs(kl_warmup, monkeypatch):
    seen = []

    def spy(*args, kl_weight=None, **kwargs):
        seen.append(kl_weight)
        raise ReadyToTrain

    monkeypatch.setattr(package.train, "aevb", spy)
    with pytest.raises(ReadyToTrain):
        package.fit(make_rows(40), package.Config(**QUICK, kl_warmup=kl_warmup, validation=0.0))
    [weight] = seen
    if not kl_warmup:
        assert weight is None
        return
    steps = 3  # of an epoch: 40 rows in batches of 16
    np.testing.assert_allclose([float(weight(t * steps)) for t in (0, 1, 2, 3)], [0.0, 0.5, 1.0, 1.0])


def test_early_stopping_keeps_the_best_parameters():
    rows = make_rows(60)
    options = QUICK | {"hidden": (64,), "epochs": 150, "learning_rate": 0.02, "scaling": "none"}
    fitted = package.fit(rows, package.Config(**options, validation=0.3, early_stopping=3, likelihood="gaussian"))
    curve = [record["validation_elbo"] for record in fitted.history]
    assert fitted.result["stopped"] == "early_stopping"
    best = int(np.argmax(curve))
    assert len(curve) == best + 1 + 3 < 150
    # Validation again, by hand, with the model that was kept.
    _, index = split(60, 0.3, 0)
    key = jax.random.fold_in(jax.random.key(0), 3)
    again = evaluate.elbo(fitted.generative, fitted.recognition, rows[index], key)
    np.testing.assert_allclose(evaluate.mean(again.bound).value, curve[best], rtol=1e-6)
    assert abs(curve[-1] - curve[best]) > 1e-3  # control: the last model would not pass


# --- optimisers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_lowers_a_quadratic(name, schedule):
    rate = {"adagrad": 0.5}.get(name, 0.05)
    optimizer = OPTIMIZERS.make(name).build(SCHEDULES.make(schedule).build(rate, 300))
    start = jnp.array([1.0, -2.0, 0.5])

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(params, state, params)  # the gradient of |p|^2 / 2
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.jit(lambda: jax.lax.scan(step, (start, optimizer.init(start)), length=300))()
    assert float(jnp.sum(params**2)) < 0.2 * float(jnp.sum(start**2))


def test_unknown_names_are_errors():
    with pytest.raises(package.ConfigError, match=r"unknown optimizer 'lion'.*adam"):
        OPTIMIZERS.make("lion")
    with pytest.raises(package.ConfigError, match=r"unknown learning-rate schedule 'step'.*cosine"):
        SCHEDULES.make("step")


def test_schedules_at_their_ends():
    at = {name: [float(SCHEDULES.make(name).build(0.1, 100)(t)) for t in (0, 50, 100, 150)] for name in SCHEDULES}
    np.testing.assert_allclose(at["constant"], 0.1, rtol=1e-6)
    np.testing.assert_allclose(at["linear"], [0.1, 0.05, 0, 0], atol=1e-8)
    np.testing.assert_allclose(at["cosine"], [0.1, 0.05, 0, 0], atol=1e-8)
    np.testing.assert_allclose(at["exponential"][:3], [0.1, 0.01, 0.001], rtol=1e-5)


def two_steps(optimizer: optax.GradientTransformation, grads: list[np.ndarray]) -> np.ndarray:
    params = jnp.zeros(3)
    state = optimizer.init(params)
    for g in grads:
        updates, state = optimizer.update(jnp.asarray(g, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params, np.float64)


GRADS = [np.array([0.3, -2.0, 1e-3]), np.array([-0.1, -1.0, 5e-3])]


def test_adam_by_hand():
    m = v = p = np.zeros(3)
    for t, g in enumerate(GRADS, start=1):
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        p = p - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
    np.testing.assert_allclose(two_steps(Adam(beta1=0.8, beta2=0.95).build(0.1), GRADS), p, rtol=1e-5)


def test_adagrad_by_hand():
    total = p = np.zeros(3)
    for g in GRADS:
        total = total + g**2
        p = p - 0.1 * g / np.sqrt(total + 1e-8)
    np.testing.assert_allclose(two_steps(Adagrad().build(0.1), GRADS), p, rtol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_rmsprop_by_hand(momentum):
    v = p = velocity = np.zeros(3)
    for g in GRADS:
        v = 0.9 * v + 0.1 * g**2
        velocity = momentum * velocity + 0.1 * g / np.sqrt(v + 1e-7)
        p = p - velocity
    actual = two_steps(Rmsprop(momentum=momentum).build(0.1), GRADS)
    np.testing.assert_allclose(actual, p, rtol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_sgd_by_hand(momentum):
    p = velocity = np.zeros(3)
    for g in GRADS:
        velocity = momentum * velocity + g
        p = p - 0.1 * velocity
    np.testing.assert_allclose(two_steps(Sgd(momentum=momentum).build(0.1), GRADS), p, rtol=1e-5)


def test_training_with_dynamic_binarisation_draws_anew_at_each_step():
    rows = np.full((8, D), 128, np.uint8)
    preprocessing = package.data.Preprocessing(binarization="dynamic", maximum=255.0)
    generative = Decoder(D, J, Mlp((3,)), key=jax.random.key(0))
    recognition = Encoder(D, J, Mlp((3,)), key=jax.random.key(1))
    seen = []

    def prepare(key, row):
        x = preprocessing(key, row)
        jax.debug.callback(lambda x: seen.append(tuple(np.asarray(x).ravel())), x)
        return x

    algorithm = aevb(generative, recognition, SgvbB(), Sgd().build(0.0), num_examples=8, prepare=prepare)
    step, state = jax.jit(algorithm.step), algorithm.init(jax.random.key(0))
    for _ in range(6):
        state, _ = step(state, Batch(jnp.asarray(rows), jnp.arange(8)))
    jax.effects_barrier()
    draws = np.array([v for x in seen for v in x])
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert abs(draws.mean() - 128 / 255) < 5 * 0.5 / np.sqrt(draws.size)
