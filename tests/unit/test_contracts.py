"""A model of one's own whose shapes do not fit: refused by whatever is asked of it, at the first trace, by name.

None of the models below is wrong in a way that JAX would notice: each of them used to train or to be evaluated in
silence, on a mean over pixels or with a prior that was broadcast. The file also runs without the tests' run-time type
checks (`test_without_type_checks`), as users run the library.
"""

import ast
import os
import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions
import optax
import pytest

import aevb
from aevb import evaluate
from aevb.distributions import Delta, Laplace, Normal, has_analytic_kl
from aevb.errors import UnavailableError
from aevb.estimators import ESTIMATORS, SgvbA, SgvbB, gradient_statistics, minibatch_bound
from aevb.evaluate import _gradients
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    log_joint_of,
    posterior_and_prior,
)
from aevb.train import Batch, FreeBits, full_vb
from aevb.train import aevb as make_aevb

D, J = 5, 3
ROWS = np.random.default_rng(0).normal(size=(8, D)).astype(np.float32)
KEY = jax.random.key(0)


class Factors(AbstractPriorLikelihood):
    """p(z) = N(0, I), p(x | z) = N(W z, I), with one thing wrong with it."""

    weight: jax.Array  # (D, J)
    wrong: str = eqx.field(static=True, default="")

    def prior(self):
        if self.wrong == "no distribution":
            return None
        width = 1 if self.wrong == "prior of one number" else self.weight.shape[1]
        p = Normal(jnp.zeros(width), 1.0)
        return p if self.wrong == "prior without to_event" else p.to_event(1)

    def likelihood(self, z):
        loc = jnp.sum(self.weight * z, axis=1)  # W z, which broadcasts a z of one number where a product would not
        p = Normal(loc[:1] if self.wrong == "likelihood of one number" else loc, 1.0)
        return p if self.wrong == "likelihood without to_event" else p.to_event(1)


class Joint(AbstractGenerativeModel):
    """The same, telling no more than log p(x, z)."""

    weight: jax.Array
    wrong: str = eqx.field(static=True, default="")

    def log_joint(self, x, z):
        prior, likelihood = Normal(0.0, 1.0).log_prob(z), Normal(self.weight @ z, 1.0).log_prob(x)
        return likelihood + jnp.sum(prior) if self.wrong else jnp.sum(likelihood) + jnp.sum(prior)

    def sample(self, key):
        z = jax.random.normal(key, (J,))
        return self.weight @ z + jax.random.normal(jax.random.fold_in(key, 1), (D,)), z


class Encoder(AbstractRecognitionModel):
    weight: jax.Array  # (J, D)
    wrong: str = eqx.field(static=True, default="")

    def posterior(self, x):
        q = Normal(self.weight @ x, 0.5)
        return q if self.wrong == "posterior without to_event" else q.to_event(1)


def pair(wrong="", generative=Factors):
    weight = jnp.linspace(-1.0, 1.0, D * J).reshape(D, J)
    return generative(weight, wrong), Encoder(weight.T, wrong)


# what is wrong -> what the message must say: whose fault it is, what came, and what to do
TWO_PARTS = {
    "prior without to_event": r"prior\(\) of Factors must return one distribution .* batch shape \(3,\).*to_event\(1\)",
    "likelihood without to_event": r"likelihood\(\) of Factors must .* batch shape \(5,\).*add \.to_event\(1\)",
    "posterior without to_event": r"posterior\(\) of Encoder must .* batch shape \(3,\).*add \.to_event\(1\)",
    "prior of one number": r"prior\(\) of Factors (is )?over z of shape \(1,\)",
    "likelihood of one number": r"likelihood\(\) of Factors is over x of shape \(1,\), but x has shape \(5,\)",
    "no distribution": r"prior\(\) of Factors must return a distribution, but returned NoneType",
}
JOINT = {
    "one number for each pixel": r"log_joint\(\) of Joint must give one number .* shape \(5,\).*sum over",
    "posterior without to_event": r"posterior\(\) of Encoder must",
}
CASES = [*((Factors, *case) for case in TWO_PARTS.items()), *((Joint, *case) for case in JOINT.items())]


def shapes_of(fn, *args):
    return eqx.filter_eval_shape(fn, *args)


def by_estimator(name):
    def call(generative, recognition):
        estimator = ESTIMATORS.make(name)
        return shapes_of(lambda g, q: estimator(KEY, g, q, jnp.asarray(ROWS[0])).bound, generative, recognition)

    return call


def by_training(make, **options):
    def call(generative, recognition):
        algorithm = make(generative, recognition, SgvbA(), optax.sgd(0.1), num_examples=8, **options)
        state = algorithm.init(KEY)
        return shapes_of(algorithm.step, state, Batch(jnp.asarray(ROWS), jnp.arange(8)))

    return call


def by_minibatch(generative, recognition):
    keys = jax.random.split(KEY, 8)
    return shapes_of(
        lambda g, q: minibatch_bound(SgvbA(), keys, g, q, jnp.asarray(ROWS), 8)[0], generative, recognition
    )


QUESTIONS = {
    **{name: by_estimator(name) for name in ESTIMATORS},
    "a minibatch": by_minibatch,
    "aevb": by_training(make_aevb),
    "full_vb": by_training(full_vb),
    "elbo": lambda g, q: evaluate.elbo(g, q, ROWS, KEY, estimator=SgvbA()),
    "importance sampling": lambda g, q: evaluate.log_likelihood(g, q, ROWS, KEY, num_samples=2),
    "importance sampling from the encoder": lambda g, q: evaluate.log_likelihood(
        g, q, ROWS, KEY, num_samples=2, proposal="encoder"
    ),
    "ais from the encoder": lambda g, q: evaluate.annealed_importance_sampling(
        g, q, ROWS, KEY, evaluate.Annealing(2, 2, start="encoder")
    ),
    "harmonic": lambda g, q: evaluate.harmonic_log_likelihood(g, q, ROWS, KEY),
    "gaps": lambda g, q: evaluate.inference_gaps(g, q, ROWS, KEY, num_steps=1, num_samples=2),
    "calibration": lambda g, q: evaluate.simulation_based_calibration(g, q, KEY, num_simulations=20, num_draws=3),
    "gradients": lambda g, q: gradient_statistics(SgvbA(), (g, q), ROWS, KEY, num_draws=2),
    "comparison": lambda g, q: list(evaluate.compare_estimators(g, q, ROWS, KEY, num_samples=(2,), num_draws=2)),
}
OF_TWO_PARTS = {
    "free bits": by_training(make_aevb, free_bits=FreeBits(0.1)),
    "ais from the prior": lambda g, q: evaluate.annealed_importance_sampling(g, q, ROWS, KEY, evaluate.Annealing(2, 2)),
    "the latent's diagnostics": lambda g, q: evaluate.latent_diagnostics(g, q, ROWS, KEY),
    "estimator of the elbo": evaluate.elbo_estimator,
}
# What does not look at the whole of a model cannot see what is wrong with the rest of it.
BLIND = {
    # It never asks for the likelihood.
    ("the latent's diagnostics", "likelihood without to_event"),
    ("the latent's diagnostics", "likelihood of one number"),
    # It has no data but the model's own, which have the likelihood's shape, whatever that is.
    ("calibration", "likelihood of one number"),
    ("estimator of the elbo", "likelihood of one number"),
    # It never asks for the posterior.
    ("ais from the prior", "posterior without to_event"),
    ("ais from the prior", "prior of one number"),
}


@pytest.mark.parametrize(("kind", "wrong", "message"), CASES, ids=[f"{k.__name__}, {w}" for k, w, _ in CASES])
def test_shapes_that_do_not_fit_are_refused_by_all_who_ask(kind, wrong, message):
    generative, recognition = pair(wrong, kind)
    questions = QUESTIONS | OF_TWO_PARTS if kind is Factors else QUESTIONS
    for name, ask in questions.items():
        if (name, wrong) in BLIND or (kind is Joint and name == "sgvb-b"):
            continue
        with pytest.raises(TypeError if wrong == "no distribution" else ValueError) as caught:
            ask(generative, recognition)
        assert not isinstance(caught.value, UnavailableError), name
        # Calibration compares the latents' shapes itself, before it asks for a density.
        of_own = name == "calibration" and "z must have one shape in both models" in str(caught.value)
        assert re.search(message, str(caught.value)) or of_own, (name, str(caught.value))


@pytest.mark.parametrize(
    "wrong", [w for w in TWO_PARTS if w not in ("posterior without to_event", "prior of one number")]
)
def test_quadrature_refuses_them_where_it_applies(wrong):
    """With one latent dimension, in which a prior of one number is right."""
    generative = Factors(jnp.ones((D, 1)), wrong)
    with pytest.raises(
        TypeError if wrong == "no distribution" else ValueError, match=r"(prior|likelihood)\(\) of Factors"
    ):
        evaluate.quadrature_log_likelihood(generative, ROWS)


@pytest.mark.parametrize("wrong", ["prior without to_event", "likelihood without to_event"])
def test_ancestral_samples_are_refused_too(wrong):
    with pytest.raises(ValueError, match="to_event"):
        pair(wrong)[0].sample(KEY)


@pytest.mark.parametrize("kind", [Factors, Joint])
def test_shapes_that_fit_are_not_refused(kind):
    """The control: what is right passes, so that the refusals above are of what is wrong alone."""
    for name in (n for n in ESTIMATORS if kind is Factors or n != "sgvb-b"):
        assert by_estimator(name)(*pair("", kind)).shape == ()
    for ask in (by_minibatch, by_training(make_aevb), by_training(full_vb)):
        ask(*pair("", kind))


def test_the_data_must_have_the_likelihoods_shape():
    """x of another shape, a row too short or an image not flattened, was broadcast where it could be."""
    for shape in ((1,), (D - 1,), (1, D), (D, D)):
        with pytest.raises(ValueError, match=rf"over x of shape \(5,\), but x has shape {re.escape(str(shape))}"):
            shapes_of(lambda g, shape=shape: log_joint_of(g, jnp.zeros(shape), jnp.zeros(J)), pair()[0])


def test_a_latent_and_an_example_may_be_one_number():
    class Scalar(AbstractPriorLikelihood):
        def prior(self):
            return Normal(0.0, 1.0)

        def likelihood(self, z):
            return Normal(z, 1.0)

    assert log_joint_of(Scalar(), jnp.asarray(0.3), jnp.asarray(0.1)).shape == ()
    with pytest.raises(ValueError, match=r"over x of shape \(\), but x has shape \(1,\)"):
        log_joint_of(Scalar(), jnp.ones(1), jnp.asarray(0.1))


def test_the_checks_leave_nothing_in_the_program():
    """They cost nothing when it runs: the traced program is that of the bare sum."""
    generative, _ = pair()
    x, z = jnp.asarray(ROWS[0]), jnp.zeros(J)
    checked = jax.make_jaxpr(lambda x, z: log_joint_of(generative, x, z))(x, z)
    bare = jax.make_jaxpr(lambda x, z: generative.likelihood(z).log_prob(x) + generative.prior().log_prob(z))(x, z)
    assert str(checked) == str(bare)


def test_a_log_density_that_is_right_is_not_touched():
    generative, _ = pair()
    x, z = jnp.asarray(ROWS[0]), jnp.asarray([0.1, -0.2, 0.3])
    by_hand = -0.5 * np.sum((ROWS[0] - np.asarray(generative.weight @ z)) ** 2) - 0.5 * np.sum(np.square(z))
    np.testing.assert_allclose(log_joint_of(generative, x, z), by_hand - 0.5 * (D + J) * np.log(2 * np.pi), rtol=1e-5)


ROOT = Path(aevb.__file__).parent


def bare_questions(source: str) -> set[str]:
    """Calls of a model's own methods."""
    calls = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))
    return {c.func.attr for c in calls} & {"log_joint", "prior", "likelihood", "posterior"}


def test_the_library_asks_models_in_one_place():
    """By `prior_of` and its like, which check what comes; a model's own methods are called nowhere else."""
    found = {str(f.relative_to(ROOT)): bare_questions(f.read_text()) for f in ROOT.rglob("*.py")}
    assert {name: calls for name, calls in found.items() if calls} == {
        "models/_contracts.py": {"log_joint", "prior", "likelihood", "posterior"}
    }
    assert bare_questions("q = recognition.posterior(x).log_prob(z)") == {"posterior"}


def test_type_checks_are_as_the_process_was_told():
    """Off in the process of `test_without_type_checks`, so that it tests what it says."""
    checked = hasattr(minibatch_bound, "__wrapped__")
    assert checked == ("AEVB_TESTS_WITHOUT_TYPE_CHECKS" not in os.environ)


# --- a fault of the user's is no answer -------------------------------------------------------------------------------


class Faulty(Encoder):
    error: type[Exception] = eqx.field(static=True, default=TypeError)

    def posterior(self, x):
        raise self.error("a fault in the user's own encoder")


class LaplaceEncoder(Encoder):
    def posterior(self, x):
        return Laplace(self.weight @ x, 0.5).to_event(1)


@pytest.mark.parametrize("error", [TypeError, ValueError])
@pytest.mark.parametrize(
    "ask",
    [
        evaluate.elbo_estimator,
        lambda g, q: list(evaluate.compare_estimators(g, q, ROWS, KEY, num_samples=(1,), num_draws=2)),
        lambda g, q: evaluate.try_estimator(SgvbB(), g, q),
    ],
    ids=["elbo_estimator", "compare_estimators", "try_estimator"],
)
def test_an_error_of_the_users_model_reaches_the_user(ask, error):
    """It was read as "no closed form", and estimator A chosen, or all estimators left out of the comparison."""
    generative, recognition = pair()
    with pytest.raises(error, match="a fault in the user's own encoder") as caught:
        ask(generative, Faulty(recognition.weight, "", error))
    assert not isinstance(caught.value, UnavailableError)


def test_what_is_not_available_is_an_answer():
    generative, recognition = pair()
    laplace = LaplaceEncoder(recognition.weight)
    assert isinstance(evaluate.elbo_estimator(generative, recognition), SgvbB)
    assert isinstance(evaluate.elbo_estimator(generative, laplace), SgvbA)
    assert isinstance(evaluate.elbo_estimator(*pair("", Joint)), SgvbA)
    assert has_analytic_kl(*posterior_and_prior(generative, recognition, jnp.asarray(ROWS[0])))
    assert not has_analytic_kl(*posterior_and_prior(generative, laplace, jnp.asarray(ROWS[0])))
    with pytest.raises(UnavailableError, match=r"no closed form .* Laplace"):
        evaluate.try_estimator(SgvbB(), generative, laplace)


def test_the_comparison_leaves_out_what_is_not_available_and_nothing_else(monkeypatch):
    compared = {"sgvb-a": SgvbA, "sgvb-b": SgvbB, "score, leave-one-out": _gradients.COMPARED["score, leave-one-out"]}
    monkeypatch.setattr(_gradients, "COMPARED", compared)
    lines = evaluate.compare_estimators(*pair("", Joint), ROWS, KEY, num_samples=(1, 2), num_draws=2)
    assert [(line.estimator, line.num_samples) for line in lines] == [
        ("sgvb-a", 1),
        ("sgvb-a", 2),
        ("score, leave-one-out", 2),
    ]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        list(evaluate.compare_estimators(*pair(), ROWS, KEY, num_samples=(0,), num_draws=2))


def test_a_fault_while_planning_is_no_refusal_of_the_configuration(monkeypatch):
    def faulty(*_, **__):
        raise TypeError("a fault")

    monkeypatch.setattr(evaluate, "try_estimator", faulty)
    with pytest.raises(TypeError, match="a fault") as caught:
        aevb.fit(ROWS, latent_dim=2, hidden=(3,), epochs=1, batch_size=2)
    assert not isinstance(caught.value, aevb.ConfigError)


class Point(AbstractRecognitionModel):
    """A posterior made of points."""

    kind: str = eqx.field(static=True)

    def posterior(self, x):
        points = Delta(jnp.zeros(J))
        if self.kind == "transformed":
            points = numpyro.distributions.TransformedDistribution(
                points, [numpyro.distributions.transforms.ExpTransform()]
            )
        if self.kind == "mixture":
            weights = numpyro.distributions.Categorical(probs=jnp.full(2, 0.5))
            spike, slab = Delta(jnp.zeros(J), event_dim=1), Normal(jnp.zeros(J), 1.0).to_event(1)
            return numpyro.distributions.MixtureGeneral(weights, [spike, slab])
        return points.to_event(1)


@pytest.mark.parametrize("kind", ["independent", "transformed", "mixture"])
@pytest.mark.parametrize("name", ["sgvb-a", "sgvb-b", "score", "iwae"])
def test_a_posterior_without_a_density_is_refused(name, kind):
    """With Delta(0) estimator B gave an "ELBO" of +0.465 where log p(x) is -0.924, and no gradient."""
    with pytest.raises(UnavailableError, match=r"of Point must have a density.* Delta.* use a Normal"):
        ESTIMATORS.make(name)(KEY, Factors(jnp.zeros((D, J))), Point(kind), jnp.asarray(ROWS[0]))


def test_a_point_may_be_a_likelihood():
    class Copy(Factors):
        def likelihood(self, z):
            return Delta(jnp.zeros(D), event_dim=1)

    assert np.isfinite(log_joint_of(Copy(jnp.zeros((D, J))), jnp.zeros(D), jnp.zeros(J)))
