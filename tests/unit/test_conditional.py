"""Examples of several arrays, and models of p(x | z, c) p(z | c): what is given goes through every estimator and check.

In the linear-Gaussian model x = W z + V c + noise, z ~ N(U c, I), everything is known exactly.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from aevb import evaluate, train
from aevb.distributions import MultivariateNormal, Normal
from aevb.errors import UnavailableError
from aevb.estimators import Dreg, Iwae, SgvbA, SgvbB, StickingTheLanding, gradient_statistics
from aevb.evaluate._simulated import given_rows
from aevb.models import AbstractPriorLikelihood, AbstractRecognitionModel

D, J, C, NOISE = 4, 2, 3, 0.7


class Linear(AbstractPriorLikelihood):
    """An example is (x, c)."""

    of_z: Array
    of_c: Array
    prior_of_c: Array

    def split(self, x):
        return x[0], (x[1],)

    def prior(self, c):
        return Normal(self.prior_of_c @ c, 1.0).to_event(1)

    def likelihood(self, z, c):
        return Normal(self.of_z @ z + self.of_c @ c, NOISE).to_event(1)


class Exact(AbstractRecognitionModel):
    """p(z | x, c), or with a shift what is not."""

    model: Linear
    shift: float = eqx.field(static=True, default=0.0)

    def posterior(self, x):
        observed, c = x
        w = self.model.of_z
        precision = jnp.eye(J) + w.T @ w / NOISE**2
        residual = observed - self.model.of_c @ c
        mean = jnp.linalg.solve(precision, self.model.prior_of_c @ c + w.T @ residual / NOISE**2)
        return MultivariateNormal(mean + self.shift, precision_matrix=precision)


rng = np.random.default_rng(0)
W, V, U = rng.normal(size=(D, J)), rng.normal(size=(D, C)), rng.normal(size=(J, C))
ROWS = (rng.normal(size=(30, D)).astype(np.float32), np.eye(C, dtype=np.uint8)[rng.integers(0, C, 30)])
KEY = jax.random.key(0)


def model() -> Linear:
    return Linear(jnp.asarray(W, float), jnp.asarray(V, float), jnp.asarray(U, float))


def exact_log_p() -> np.ndarray:
    x, c = ROWS
    residual = x - c @ (W @ U + V).T
    covariance = W @ W.T + NOISE**2 * np.eye(D)
    _, log_det = np.linalg.slogdet(2 * np.pi * covariance)
    return -0.5 * (log_det + np.sum(residual * np.linalg.solve(covariance, residual.T).T, axis=1))


@pytest.mark.parametrize("estimator", [SgvbA(), StickingTheLanding(), Iwae(3), Dreg(3)])
def test_with_the_posterior_every_sample_weighs_log_p(estimator, x64):
    estimate = evaluate.elbo(model(), Exact(model()), ROWS, KEY, estimator=estimator)
    np.testing.assert_allclose(estimate.bound, exact_log_p(), atol=1e-8)


def test_estimator_b_has_the_kl_to_the_prior_that_is_given():
    found = evaluate.elbo(model(), Exact(model()), ROWS, KEY, estimator=SgvbB(4000))
    np.testing.assert_allclose(found.bound, exact_log_p(), atol=0.2)
    assert isinstance(evaluate.elbo_estimator(model(), Exact(model()), like=ROWS), SgvbB)
    with pytest.raises(UnavailableError, match="like="):
        evaluate.elbo_estimator(model(), Exact(model()))


def test_every_way_to_log_p_finds_it():
    pair = (model(), Exact(model(), shift=0.3))
    sampled = evaluate.importance_sampling(*pair, ROWS, KEY, num_samples=2000)
    assert np.all(np.abs(sampled.log_likelihood - exact_log_p()) < 6 * sampled.standard_error + 1e-3)
    annealed = evaluate.annealed_importance_sampling(*pair, ROWS, KEY, evaluate.Annealing(16, 50))
    assert np.all(np.abs(annealed.log_likelihood - exact_log_p()) < 6 * annealed.standard_error + 0.05)
    gaps = evaluate.inference_gaps(*pair, ROWS, KEY, num_steps=200, family="full-covariance")
    np.testing.assert_allclose(gaps.optimised_elbo, exact_log_p(), atol=0.05)
    assert gaps.means.amortisation_gap.value > 0.1
    with pytest.raises(UnavailableError, match="given"):
        evaluate.quadrature_log_likelihood(pair[0], ROWS)
    assert not evaluate.has_quadrature(pair[0])


def test_diagnostics_know_what_is_given():
    pair = (model(), Exact(model()))
    found = evaluate.latent_diagnostics(*pair, ROWS, KEY)
    assert found.active.all()
    np.testing.assert_allclose(found.prior_scale, 1.0, rtol=1e-5)
    assert evaluate.simulation_based_calibration(*pair, KEY, like=ROWS, num_simulations=200, level=1 - 1e-6).calibrated
    assert not evaluate.simulation_based_calibration(
        pair[0], Exact(model(), shift=1.0), KEY, like=ROWS, num_simulations=200, level=1 - 1e-6
    ).calibrated  # negative control
    with pytest.raises(UnavailableError, match="like="):
        evaluate.simulation_based_calibration(*pair, KEY)
    gap = evaluate.bidirectional_gap(*pair, 20, KEY, evaluate.Annealing(8, 50), like=ROWS).gap
    assert -0.05 < gap.value < 0.3
    simulated = jax.vmap(lambda key, c: model().sample(key, c))(jax.random.split(KEY, 30), ROWS[1])[0]
    second = ROWS[1][:, 1] == 1
    statistics = {"mean": np.mean, "by c": lambda m: m[second, 3].mean() - m[~second, 3].mean()}

    def distances(rows):
        check = evaluate.posterior_predictive_check(
            *pair, rows, KEY, num_replicates=79, kind="prior", statistics=statistics
        )
        return check, np.abs(check.observed - check.mean) / check.sd

    check, far = distances(simulated)
    assert (far < 4).all()
    _, far = distances((simulated[0], np.roll(ROWS[1], 1, axis=1)))  # negative control: each row's c is another's
    assert far[1] > 4
    assert check.observed[0] == pytest.approx(float(np.mean(simulated[0])), rel=1e-5)  # of x, not of c


def test_what_is_given_is_no_work_of_the_latents():
    """The prior's mean moves with c, and was taken for z that follow x: 2 of 2 dimensions active at a KL of zero."""

    class Prior(AbstractRecognitionModel):
        model: Linear

        def posterior(self, x):
            return self.model.prior(x[1])

    found = evaluate.latent_diagnostics(model(), Prior(model()), ROWS, KEY)
    assert found.num_active == 0
    assert found.mutual_information is None and found.aggregate_kl is None
    assert found.to_dict()["aggregate_kl"] is None
    verdict = str(evaluate.collapse_verdict(found))
    assert verdict.startswith(
        "0 of 2 latent dimensions are active; D_KL(q(z | x) || p(z | given)) is 0.00 ± 0.00 nats."
    )
    assert "--kl-warmup" in verdict
    used = str(evaluate.collapse_verdict(evaluate.latent_diagnostics(model(), Exact(model()), ROWS, KEY)))
    assert used.startswith("2 of 2") and "--kl-warmup" not in used and "from the prior" not in used


class Wide(Linear):
    """p(z | c) has a scale that c decides."""

    def prior(self, c):
        return Normal(self.prior_of_c @ c, c @ jnp.array([0.1, 1.0, 10.0])).to_event(1)


def test_the_priors_scale_is_that_of_all_rows():
    """It was that of the first rows, so that sorted rows had another."""
    pair = Wide(*(jnp.asarray(v, float) for v in (W, V, U))), Exact(model())
    order = np.argsort(ROWS[1].argmax(axis=1))
    for rows in (ROWS, tuple(part[order] for part in ROWS), tuple(part[order[::-1]] for part in ROWS)):
        found = evaluate.latent_diagnostics(*pair, rows, KEY)
        expected = (ROWS[1] @ [0.1, 1.0, 10.0]).mean()
        np.testing.assert_allclose(found.prior_scale, expected, rtol=1e-5)


class Swapped(Linear):
    """An example is (c, x), but nothing says so to `join`."""

    def split(self, x):
        return x[1], (x[0],)


class Joined(Swapped):
    def join(self, observed, *given):
        return (*given, observed)


def test_a_join_that_does_not_undo_the_split_is_refused():
    """Simulated examples came swapped, and the exact posterior was told to be wrong."""
    rows = (ROWS[1].astype(float), ROWS[0])
    square = (jnp.eye(C, 2), jnp.eye(C), jnp.ones((2, C)))  # x and c of one shape
    rows = (rows[0], rows[1][:, :C])
    for check in (
        lambda g: evaluate.simulation_based_calibration(g, Exact(model()), KEY, like=rows, num_simulations=20),
        lambda g: evaluate.posterior_predictive_check(g, Exact(model()), rows, KEY, num_replicates=3, kind="prior"),
    ):
        with pytest.raises(ValueError, match="join\\(\\) of Swapped does not undo its split"):
            check(Swapped(*square))
    check(Joined(*square))


def test_gradient_statistics_of_whole_numbers_are_those_of_the_same_floats():
    """2 x - 1 wraps in uint8: the mean norm was a billion."""

    class Signed(AbstractRecognitionModel):
        weight: Array

        def posterior(self, x):
            return Normal(self.weight @ (2 * x[0] - 1) + x[1][:J], 1.0).to_event(1)

    pair = model(), Signed(jnp.ones((J, D)))
    bits = (np.random.default_rng(0).integers(0, 2, (8, D)).astype(np.uint8), ROWS[1][:8])
    floats = tuple(part.astype(np.float32) for part in bits)
    found, expected = (gradient_statistics(SgvbB(), pair, rows, KEY, num_draws=3) for rows in (bits, floats))
    for name in expected:
        assert found[name].mean_norm == expected[name].mean_norm < 1e4


def test_simulated_rows_are_given_what_the_rows_of_data_have():
    index, (given,) = given_rows(model(), ROWS, np.arange(40))
    np.testing.assert_array_equal(given, ROWS[1][np.arange(40) % 30])
    np.testing.assert_array_equal(index, np.arange(40))


def test_a_conditional_model_is_trained_and_every_row_keeps_its_own_given():
    start = Linear(jnp.zeros((D, J)), jnp.zeros((D, C)), jnp.zeros((J, C)))
    c = np.eye(C, dtype=np.uint8)[np.arange(3000) % C]
    (x, _), _ = jax.vmap(lambda key, c: model().sample(key, c))(jax.random.split(KEY, 3000), c)
    optimizer = train.Adam().build(train.Constant().build(0.02, 1))

    class Encoder(AbstractRecognitionModel):
        weights: Array

        def posterior(self, x):
            loc, raw = jnp.split(self.weights @ jnp.concatenate([*x, jnp.ones(1)]), 2)
            return Normal(loc, jnp.exp(raw)).to_event(1)

    encoder = Encoder(jnp.zeros((2 * J, D + C + 1)).at[:, 0].set(0.1))
    algorithm = train.aevb(start, encoder, SgvbB(), optimizer, num_examples=3000)
    rows = (np.asarray(x), c)
    bounds = []
    for state, summary in train.epochs(  # noqa: B007
        algorithm, algorithm.init(KEY), rows, order_key=KEY, batch_size=70, num_epochs=12
    ):
        bounds.append(summary.bound)
    fitted, _ = algorithm.model(state)
    # What is found up to a rotation of z: the mean of x given c, W U + V.
    found = fitted.of_z @ fitted.prior_of_c + fitted.of_c
    np.testing.assert_allclose(found, W @ U + V, atol=0.25)
    assert bounds[-1] > bounds[0] + 1


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        evaluate.elbo(model(), Exact(model()), (ROWS[0], ROWS[1][:5]), KEY)


def test_arrays_of_different_lengths_are_not_trained_on():
    """Indices beyond the shorter array would be taken for its last row, in silence."""
    optimizer = train.Adam().build(train.Constant().build(0.02, 1))
    algorithm = train.aevb(model(), Exact(model()), SgvbA(), optimizer, num_examples=30)
    short = (ROWS[0], ROWS[1][:5])
    with pytest.raises(ValueError, match="one length"):
        next(train.epochs(algorithm, algorithm.init(KEY), short, order_key=KEY, batch_size=10, num_epochs=1))


def test_a_structure_without_a_split_says_what_to_write():
    class Forgotten(Linear):
        def split(self, x):
            return x, (x[1],)

    with pytest.raises(TypeError, match="split"):
        evaluate.elbo(Forgotten(*jax.tree.leaves(model())), Exact(model()), ROWS, KEY, estimator=SgvbA())
