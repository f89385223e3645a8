"""The SGVB estimators against closed forms: means, gradients, variances, noise, and eq. 8's scaling."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from _oracles import (
    JointOnly,
    LinearGaussian,
    LinearRecognition,
    Problem,
    estimates,
    linear_elbo,
    posterior_gap,
    row_keys,
    single_sample_noise,
    variance_z_score,
    z_scores,
)

from aevb import evaluate
from aevb.estimators import AbstractEstimator, Estimate, SgvbA, SgvbB, minibatch_bound
from aevb.estimators._log_weights import reparameterized_samples
from aevb.models import AbstractRecognitionModel
from aevb.train import Batch, Sgd, aevb

PROBLEM = Problem.make(data_dim=5, latent_dim=2, num_rows=64, seed=3)
ESTIMATORS = {"a": SgvbA, "b": SgvbB}
NUM_DRAWS = 20_000

pytestmark = pytest.mark.usefixtures("x64")


def wrong_recognition() -> LinearRecognition:
    """Far from the posterior in every respect, and wider than it, so that importance weights have a variance."""
    return PROBLEM.recognition(shift=0.4, scale=1.3, tilt=0.7)


def closed_form(generative: LinearGaussian, recognition: LinearRecognition, x: np.ndarray) -> jax.Array:
    loc = recognition.weight @ jnp.asarray(x) + recognition.bias
    return linear_elbo(generative, loc, jnp.exp(recognition.log_scale), jnp.asarray(x))


def draws(estimator: AbstractEstimator, row: np.ndarray, num: int = NUM_DRAWS, seed: int = 0, recognition=None):
    rows, recognition = np.broadcast_to(row, (num, len(row))), recognition or wrong_recognition()
    return estimates(estimator, row_keys(jax.random.key(seed), num), PROBLEM.generative(), recognition, rows)


class LessKl(AbstractEstimator):
    """Planted defect: an estimator whose KL weighs 1 - share."""

    right: AbstractEstimator
    share: float = eqx.field(static=True, default=0.1)
    num_samples: int = eqx.field(static=True, default=1)

    def __call__(self, key, generative, recognition, x) -> Estimate:
        bound, log_likelihood, kl, _ = self.right(key, generative, recognition, x)
        return Estimate(bound + self.share * kl, log_likelihood, (1.0 - self.share) * kl)


class UnnormalisedNormal(dist.Normal):
    """Planted defect: a Gaussian whose normaliser 1 / (sqrt(2 pi) sigma) was taken in twice."""

    def log_prob(self, value, intermediates=None):
        return super().log_prob(value) - 0.5 * np.log(2 * np.pi) - jnp.log(self.scale)


class UnnormalisedRecognition(LinearRecognition):
    def posterior(self, x):
        return UnnormalisedNormal(self.weight @ x + self.bias, jnp.exp(self.log_scale)).to_event(1)


# --- means ------------------------------------------------------------------------------------------------------------


def test_the_oracles_agree_with_each_other():
    elbos = np.array([float(closed_form(PROBLEM.generative(), wrong_recognition(), x)) for x in PROBLEM.rows])
    gap = posterior_gap(PROBLEM, wrong_recognition())
    assert gap.min() > 0.1
    np.testing.assert_allclose(elbos, PROBLEM.log_marginal() - gap, rtol=1e-12)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_mean_is_the_elbo(name, index):
    row = PROBLEM.rows[index]
    expected = float(closed_form(PROBLEM.generative(), wrong_recognition(), row))
    bound, log_likelihood, kl = draws(ESTIMATORS[name](), row, seed=index)
    assert abs(z_scores(bound, expected)) < 5
    np.testing.assert_allclose(bound, log_likelihood - kl, rtol=1e-12)
    # Negative control: a KL that weighs 0.8.
    assert abs(z_scores(draws(LessKl(ESTIMATORS[name](), 0.2), row, seed=index)[0], expected)) > 5


@pytest.mark.parametrize("index", range(4))
def test_a_and_b_agree(index):
    a = draws(SgvbA(), PROBLEM.rows[index], seed=index)
    b = draws(SgvbB(), PROBLEM.rows[index], seed=index)  # the same noise: a paired comparison
    for of_a, of_b in zip(a, b, strict=True):
        assert abs(z_scores(of_a - of_b, 0.0)) < 5
    planted = draws(LessKl(SgvbB()), PROBLEM.rows[index], seed=index)
    assert abs(z_scores(a[0] - planted[0], 0.0)) > 5


def test_kl_is_sampled_by_a_and_exact_with_b():
    assert draws(SgvbA(), PROBLEM.rows[0])[2].std() > 0.1
    assert draws(SgvbB(), PROBLEM.rows[0])[2].std() < 1e-12


# --- gradients --------------------------------------------------------------------------------------------------------


def flat_gradients(bound_of, models, keys: jax.Array) -> np.ndarray:
    """One gradient per key, flattened: (len(keys), number of parameters)."""

    @jax.jit
    def all_gradients(keys, models):
        one = jax.vmap(jax.grad(lambda models, key: bound_of(key, *models)), in_axes=(None, 0))
        return [leaf.reshape(len(keys), -1) for leaf in jax.tree.leaves(one(models, keys))]

    return np.concatenate([np.asarray(leaf) for leaf in all_gradients(keys, models)], axis=1)


def exact_gradient(models, x) -> np.ndarray:
    grads = jax.grad(lambda models: closed_form(*models, x))(models)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads)])


class NoPathGradient(SgvbA):
    """Planted defect: the sample carries no gradient to the encoder."""

    def __call__(self, key, generative, recognition, x) -> Estimate:
        q = recognition.posterior(x)
        z = jax.lax.stop_gradient(q.sample(key))
        return Estimate(generative.log_joint(x, z) - q.log_prob(z), None, None)


def gradient_z_scores(estimator: AbstractEstimator, index: int) -> np.ndarray:
    models, x = (PROBLEM.generative(), wrong_recognition()), jnp.asarray(PROBLEM.rows[index])
    keys = row_keys(jax.random.key(100 + index), NUM_DRAWS)
    grads = flat_gradients(lambda key, g, r: estimator(key, g, r, x).bound, models, keys)
    return z_scores(grads, exact_gradient(models, x))


@pytest.mark.parametrize("index", range(2))
@pytest.mark.parametrize("estimator", [SgvbA(), SgvbB(), SgvbA(2), SgvbB(2)], ids=repr)
def test_the_mean_gradient_is_the_gradient_of_the_elbo(estimator, index):
    scores = gradient_z_scores(estimator, index)
    assert len(scores) == 10 + 5 + 1 + 10 + 2 + 2
    assert np.max(np.abs(scores)) < 5


@pytest.mark.parametrize("planted", [NoPathGradient(), LessKl(SgvbB())], ids=lambda p: type(p).__name__)
def test_a_biased_gradient_is_seen(planted):
    assert np.max(np.abs(gradient_z_scores(planted, 0))) > 5


# --- variance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_variance_is_the_one_that_theory_gives(name, index):
    row = PROBLEM.rows[index]
    expected = single_sample_noise(PROBLEM, wrong_recognition(), row)[name].variance
    bound = draws(ESTIMATORS[name](), row, seed=10 + index)[0]
    assert abs(variance_z_score(bound, expected)) < 5
    # Negative control: an encoder whose scale is 10 % too large, and with it the spread of z.
    wider = PROBLEM.recognition(shift=0.4, scale=1.1 * 1.3, tilt=0.7)
    assert abs(variance_z_score(draws(ESTIMATORS[name](), row, seed=10 + index, recognition=wider)[0], expected)) > 5


def blind_problem() -> Problem:
    """A decoder that ignores z: log p(x | z) does not vary, so all of B's variance is gone and A keeps the KL's."""
    return PROBLEM._replace(weight=np.zeros_like(PROBLEM.weight))


def test_b_has_less_variance_where_the_kl_is_what_varies():
    problem = blind_problem()
    rows = np.broadcast_to(problem.rows[0], (NUM_DRAWS, 5))
    variance = {}
    for name, estimator in ESTIMATORS.items():
        bound = estimates(
            estimator(), row_keys(jax.random.key(0), NUM_DRAWS), problem.generative(), wrong_recognition(), rows
        )[0]
        variance[name] = bound.var()
        theory = single_sample_noise(problem, wrong_recognition(), problem.rows[0])[name].variance
        if name == "a":
            assert abs(variance_z_score(bound, theory)) < 5
    assert variance["b"] < 1e-20 < 0.1 < variance["a"]


def test_a_has_no_variance_at_the_exact_posterior_and_b_has():
    rows = np.broadcast_to(PROBLEM.rows[0], (NUM_DRAWS, 5))
    keys = row_keys(jax.random.key(0), NUM_DRAWS)
    a, b = (estimates(e(), keys, PROBLEM.generative(), PROBLEM.recognition(), rows)[0] for e in (SgvbA, SgvbB))
    assert a.var() < 1e-20
    theory = single_sample_noise(PROBLEM, PROBLEM.recognition(), PROBLEM.rows[0])["b"].variance
    assert theory > 0.1
    assert abs(variance_z_score(b, theory)) < 5


class SameSampleAgain(SgvbA):
    """Planted defect: L samples that are all the same one."""

    def __call__(self, key, generative, recognition, x) -> Estimate:
        return SgvbA(1)(key, generative, recognition, x)


@pytest.mark.parametrize("num_samples", [2, 10])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_l_samples_divide_the_variance_by_l(name, num_samples):
    row = PROBLEM.rows[1]
    one = single_sample_noise(PROBLEM, wrong_recognition(), row)[name].variance
    bound = draws(ESTIMATORS[name](num_samples), row, num=10_000, seed=num_samples)[0]
    assert abs(variance_z_score(bound, one / num_samples)) < 5
    repeated = draws(SameSampleAgain(num_samples), row, num=10_000, seed=num_samples)[0]
    assert abs(variance_z_score(repeated, one / num_samples)) > 5


# --- tighter bounds ---------------------------------------------------------------------------------------------------


def test_the_bounds_are_ordered():
    rows = np.repeat(PROBLEM.rows, 60, axis=0)
    generative, recognition = PROBLEM.generative(), wrong_recognition()
    exact = np.repeat(PROBLEM.log_marginal(), 60)
    elbo = exact - np.repeat(posterior_gap(PROBLEM, recognition), 60)

    def bound_of(num_samples: int, recognition=recognition) -> np.ndarray:
        key = jax.random.key(8)
        return evaluate.log_likelihood(
            generative, recognition, rows, key, num_samples=num_samples, batch_size=len(rows), proposal="encoder"
        )

    one, five, fifty = bound_of(1), bound_of(5), bound_of(50)
    assert abs(z_scores(one - elbo, 0.0)) < 5  # K = 1 is the ELBO
    assert z_scores(five - one, 0.0) > 5
    assert z_scores(fifty - five, 0.0) > 5
    assert z_scores(exact - fifty, 0.0) > 5  # still a lower bound, and the paired test is sharp enough to see it
    assert np.mean(exact - fifty) < 0.2 * np.mean(exact - elbo)
    # Negative control: a density of q that is too small would pass for "tighter than" log p(x).
    assert z_scores(exact - bound_of(50, remade(UnnormalisedRecognition)), 0.0) < -5


# --- noise ------------------------------------------------------------------------------------------------------------


class Probe(AbstractEstimator):
    """Its gradient with respect to `shift` IS the noise that the row was given: d bound / d shift_i = eps_i."""

    num_samples: int = 1

    def __call__(self, key, generative, recognition, x) -> Estimate:
        row = x[0].astype(int)
        bound = recognition.shift[row] * jax.random.normal(key)
        return Estimate(bound, bound, jnp.zeros_like(bound))


PROBE = Probe()


class Shifts(AbstractRecognitionModel):
    shift: jax.Array

    def posterior(self, x):
        raise NotImplementedError


class DeafProbe(Probe):
    """Planted defect: an estimator that does not listen to its key, so that all rows, steps and seeds share noise."""

    def __call__(self, key, generative, recognition, x) -> Estimate:
        return super().__call__(jax.random.key(3), generative, recognition, x)


@functools.partial(jax.jit, static_argnums=3)
def shift_gradient(key: jax.Array, step: jax.Array, index: jax.Array, probe: AbstractEstimator) -> jax.Array:
    generative, recognition = PROBLEM.generative(), Shifts(jnp.ones(12))
    algorithm = aevb(generative, recognition, probe, Sgd().build(0.1), num_examples=12)
    state = algorithm.init(key)._replace(step=step)
    return algorithm.gradients(state, Batch(index[:, None].astype(float), index))[1].shift


def noise_of(rows: list[int], *, step: int = 0, seed: int = 0, probe: AbstractEstimator = PROBE) -> np.ndarray:
    """The noise that training gives to these rows of a data set in this step."""
    gradient = shift_gradient(jax.random.key(seed), jnp.asarray(step, jnp.int32), jnp.asarray(rows), probe)
    return -len(rows) * np.asarray(gradient)[np.asarray(rows)]


def is_fresh(noise: np.ndarray) -> bool:
    return len(np.unique(noise)) == noise.size and not np.any(noise == 0.0)


def test_rows_steps_and_seeds_have_noise_of_their_own():
    noise = np.stack([noise_of(list(range(12)), step=t, seed=s) for t in range(5) for s in range(3)])
    assert is_fresh(noise)
    assert not is_fresh(noise_of(list(range(12)), probe=DeafProbe()))


def test_noise_belongs_to_the_row_and_not_to_its_place_in_the_batch():
    together = noise_of([0, 1, 2, 3, 4, 5])
    np.testing.assert_allclose(noise_of([5, 3, 1]), together[[5, 3, 1]], rtol=1e-12)
    np.testing.assert_allclose(noise_of([3]), together[[3]], rtol=1e-12)


def batch_means(share_noise: bool) -> tuple[np.ndarray, int]:
    """Bounds of many minibatches of M equal rows, by the training step's own code but for the keys of the control."""
    num_batches, size = 3000, 8
    generative, recognition = PROBLEM.generative(), wrong_recognition()
    rows = jnp.broadcast_to(jnp.asarray(PROBLEM.rows[0]), (size, 5))
    algorithm = aevb(generative, recognition, SgvbA(), Sgd().build(0.0), num_examples=size)
    state = algorithm.init(jax.random.key(5))

    def mean_bound(t):
        if share_noise:
            keys = jnp.broadcast_to(jax.random.fold_in(jax.random.key(5), t), (size,))
            return minibatch_bound(SgvbA(), keys, generative, recognition, rows, 1)[0]
        return algorithm.step(state._replace(step=t), Batch(rows, jnp.arange(size)))[1].bound

    return np.asarray(jax.jit(jax.vmap(mean_bound))(jnp.arange(num_batches, dtype=jnp.int32))), size


def test_the_variance_of_a_minibatch_falls_with_its_size():
    one = single_sample_noise(PROBLEM, wrong_recognition(), PROBLEM.rows[0])["a"].variance
    means, size = batch_means(share_noise=False)
    assert abs(variance_z_score(means, one / size)) < 5
    shared, _ = batch_means(share_noise=True)  # the planted defect that the identity does not see
    assert abs(variance_z_score(shared, one / size)) > 5


def test_the_samples_of_a_row_differ():
    q = dist.Normal(jnp.zeros(3), jnp.ones(3)).to_event(1)
    z = np.asarray(reparameterized_samples(q, jax.random.key(0), 16)[0])
    assert z.shape == (16, 3)
    assert is_fresh(z)
    assert not np.array_equal(z, np.asarray(reparameterized_samples(q, jax.random.key(1), 16)[0]))


def test_samples_carry_their_gradient():
    def total(loc, scale):
        q = dist.Normal(loc, scale).to_event(1)
        return jnp.sum(reparameterized_samples(q, jax.random.key(0), 4)[0])

    loc, scale = jnp.zeros(3), jnp.ones(3)
    of_loc, of_scale = jax.grad(total, argnums=(0, 1))(loc, scale)
    eps, _ = reparameterized_samples(dist.Normal(loc, scale).to_event(1), jax.random.key(0), 4)
    np.testing.assert_allclose(of_loc, 4.0)
    np.testing.assert_allclose(of_scale, eps.sum(axis=0), rtol=1e-12)


# --- eq. 8 ------------------------------------------------------------------------------------------------------------


@eqx.filter_jit
def bound_of_rows(estimator, keys, generative, recognition, rows, num_examples):
    return minibatch_bound(estimator, keys, generative, recognition, rows, num_examples)[0]


@pytest.mark.parametrize("sizes", [(8,) * 8, (32, 32), (64,), (20, 20, 20, 4), (63, 1)], ids=str)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_minibatches_average_to_the_full_data_bound(name, sizes):
    estimator, n = ESTIMATORS[name](2), len(PROBLEM.rows)
    keys, rows = row_keys(jax.random.key(1), n), jnp.asarray(PROBLEM.rows)
    models = PROBLEM.generative(), wrong_recognition()
    per_row = estimates(estimator, keys, *models, rows)[0]

    starts = np.cumsum((0, *sizes))
    parts = [float(bound_of_rows(estimator, keys[a:b], *models, rows[a:b], n)) for a, b in itertools.pairwise(starts)]
    shares = np.array(sizes) / n  # a batch of M rows is one of N / M
    np.testing.assert_allclose(np.sum(shares * parts), per_row.sum(), rtol=1e-12)
    if len(set(sizes)) == 1:
        np.testing.assert_allclose(np.mean(parts), per_row.sum(), rtol=1e-12)


# --- errors -----------------------------------------------------------------------------------------------------------


class LaplaceRecognition(LinearRecognition):
    def posterior(self, x):
        return dist.Laplace(self.weight @ x + self.bias, jnp.exp(self.log_scale)).to_event(1)


class BernoulliRecognition(LinearRecognition):
    def posterior(self, x):
        return dist.BernoulliLogits(self.weight @ x + self.bias).to_event(1)


class PoissonRecognition(LinearRecognition):
    def posterior(self, x):
        return dist.Poisson(jnp.exp(self.weight @ x + self.bias)).to_event(1)


class PoissonPrior(LinearGaussian):
    """With a closed form for the KL, so that estimator B gets as far as its sampler."""

    def prior(self):
        return dist.Gamma(jnp.ones(2), jnp.ones(2)).to_event(1)


@eqx.filter_jit
def call(estimator, generative, recognition):
    return estimator(jax.random.key(0), generative, recognition, jnp.asarray(PROBLEM.rows[0]))


def remade(family: type[LinearRecognition]) -> LinearRecognition:
    q = wrong_recognition()
    return family(q.weight, q.bias, q.log_scale)


def test_b_wants_a_model_in_two_parts():
    with pytest.raises(TypeError, match=r"JointOnly.*SgvbA"):
        call(SgvbB(), JointOnly(PROBLEM.generative()), wrong_recognition())


def test_a_does_with_log_joint_alone():
    whole = call(SgvbA(4), PROBLEM.generative(), wrong_recognition())
    joint = call(SgvbA(4), JointOnly(PROBLEM.generative()), wrong_recognition())
    np.testing.assert_allclose(joint.bound, whole.bound, rtol=1e-12)
    assert joint.log_likelihood is None
    assert joint.kl is None


def test_b_names_both_families_where_no_kl_is_known():
    with pytest.raises(TypeError, match=r"Laplace.*Normal.*SgvbA"):
        call(SgvbB(), PROBLEM.generative(), remade(LaplaceRecognition))
    assert np.isfinite(call(SgvbA(), PROBLEM.generative(), remade(LaplaceRecognition)).bound)


@pytest.mark.parametrize("family", [BernoulliRecognition, PoissonRecognition])
@pytest.mark.parametrize("generative", [PROBLEM.generative, lambda: JointOnly(PROBLEM.generative())])
def test_a_posterior_without_a_reparameterised_sampler_is_refused(family, generative):
    with pytest.raises(TypeError, match="reparameteris"):
        call(SgvbA(), generative(), remade(family))


@pytest.mark.parametrize("estimator", [SgvbA, SgvbB])
@pytest.mark.parametrize("num_samples", [0, -1])
def test_no_samples_is_an_error(estimator, num_samples):
    with pytest.raises(ValueError, match=f"num_samples must be at least 1, got {num_samples}"):
        estimator(num_samples)


def test_estimators_are_values():
    assert SgvbA(3) == SgvbA(3)
    assert hash(SgvbB()) == hash(SgvbB())
    assert SgvbA(3) != SgvbA(2)
    assert jax.tree.leaves(SgvbA(3)) == []
