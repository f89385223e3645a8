"""The whole product posterior x prior x likelihood x estimator, by shapes alone; nothing is compiled or computed.

The product is covered by its factors, for the parts meet in three places only, and each of them passes on one number
per example or a vector z of J numbers and nothing else:

1. posterior and prior meet in log p(z) at the posterior's z, and in KL(q || p): every PAIR is asked for both;
2. a likelihood sees z and x, and not which distribution z came from: each is asked at a z of J numbers, which is what
   every posterior was seen to give in 1;
3. an estimator sees the log-densities, samples of q with log q (in 1, of every posterior), and whether q has a path for
   its gradient or edges that move: each is asked with one posterior of each support and of each way of sampling, and
   with every likelihood. Whether the closed form is taken depends on the pair, which was asked for it in 1.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from _models import build, by_names, choose_latents

from aevb import evaluate, models
from aevb.distributions import (
    FAMILIES,
    has_analytic_kl,
    kl_divergence,
    rsample_and_log_prob,
    support_depends_on_parameters,
)
from aevb.errors import ConfigError, UnavailableError
from aevb.estimators import ESTIMATORS, SgvbB
from aevb.models import POSTERIORS, PRIORS, log_likelihood_of, log_prior_of, posterior_and_prior, tie

D, J = 4, 3
KEY, X = jax.random.key(0), jnp.full(D, 0.25)
LIKELIHOODS = {
    "bernoulli": {},
    "grey": {"likelihood": "bernoulli", "grey": True},
    "gaussian": {},
    "sigmoid mean": {"likelihood": "gaussian", "sigmoid_mean": True},
    "continuous-bernoulli": {},
    "discretized-logistic": {},
    "laplace": {},
    "student-t": {},
}


def architecture(posterior, prior, likelihood="gaussian", latent_dim=J):
    options = {"likelihood": likelihood, **LIKELIHOODS[likelihood]}
    flows = posterior in ("iaf", "coupling") or prior == "flow"
    options |= {"flow_steps": 2, "flow_hidden": (3,)} if flows else {}
    components = 2 if prior in ("mixture", "vamp") else 0
    return by_names(
        D, latent_dim, (3,), "tanh", posterior=posterior, prior=prior, prior_components=components, **options
    )


def shapes(fn, *pair):
    generative, recognition = eqx.filter_eval_shape(lambda: build(*pair, key=KEY))
    return eqx.filter_eval_shape(lambda g, q: fn(tie(g, q), q), generative, recognition)


def refused(posterior, prior):
    try:
        architecture(posterior, prior)
    except ConfigError as error:  # the two have no common support; which pairs these are is for `test_posteriors`
        assert posterior in str(error) and prior in str(error) and "choose" in str(error).lower()
        return True
    return False


@pytest.mark.parametrize("posterior", POSTERIORS.kinds)
def test_every_posterior_with_every_prior(posterior):
    priors = [p for p in PRIORS.kinds if not refused(posterior, p)]
    own = choose_latents(posterior, "auto")[1]
    assert own in priors

    def ask(generative, recognition):
        q, p = posterior_and_prior(generative, recognition, X)
        (z, *_), log_q = rsample_and_log_prob(q, KEY, (2,))
        closed = has_analytic_kl(q, p)
        return z, log_q, q.log_prob(z), log_prior_of(generative, X, z), kl_divergence(q, p) if closed else jnp.zeros(())

    for prior, latent_dim in [(own, 1)] * (posterior != "dirichlet") + [(p, J) for p in priors]:
        z, log_q, *densities = shapes(ask, architecture(posterior, prior, latent_dim=latent_dim))
        assert (z.shape, log_q.shape) == ((latent_dim,), (2,)), prior
        assert {d.shape for d in densities} == {()}, prior


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_with_every_estimator(likelihood):
    def densities(generative, recognition):
        return log_likelihood_of(generative, X, jnp.zeros(J))

    both = architecture("gaussian", "normal", likelihood)
    assert shapes(densities, both).shape == ()
    for name in ESTIMATORS:
        estimate = shapes(lambda g, q, name=name: ESTIMATORS.make(name)(KEY, g, q, X), both)
        assert {leaf.shape for leaf in jax.tree.leaves(estimate)} == {()}, name


# By its support, its way of sampling (a map of noise, or implicit differentiation), and its event (dimensions that are
# independent or not).
OF_EACH_KIND = ("gaussian", "full-covariance", "iaf", "gamma", "weibull", "beta", "uniform", "von-mises", "dirichlet")


def test_there_is_one_of_each_kind():
    like = [FAMILIES[p if p in FAMILIES else "normal"] for p in OF_EACH_KIND]
    assert {f.support for f in FAMILIES.values()} == {f.support for f in like}
    assert {f.strategy for f in like} >= {"implicit", "inverse CDF", "location-scale"}


@pytest.mark.parametrize("posterior", OF_EACH_KIND)
def test_every_kind_of_posterior_with_every_estimator(posterior):
    both = architecture(posterior, choose_latents(posterior, "auto")[1])
    moving = shapes(lambda g, q: support_depends_on_parameters(posterior_and_prior(g, q, X)[0]), both)
    analytic = shapes(lambda g, q: has_analytic_kl(*posterior_and_prior(g, q, X)), both)
    assert isinstance(shapes_of_elbo(both), SgvbB) == analytic
    for name in ESTIMATORS:
        unavailable = (moving and name in ("stl", "dreg", "score", "vimco")) or (name == "sgvb-b" and not analytic)

        def ask(generative, recognition, name=name):
            return ESTIMATORS.make(name)(KEY, generative, recognition, X)

        if unavailable:
            with pytest.raises(UnavailableError, match=r"no closed form|parameters|support"):
                shapes(ask, both)
        else:
            assert {leaf.shape for leaf in jax.tree.leaves(shapes(ask, both))} == {()}, name


def shapes_of_elbo(both):
    return evaluate.elbo_estimator(*eqx.filter_eval_shape(lambda: build(both, key=KEY)))


def test_every_likelihood_is_in_the_table():
    named = {options.get("likelihood", name) for name, options in LIKELIHOODS.items()}
    assert named == set(models.LIKELIHOODS.kinds)


PRODUCT = list(itertools.product(POSTERIORS.kinds, PRIORS.kinds, LIKELIHOODS, ESTIMATORS))


@pytest.mark.parametrize("start", range(4))
def test_a_sample_of_the_whole_product(start):
    """Of some 50,000 combinations one in 2003, a prime, so that each part meets many others: as the factors say."""
    for posterior, prior, likelihood, name in PRODUCT[500 * start :: 4 * 2003]:
        if refused(posterior, prior):
            continue
        both = architecture(posterior, prior, likelihood)
        try:
            estimate = shapes(lambda g, q, name=name: ESTIMATORS.make(name)(KEY, g, q, X), both)
        except UnavailableError as error:
            assert name in ("stl", "dreg", "score", "vimco", "sgvb-b") and len(str(error)) > 40
            continue
        assert {leaf.shape for leaf in jax.tree.leaves(estimate)} == {()}, (posterior, prior, likelihood, name)
