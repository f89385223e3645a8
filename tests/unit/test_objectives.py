"""Objectives that are no bounds, full variational Bayes, and the options of the front door for them."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb.distributions import kl_per_dimension
from aevb.errors import ConfigError
from aevb.estimators import Dreg, Iwae, ScoreFunction, SgvbA, SgvbB, StickingTheLanding
from aevb.models import Decoder, Encoder, Mlp
from aevb.train import Batch, FreeBits, full_vb, parameter_posterior
from aevb.train import aevb as make_aevb

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
D, J, N = 6, 4, 20


def pair():
    generative = Decoder(D, J, Mlp((5,)), key=jax.random.key(0))
    recognition = Encoder(D, J, Mlp((5,)), key=jax.random.key(1))
    return generative, recognition


def rows():
    return (np.random.default_rng(0).uniform(size=(N, D)) < 0.5).astype(np.float32)


def metrics_and_gradients(estimator=None, **options):
    algorithm = make_aevb(*pair(), estimator or SgvbB(), optax.sgd(0.1), num_examples=N, **options)
    state = algorithm.init(jax.random.key(2))
    batch = Batch(jnp.asarray(rows()), jnp.arange(N))
    return algorithm.step(state, batch)[1], algorithm.gradients(state, batch)


def kl_of_dimensions():
    generative, recognition = pair()
    return np.asarray(
        jax.vmap(lambda x: kl_per_dimension(recognition.posterior(x), generative.prior()))(jnp.asarray(rows()))
    ).mean(axis=0)


# --- free bits and beta -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group_size", [1, 2, 4])
@pytest.mark.parametrize("nats", [0.01, 0.05, 0.5])
def test_free_bits_by_hand(nats, group_size):
    metrics, _ = metrics_and_gradients(free_bits=FreeBits(nats, group_size))
    groups = kl_of_dimensions().reshape(-1, group_size).sum(axis=1)
    expected = float(metrics.log_likelihood) - np.maximum(groups, nats).sum()
    assert float(metrics.objective) == pytest.approx(expected, abs=1e-4)
    assert float(metrics.bound) == pytest.approx(float(metrics.log_likelihood - metrics.kl), abs=1e-4)


def test_dimensions_below_their_free_bits_feel_no_kl():
    """With lambda above every dimension's KL the gradient is that of the reconstruction term alone."""
    _, free = metrics_and_gradients(free_bits=FreeBits(100.0))
    _, without = metrics_and_gradients(kl_weight=lambda step: jnp.zeros(()))
    _, plain = metrics_and_gradients()
    for a, b in zip(jax.tree.leaves(free), jax.tree.leaves(without), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    differences = [np.abs(a - b).max() for a, b in zip(jax.tree.leaves(free), jax.tree.leaves(plain), strict=True)]
    assert max(differences) > 1e-3


def test_free_bits_of_nothing_are_the_bound():
    metrics, gradients = metrics_and_gradients(free_bits=FreeBits(0.0))
    plain, expected = metrics_and_gradients()
    assert float(metrics.objective) == pytest.approx(float(plain.bound), abs=1e-4)
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("estimator", [SgvbA(), SgvbB(), StickingTheLanding()])
def test_beta_weighs_the_kl_in_the_objective_only(estimator):
    metrics, _ = metrics_and_gradients(estimator, kl_weight=lambda step: jnp.asarray(4.0))
    assert float(metrics.objective) == pytest.approx(float(metrics.log_likelihood - 4 * metrics.kl), abs=1e-4)
    assert float(metrics.bound) == pytest.approx(float(metrics.log_likelihood - metrics.kl), abs=1e-4)


@pytest.mark.parametrize("estimator", [Iwae(), Dreg(), ScoreFunction()])
@pytest.mark.parametrize(
    "options", [{"kl_weight": lambda step: jnp.ones(())}, {"free_bits": FreeBits(0.1)}], ids=["beta", "free bits"]
)
def test_weights_need_terms_that_carry_a_gradient(estimator, options):
    with pytest.raises(TypeError, match="weighed against each other"):
        metrics_and_gradients(estimator, **options)


def test_groups_must_divide_the_dimensions():
    with pytest.raises(ValueError, match="groups of 3 do not divide 4"):
        metrics_and_gradients(free_bits=FreeBits(0.1, 3))


# --- at the front door ------------------------------------------------------------------------------------------------

QUICK = {
    "latent_dim": 2,
    "hidden": (6,),
    "epochs": 2,
    "batch_size": 5,
    "evaluation_samples": 3,
    "likelihood": "bernoulli",
}


def test_what_is_climbed_is_reported_apart_from_the_elbo():
    plain = aevb.fit(rows(), **QUICK).history[-1]
    assert not any("objective" in name or "iwae" in name for name in plain)
    for options in ({"kl_weight": 4.0}, {"free_bits": 0.5}, {"kl_warmup": 2}):
        record = aevb.fit(rows(), **QUICK, **options).history[-1]
        assert record["train_elbo"] == pytest.approx(record["train_reconstruction"] - record["train_kl"], abs=1e-3)
        assert record["train_objective"] != pytest.approx(record["train_elbo"], abs=1e-3)
    record = aevb.fit(rows(), **QUICK, kl_weight=4.0).history[-1]
    assert record["train_objective"] == pytest.approx(record["train_reconstruction"] - 4 * record["train_kl"], abs=1e-2)
    record = aevb.fit(rows(), **QUICK, estimator="iwae", num_samples=10).history[-1]
    assert record["train_iwae_bound"] > record["train_elbo"]


@pytest.mark.parametrize("name", aevb.estimators.ESTIMATORS)
def test_every_estimator_has_a_name_at_the_front_door(name):
    fitted = aevb.fit(rows(), **QUICK, estimator=name)
    assert fitted.config.training.estimator.kind == name
    assert np.isfinite(fitted.result["evaluation"]["elbo"]["mean"])


def test_auto_is_resolved_and_recorded():
    fitted = aevb.fit(rows(), **QUICK)
    assert fitted.config.training.estimator == aevb.estimators.SgvbB()
    fitted = aevb.fit(rows(), **QUICK, prior="mixture", prior_components=3)
    assert fitted.config.training.estimator == aevb.estimators.SgvbA()
    assert fitted.result["evaluation"]["kl_is_exact"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.3}, "option of estimator renyi"),
        ({"num_groups": 3, "estimator": "iwae"}, "estimator miwae, estimator piwae alone"),
        ({"baseline": "running-mean"}, "option of estimator score"),
        ({"flow_steps": 2}, "prior flow alone"),
        ({"free_bits_group": 2}, "free_bits above 0"),
        ({"free_bits_group": 3, "free_bits": 0.1, "latent_dim": 4}, "must divide latent_dim 4"),
        ({"estimator": "iwae", "kl_weight": 2.0}, "tell a reconstruction term and a KL apart"),
        ({"estimator": "dreg", "kl_warmup": 1}, "tell a reconstruction term and a KL apart"),
        ({"estimator": "sgvb-b", "prior": "mixture"}, "no closed form"),
        ({"estimator": "vimco", "num_samples": 1}, "at least 2"),
        ({"kl_weight": -1.0}, "not negative"),
        ({"posterior": "gauss"}, "did you mean 'gaussian'"),
    ],
    ids=str,
)
def test_combinations_that_are_wrong_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        aevb.fit(rows(), **{**QUICK, **options})


# --- full variational Bayes -------------------------------------------------------------------------------------------


def test_full_vb_starts_where_it_is_told():
    generative, recognition = pair()
    algorithm = full_vb(generative, recognition, SgvbB(), optax.sgd(0.1), num_examples=N, init_scale=0.03)
    q = parameter_posterior(algorithm.init(jax.random.key(0)))
    for loc, scale, start in zip(*map(jax.tree.leaves, (q.loc, q.scale, generative)), strict=False):
        np.testing.assert_array_equal(loc, start)
        np.testing.assert_allclose(scale, 0.03, rtol=1e-5)


def test_the_bound_of_full_vb_by_hand():
    """objective = mean of the rows' bounds - KL(q(theta) || p(theta)) / N."""
    generative, recognition = pair()
    algorithm = full_vb(
        generative, recognition, SgvbB(), optax.sgd(0.1), num_examples=50, init_scale=0.3, prior_scale=2.0
    )
    state = algorithm.init(jax.random.key(0))
    _, metrics = algorithm.step(state, Batch(jnp.asarray(rows()), jnp.arange(N)))
    theta = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(parameter_posterior(state).loc)])
    kl = 0.5 * np.sum((0.3**2 + theta**2) / 4 - 1 - 2 * np.log(0.3 / 2))
    assert float(metrics.objective) == pytest.approx(float(metrics.bound) - kl / 50, rel=1e-4)


def test_theta_differs_from_step_to_step_and_the_samples_have_the_right_spread():
    generative, recognition = pair()
    algorithm = full_vb(generative, recognition, SgvbB(), optax.sgd(0.0), num_examples=N, init_scale=0.5)
    state = algorithm.init(jax.random.key(0))
    batch = Batch(jnp.asarray(rows()), jnp.arange(N))
    first = algorithm.step(state, batch)
    second = algorithm.step(first[0], batch)
    assert float(first[1].bound) != float(second[1].bound)
    q = parameter_posterior(state)
    draws = jax.vmap(lambda key: q.rsample(key).network.layers[0].weight)(jax.random.split(jax.random.key(1), 4000))
    np.testing.assert_allclose(draws.std(axis=0), 0.5, rtol=0.1)
    np.testing.assert_allclose(draws.mean(axis=0), q.loc.network.layers[0].weight, atol=0.05)
    flat = np.asarray(draws).reshape(4000, -1)
    assert np.abs(np.corrcoef(flat.T) - np.eye(flat.shape[1])).max() < 0.1


def test_full_vb_refuses_what_is_no_elbo():
    with pytest.raises(TypeError, match="derived for the ELBO"):
        full_vb(*pair(), Iwae(), optax.sgd(0.1), num_examples=N)
    with pytest.raises(ValueError, match="must be positive"):
        full_vb(*pair(), SgvbB(), optax.sgd(0.1), num_examples=N, init_scale=0.0)


def run(name: str, **options):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](**options)


def test_full_vb_finds_the_known_posterior():
    found, exact = run("full_vb", num_epochs=600)
    assert found["mean"] == pytest.approx(exact["mean"], abs=0.02)
    assert found["factorised_sd"] == pytest.approx(exact["factorised_sd"], rel=0.06)
    assert exact["bound"] - 3.0 < found["bound"] < exact["bound"] + 0.5
    assert exact["bound"] < exact["log_p"]


def test_batting_averages_reach_the_marginal_likelihood():
    bound, best, means, exact = run("batting", num_epochs=1500)
    assert best - 0.3 < bound < best + 0.1
    np.testing.assert_allclose(means, exact, atol=0.02)


def test_logistic_regression_is_near_the_exact_posterior():
    mean, sd, bound, (exact_mean, exact_sd, evidence) = run("logistic_regression", num_epochs=2500)
    np.testing.assert_allclose(mean, exact_mean, atol=0.15)
    assert np.all((0.75 * exact_sd < sd) & (sd < exact_sd))  # a factorised posterior is too narrow
    assert evidence - 0.6 < bound < evidence + 0.05
