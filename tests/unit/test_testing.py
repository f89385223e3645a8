"""`aevb.testing`: the library's own parts pass its checks, and each check finds the defect that it is for.

One table of all specs: a spec as a value that files hold (all of them), its models compiled in every way (one of each
machinery; all with `-m slow`), and two hash seeds. What costs seconds to compile and shares its code with another is
marked slow.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from _models import Cauchy

import aevb
from aevb import train
from aevb.data import Preprocessing
from aevb.distributions import FAMILIES, Exponential, Normal, Uniform
from aevb.estimators import ESTIMATORS, Estimate, Iwae, Renyi, ScoreFunction, SgvbA, SgvbB
from aevb.models import (
    LIKELIHOODS,
    NETWORKS,
    POSTERIORS,
    PRIORS,
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    GaussianLikelihood,
    Mlp,
    PriorSpec,
    Registry,
    StandardPrior,
    Vae,
    choose_latents,
)
from aevb.testing import (
    check_algorithm,
    check_distribution,
    check_estimator,
    check_model,
    check_spec,
    check_transform,
)
from aevb.testing._compare import check_compiled

KEY = jax.random.key(0)
D, J = 4, 2
ROWS = np.random.default_rng(0).normal(size=(6, D)).astype(np.float32)


def slow_unless(quick, values):
    return [pytest.param(value, marks=[] if value in quick else pytest.mark.slow) for value in values]


# --- the table of all specs -------------------------------------------------------------------------------------------

REGISTRIES = (NETWORKS, LIKELIHOODS, POSTERIORS, PRIORS)
FLOW = {"steps": 2, "hidden": (3,), "activation": "relu"}
OPTIONS = {
    (NETWORKS, "mlp"): {"hidden": (3, 5), "activation": "softplus"},
    (LIKELIHOODS, "bernoulli"): {"grey": True},
    **{(LIKELIHOODS, kind): {"min_scale": 0.1} for kind in ("gaussian", "laplace", "discretized-logistic")},
    (LIKELIHOODS, "student-t"): {"min_scale": 0.1, "df": 3.5},
    (POSTERIORS, "elliptical"): {"df": 7.0},
    **{(POSTERIORS, kind): FLOW for kind in ("iaf", "coupling")},
    (PRIORS, "flow"): FLOW,
    **{(PRIORS, kind): {"components": 3} for kind in ("mixture", "vamp")},
}
SPECS = {
    f"{registry.part} {kind}": (registry, registry.make(kind, **OPTIONS.get((registry, kind), {})))
    for registry in REGISTRIES
    for kind in registry.kinds
}
# A family's standard prior is checked with the posterior of that family, whose own prior it is, and not once more.
WITH_POSTERIOR = {choose_latents(POSTERIORS.make(kind), None)[1].kind for kind in POSTERIORS.kinds}
WITH_MODELS = [name for name in SPECS if name not in {f"prior {kind}" for kind in WITH_POSTERIOR}]
QUICK = [
    "network mlp",
    *(name for name in SPECS if name.startswith("likelihood") and name.split()[1] not in ("laplace", "student-t")),
    *(f"posterior {kind}" for kind in ("iaf", "coupling", "uniform", "gamma")),
    *(f"prior {kind}" for kind in ("mixture", "flow")),
]


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_a_value_that_files_hold_and_builds_by_the_key_alone(name):
    registry, spec = SPECS[name]
    changed = [f.name for f in dataclasses.fields(spec) if getattr(spec, f.name) != f.default]
    assert set(changed) >= set(OPTIONS.get((registry, spec.kind), {}))
    check_spec(spec, registry, KEY, models=False)


@pytest.mark.parametrize("name", slow_unless(QUICK, WITH_MODELS))
def test_its_models_are_the_same_however_they_are_compiled(name):
    registry, spec = SPECS[name]
    check_spec(spec, registry, KEY)


def test_every_spec_is_in_the_table():
    covered = {name.split(" ", 1)[1] for name in WITH_MODELS if name.startswith("prior")} | WITH_POSTERIOR
    assert covered == set(PRIORS.kinds)
    assert set(QUICK) <= set(WITH_MODELS) <= set(SPECS) and len(SPECS) == sum(len(r.kinds) for r in REGISTRIES)
    for (registry, kind), options in OPTIONS.items():
        assert options.keys() <= {field.name for field in dataclasses.fields(registry[kind])}


DIGEST = """
import hashlib, sys
import equinox as eqx, jax, jax.numpy as jnp, numpy as np
from aevb.distributions import sample_and_log_prob
from aevb.models import POSTERIORS, PRIORS, LIKELIHOODS, Mlp, Vae, choose_latents, log_joint_of, posterior_of, tie

def digest(*trees):
    told = hashlib.sha256()
    for tree in trees:
        for leaf in jax.tree.leaves(tree):
            told.update(np.asarray(leaf).tobytes())
    return told.hexdigest()[:16]

flow = {"steps": 2, "hidden": (3,)}
of = {"iaf": flow, "coupling": flow, "flow": flow, "mixture": {"components": 3}, "vamp": {"components": 3}}

def gradient(pair, x, key):
    params, static = eqx.partition(pair, eqx.is_inexact_array)
    def bound(params):
        generative, recognition = eqx.combine(params, static)
        z, log_q = sample_and_log_prob(posterior_of(recognition, x), key)
        return log_joint_of(generative, x, z) - log_q, z
    return jax.grad(bound, has_aux=True)(params)

for part, kind in (name.split(" ") for name in sys.argv[1:]):
    q, p = choose_latents(
        POSTERIORS.make(kind, **of.get(kind, {})) if part == "posterior" else None,
        PRIORS.make(kind, **of.get(kind, {})) if part == "prior" else None,
    )
    options = {"likelihood": LIKELIHOODS.make(kind)} if part == "likelihood" else {}
    generative, recognition = Vae(4, 2, Mlp((3,)), posterior=q, prior=p, **options).build(key=jax.random.key(0))
    pair = tie(generative, recognition), recognition
    slopes, z = eqx.filter_jit(gradient)(pair, jnp.full(4, 0.5), jax.random.key(1))
    stepped = jax.tree.map(lambda a, b: a + 0.1 * b, eqx.filter(pair, eqx.is_inexact_array), slopes)
    print(part, kind, digest(pair), digest(z), digest(stepped))
print(hash("aevb"))
"""


@pytest.mark.parametrize(
    "names",
    [
        ["posterior gaussian", "posterior gamma", "prior mixture"],
        pytest.param([name for name in WITH_MODELS if not name.startswith("network")], marks=pytest.mark.slow),
    ],
    ids=["some", "all"],
)
def test_two_hash_seeds_give_the_same_bits(names):
    """Parameters, one sample and one gradient step: NumPyro's leaves come in an order that depends on the seed."""
    source = str(Path(aevb.__file__).parents[1])
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", DIGEST, *names],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": source},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    (*one, hash_of_one), (*other, hash_of_other) = (run.communicate(timeout=600)[0].splitlines() for run in runs)
    assert one == other and len(one) == len(names)
    assert hash_of_one != hash_of_other  # so they were two seeds


# --- models -----------------------------------------------------------------------------------------------------------


class Factors(AbstractPriorLikelihood):
    """x = W z + noise."""

    weight: jax.Array
    scale: jax.Array

    def prior(self):
        return Normal(jnp.zeros(J), 1.0).to_event(1)

    def likelihood(self, z):
        return Normal(self.weight @ z, self.scale).to_event(1)


class Encoder(AbstractRecognitionModel):
    weight: jax.Array

    def posterior(self, x):
        return Normal(self.weight @ x, 0.5).to_event(1)


class Joint(AbstractGenerativeModel):
    factors: Factors

    def log_joint(self, x, z):
        return self.factors.log_joint(x, z)

    def sample(self, key):
        return self.factors.sample(key)


class Conditional(Factors):
    def split(self, x):
        return x[0], (x[1],)

    def prior(self, c):
        return Normal(c[:J], 1.0).to_event(1)

    def likelihood(self, z, c):
        return super().likelihood(z)


class OfPair(Encoder):
    def posterior(self, x):
        return super().posterior(x[0] + x[1])


WEIGHT = jnp.linspace(-1.0, 1.0, D * J, dtype=jnp.float32).reshape(D, J)


def factors(kind=Factors, **changes):
    return kind(**{"weight": WEIGHT, "scale": jnp.full(D, 0.5), **changes})


@pytest.mark.parametrize(
    ("pair", "rows"),
    [
        ((Joint(factors()), Encoder(WEIGHT.T)), ROWS),
        ((factors(Conditional), OfPair(WEIGHT.T)), (ROWS, ROWS[::-1])),
        ((factors(), None), ROWS[:1]),
    ],
    ids=["in one piece", "conditional", "without a recognition model"],
)
def test_models_of_every_form_pass(pair, rows):
    check_model(*pair, rows, KEY)


class Doubled(Factors):
    def log_joint(self, x, z):
        return super().log_joint(x, z) + 0.01


class Keyless(Factors):
    def sample(self, key):
        return super().sample(jax.random.key(7))


class OneNoise(Factors):
    def sample(self, key):
        z = self.prior().sample(key)
        return self.likelihood(z).sample(jax.random.key(7)), z


class Elsewhere(Factors):
    def sample(self, key):
        x, z = super().sample(key)
        return x + 1.0, z


class OfPixels(Factors):
    def sample(self, key):
        x, z = super().sample(key)
        return x.reshape(2, 2), z


class HalfLine(Factors):
    def prior(self):
        return Exponential(jnp.ones(J)).to_event(1)


class Rooted(Factors):
    def likelihood(self, z):
        return Normal(self.weight @ z, 0.5 + jnp.sqrt(jnp.maximum(self.scale - 0.5, 0.0))).to_event(1)


class Spying(Factors):
    def likelihood(self, z):
        return Normal(self.weight @ z + 0.1 * isinstance(self.weight, jax.core.Tracer), 0.5).to_event(1)


@jax.custom_batching.custom_vmap
def centred(x):
    return x


@centred.def_vmap
def _centred(axis_size, in_batched, x):
    return x - 0.1 * jnp.mean(x, axis=0), True


class Sharing(Factors):
    def log_likelihood(self, x, z):
        return super().log_likelihood(centred(x), z)

    def sample(self, key):
        return super().sample(key)


class Unjoined(Conditional):
    def join(self, observed, *given):
        return (given[0], observed)


class Forgetful(Factors):
    def likelihood(self, z):
        return Normal(self.weight @ z, self.scale)


class Faulty(Factors):
    def likelihood(self, z):
        raise TypeError("a fault of the user's own")


OF_MODELS = {  # what is wrong -> the model, its fields, the error and its message
    "log_joint is not the sum": (Doubled, {}, AssertionError, r"Doubled and Encoder: log_joint gives .* sum to"),
    "the key is not used": (Keyless, {}, AssertionError, r"sample\(\) gives the same z for two keys.*draw with"),
    "x has one noise": (OneNoise, {}, AssertionError, r"the x of sample\(\) have one noise for all keys"),
    "x is drawn elsewhere": (Elsewhere, {}, AssertionError, r"higher at the \(x, z\) of sample\(\) than at draws of"),
    "x has another form": (OfPixels, {}, AssertionError, r"form array \(2, 2\), and a row has the form array \(4,\)"),
    "q leaves the prior": (HalfLine, {}, AssertionError, r"log p\(.*-inf.* z, a draw of q, where the prior has one"),
    "no gradient": (Rooted, {}, AssertionError, r"in the gradient of a lower bound, .*scale holds"),
    "it looks at being traced": (Spying, {}, AssertionError, "compiled, .* jit alone changes it"),
    "rows are shared": (Sharing, {}, AssertionError, r"compiled, .*log p\(x.* vmap changes it: something is shared"),
    "to_event is forgotten": (Forgetful, {}, ValueError, r"likelihood\(\) of Forgetful .*add \.to_event\(1\)"),
    "a fault of its own": (Faulty, {}, TypeError, "a fault of the user's own"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", OF_MODELS)
def test_what_is_wrong_with_a_model_is_found(wrong):
    kind, changes, error, message = OF_MODELS[wrong]
    with pytest.raises(error, match=message) as caught:
        check_model(factors(kind, **changes), Encoder(WEIGHT.T), ROWS, KEY)
    assert wrong != "a fault of its own" or any(frame.name == "likelihood" for frame in caught.traceback)


def test_what_compiles_again_is_found():
    class Anew:
        """Whose static part is another object each time that it is asked for."""

    jax.tree_util.register_pytree_node(Anew, lambda node: ((), object()), lambda aux, children: Anew())
    with pytest.raises(AssertionError, match="it: a second call with other numbers compiles again"):
        check_compiled("it", lambda fixed, one: {"twice": 2 * one}, Anew(), jnp.arange(4.0))


def test_what_is_no_model_or_does_not_join_is_found():
    with pytest.raises(AssertionError, match="got Encoder where an AbstractGenerativeModel should be"):
        check_model(Encoder(WEIGHT.T), factors(), ROWS, KEY)
    with pytest.raises(ValueError, match="does not undo its split"):
        check_model(factors(Unjoined), OfPair(WEIGHT.T), (ROWS, ROWS[::-1]), KEY)


# --- distributions ----------------------------------------------------------------------------------------------------

QUICK_FAMILIES = ("normal", "uniform", "weibull", "log-normal")


# Of each kind of parameter the values of two members.
TWO = {"real": (0.3, -1.0), "positive": (2.0, 1.3), "unit": (0.3, 0.8), "angle": (0.4, -1.0)}


def family_and_members(name):
    """Of one number; a simplex has two left of three."""
    family = FAMILIES[name]
    members = {parameter: np.array(TWO[kind]) for parameter, kind in family.parameters.items()}
    more = np.array([1.0, 0.4, 2.0]) if family.support == "simplex" else np.ones(1)
    return family.make, {parameter: values[:, None] * more for parameter, values in members.items()}


@pytest.mark.parametrize("name", slow_unless(QUICK_FAMILIES, FAMILIES))
def test_every_family_passes(name):
    check_distribution(*family_and_members(name), KEY)


def test_distributions_without_a_path_or_a_density_pass():
    check_distribution(lambda logits: aevb.distributions.Bernoulli(logits=logits), {"logits": [0.3, -1.0]}, KEY)
    check_distribution(
        lambda scale: aevb.distributions.Reparameterized(
            dist.Normal(0.0, 1.0), lambda eps: eps + jnp.sinh(scale * eps)
        ),
        {"scale": [0.3]},
        KEY,
    )


def test_the_log_det_of_a_map_is_held_against_its_derivatives():
    def make(scale, wrong):
        noise = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
        return aevb.distributions.Reparameterized(
            noise, lambda eps: scale * eps, log_det=lambda eps: (2 + wrong) * jnp.log(scale)
        )

    check_distribution(make, {"scale": [0.3], "wrong": [0.0]}, KEY)
    with pytest.raises(AssertionError, match=r"of member 0, log_det\(eps\) is not log \|det dg/deps\|"):
        check_distribution(make, {"scale": [0.3], "wrong": [0.1]}, KEY)


def test_of_many_members_all_are_looked_at():
    many = {"loc": np.zeros(5), "scale": np.ones(5)}
    with pytest.raises(AssertionError, match="two rows draw the same samples"):
        check_distribution(Mute, many, KEY)
    many = {"loc": np.array([0.0, 0.0, 0.0, 0.0, 9.0]), "scale": np.ones(5)}
    with pytest.raises(AssertionError, match=r"its density integrates to 1\.02"):
        check_distribution(Fifth, many, KEY)


class Louder(dist.Normal):
    def log_prob(self, value):
        return super().log_prob(value) + 0.02


class Fifth(dist.Normal):
    """Wrong far away alone."""

    def log_prob(self, value):
        return super().log_prob(value) + 0.02 * (self.loc > 8.0)


class Wider(dist.Normal):
    def sample(self, key, sample_shape=()):
        return self.loc + 1.2 * (super().sample(key, sample_shape) - self.loc)


class Held(dist.Normal):
    def sample(self, key, sample_shape=()):
        return dist.Normal(self.loc, jax.lax.stop_gradient(self.scale)).sample(key, sample_shape)


class HeldUniform(Uniform):
    def rsample(self, key, sample_shape=()):
        return jax.lax.stop_gradient(super().rsample(key, sample_shape))


class Mute(dist.Normal):
    def sample(self, key, sample_shape=()):
        return super().sample(jax.random.key(3), sample_shape)


class Edgeless(dist.Exponential):
    def log_prob(self, value):
        return jnp.log(self.rate) - self.rate * value


class NotANumber(dist.Exponential):
    def log_prob(self, value):
        return super().log_prob(value) + 0.0 * jnp.sqrt(value)


class Escaping(dist.Exponential):
    def sample(self, key, sample_shape=()):
        return super().sample(key, sample_shape) - 0.01


class Traced(dist.Normal):
    def log_prob(self, value):
        return super().log_prob(value) + 0.01 * isinstance(value, jax.core.Tracer)


LOC_SCALE, RATE = {"loc": [0.3, -1.0], "scale": [1.5, 0.4]}, {"rate": [0.5, 2.0]}
OF_DISTRIBUTIONS = {
    "its constant": (Louder, LOC_SCALE, r"Louder, member 0: its density integrates to 1\.02"),
    "its sampler": (Wider, LOC_SCALE, r"the mean of d log q / d scale over 2000 draws"),
    "its path": (Held, LOC_SCALE, r"by scale is \[-?0\.\].*nor does it move means as the density does"),
    "a path to moving edges": (
        lambda low, width: HeldUniform(low, low + width), {"low": [0.0], "width": [2.0]},
        "must be a differentiable map of noise",
    ),
    "its key": (Mute, LOC_SCALE, "two rows draw the same samples"),
    "a density without an edge": (Edgeless, RATE, r"log_prob is .*, outside its support; it must be -inf there"),
    "no number outside": (NotANumber, RATE, r"log_prob is \[nan\] at \[-.*outside its support"),
    "draws outside": (Escaping, RATE, "draws lie outside its own support"),
    "it looks at being traced": (Traced, LOC_SCALE, "Traced: compiled, .*log q.* jit alone changes it"),
    "several at once": (Normal, {"loc": [[0.0, 1.0]], "scale": [[1.0, 1.0]]}, r"batch shape \(2,\).*\.to_event\(1\)"),
    "no distribution": (lambda loc: loc, {"loc": [0.0]}, "must make a distribution"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", OF_DISTRIBUTIONS)
def test_what_is_wrong_with_a_distribution_is_found(wrong):
    make, members, message = OF_DISTRIBUTIONS[wrong]
    with pytest.raises(AssertionError, match=message):
        check_distribution(make, members, KEY)


def test_a_wrong_divergence_is_found(monkeypatch):
    from aevb.testing import _distribution

    right = _distribution.kl_divergence
    monkeypatch.setattr(_distribution, "kl_divergence", lambda q, p: right(p, q))
    with pytest.raises(AssertionError, match=r"the KL divergence of member 0 from member 1 is .* in closed form, and"):
        check_distribution(Normal, LOC_SCALE, KEY)


# --- estimators -------------------------------------------------------------------------------------------------------

OF_NAMES = {name: ESTIMATORS.make(name) for name in ESTIMATORS} | {
    "running mean": ScoreFunction(2, "running-mean"),
    "leave-one-out": ScoreFunction(2, "leave-one-out"),
    "upper": Renyi(3, -0.5),
}
QUICK_ESTIMATORS = ("sgvb-a", "sgvb-b", "stl", "running mean")


@pytest.mark.parametrize("name", slow_unless(QUICK_ESTIMATORS, OF_NAMES))
def test_every_estimator_passes(name):
    check_estimator(OF_NAMES[name], KEY, own_gradient=name == "piwae")


class Biased(SgvbA):
    by: float = eqx.field(static=True, default=0.0)
    slope: float = eqx.field(static=True, default=1.0)
    kl: float = eqx.field(static=True, default=1.0)

    def __call__(self, key, generative, recognition, x):
        estimate = super().__call__(key, generative, recognition, x)
        bound = estimate.bound + self.by + (self.slope - 1) * (estimate.bound - jax.lax.stop_gradient(estimate.bound))
        return Estimate(bound, estimate.log_likelihood, self.kl * estimate.kl)


class Held(SgvbB):
    """Whose terms cannot be climbed, and which says that they can."""

    def __call__(self, *args):
        estimate = super().__call__(*args)
        return estimate._replace(
            **jax.lax.stop_gradient({"kl": estimate.kl, "log_likelihood": estimate.log_likelihood})
        )


class Uphill(Iwae):
    """Phi's gradient turned round."""

    def __call__(self, key, generative, recognition, x):
        def turned(leaf):
            return 2 * jax.lax.stop_gradient(leaf) - leaf

        return super().__call__(key, generative, jax.tree.map(turned, recognition), x)


class Apart(SgvbA):
    """Whose bound is the difference of its terms in the mean alone."""

    def __call__(self, key, *args):
        other = super().__call__(jax.random.fold_in(key, 1), *args)
        return super().__call__(key, *args)._replace(bound=other.bound)


class Many(SgvbA):
    def __call__(self, *args):
        return jax.tree.map(lambda value: value[None], super().__call__(*args))


class Deaf(SgvbA):
    def __call__(self, key, *args):
        return super().__call__(jax.random.key(0), *args)


class Boasting(Renyi):
    bound_name = "iwae_bound"


class Forgotten(SgvbA):
    def init_state(self):
        return jnp.zeros((), jnp.int32)

    def next_state(self, state, estimates):
        return state + jnp.mean(estimates.bound)


OF_ESTIMATORS = {
    "a constant": (Biased(1, by=0.01), "with the true posterior, the bound is .* where log p"),
    "its gradient": (Biased(1, slope=1.2), r"true posterior, the gradient for p\(x, z\) is .* where that of log p"),
    "its kl": (Biased(1, kl=-1.0), "with a wrong posterior, kl is -"),
    "its terms": (Held(), r"the gradient of their difference for p\(x, z\) is not the bound's"),
    "the way up": (
        Uphill(3),
        r"the gradient for q\(z \| x\) is .* along a direction in which the mean bound changes by",
    ),
    "its sum": (Apart(), "differentiable_terms says that bound = log_likelihood - kl, but"),
    "one for each sample": (Many(), r"bound must be one number for one example, but has shape \(1,\)"),
    "its key": (Deaf(), "the bound is the same for every key"),
    "no lower bound": (Boasting(20, -8.0), r"above log p\(x\) = .*end in 'objective'"),
    "its state": (Forgotten(), "init_state one of .* must have the same arrays, shapes and dtypes"),
    "no estimator": (lambda *args: None, "no AbstractEstimator"),
}


@pytest.mark.parametrize("wrong", OF_ESTIMATORS)
def test_what_is_wrong_with_an_estimator_is_found(wrong):
    estimator, message = OF_ESTIMATORS[wrong]
    with pytest.raises(AssertionError, match=message):
        check_estimator(estimator, KEY)


# --- transforms -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Prepared(aevb.AbstractTransform):
    """A preset's, as one of models of one's own."""

    of: Preprocessing

    def __call__(self, key, row):
        return self.of(key, row)

    def expected(self, row):
        return row / self.of.maximum if self.of.binarization == "dynamic" else self.of(None, row)

    def inverse(self, x):
        return self.of.inverse(x)

    def log_jacobian(self):
        return self.of.log_jacobian(D)

    def to_dict(self):
        return self.of.to_dict()


PIXELS = np.array([[0, 3, 255, 9], [17, 100, 250, 128]], np.uint8)
STANDARD = Preprocessing(scaling="standardize", mean=(1.0, 2.0, 3.0, 0.0), std=(2.0, 0.5, 1.0, 0.1))


@pytest.mark.parametrize(
    ("of", "rows"),
    [
        (STANDARD, ROWS),
        (Preprocessing(scaling="unit", maximum=255.0), PIXELS),
        (Preprocessing(binarization="dynamic", maximum=255.0), PIXELS),
        (Preprocessing(binarization="threshold", maximum=255.0), PIXELS),
        (Preprocessing(), ROWS),
    ],
    ids=["standardize", "unit", "dynamic", "threshold", "none"],
)
def test_every_preparation_of_rows_passes(of, rows):
    check_transform(Prepared(of), rows, KEY)


@dataclasses.dataclass(frozen=True)
class Scaled(aevb.AbstractTransform):
    """x = row / 2, of a row or of its first part."""

    wrong: str = ""

    def __call__(self, key, row):
        if isinstance(row, tuple):
            return (self(key, row[0]), row[1])
        match self.wrong:
            case "noise":
                return row / 2 + jax.random.bernoulli(key, 0.5, row.shape)
            case "log":
                return jnp.log1p(jnp.square(row))
            case "impure":
                return row / 2 + isinstance(row, jax.core.Tracer)
        return row / 2

    def expected(self, row):
        return self(jax.random.key(0), row) if self.wrong != "shape" else jnp.sum(row)

    def inverse(self, x):
        return x if self.wrong == "inverse" else 2 * x

    def log_jacobian(self):
        return {"jacobian": D * np.log(2.0), "forgotten": 0.0}.get(self.wrong, -D * float(np.log(2.0)))

    def to_dict(self):
        return {"scale": np.zeros(2)} if self.wrong == "dict" else {"scale": 2.0}


def test_a_transform_of_a_part_of_a_row_passes():
    check_transform(Scaled(), (ROWS, PIXELS[[0] * 6]), KEY, observed=lambda x: x[0])


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ("jacobian", AssertionError, r"log_jacobian\(\) gives 2\.77.*, and log \|det dx/d row\| of row 0 is -2\.77"),
        ("forgotten", AssertionError, r"log_jacobian\(\) gives 0, and log .* is -2\.77"),
        ("log", AssertionError, "not transformed into the x that it came from"),
        ("inverse", AssertionError, "not transformed into the x that it came from"),
        ("noise", AssertionError, "is not the mean of x over 400 keys"),
        ("impure", AssertionError, "jit alone changes it"),
        ("shape", AssertionError, "give it x's shape"),
        ("dict", TypeError, "not JSON serializable"),
    ],
)
def test_what_is_wrong_with_a_transform_is_found(wrong, error, message):
    with pytest.raises(error, match=message):
        check_transform(Scaled(wrong), ROWS, KEY)


@dataclasses.dataclass(frozen=True)
class Dequantised(aevb.AbstractTransform):
    """x = (row + u) / 10, u uniform: a bound on log p(row) has the Jacobian at a fixed u."""

    told: float

    def __call__(self, key, row):
        return (row + jax.random.uniform(key, row.shape)) / 10

    def expected(self, row):
        return (row + 0.5) / 10

    def inverse(self, x):
        return np.floor(10 * np.asarray(x, np.float64) + 1e-5)

    def log_jacobian(self):
        return self.told

    def to_dict(self):
        return {"told": self.told}


def test_noise_and_a_scale_change_units():
    counts = np.random.default_rng(0).poisson(20.0, (6, D)).astype(np.float32)
    check_transform(Dequantised(-D * float(np.log(10.0))), counts, KEY)
    with pytest.raises(AssertionError, match=r"gives 0, and log \|det dx/d row\|, at a fixed key, of row 0 is -9\.2"):
        check_transform(Dequantised(0.0), counts, KEY)


def test_units_do_not_change_probabilities():
    with pytest.raises(AssertionError, match="x has probabilities; let it give 0"):
        check_transform(Scaled(), ROWS, KEY, density=False)
    check_transform(Scaled("forgotten"), ROWS, KEY, density=False)


# --- algorithms -------------------------------------------------------------------------------------------------------


def small_pair():
    return Vae(D, J, Mlp(()), GaussianLikelihood()).build(key=KEY)


@pytest.mark.parametrize(
    "make",
    [
        lambda: train.aevb(*small_pair(), SgvbB(), optax.adam(1e-3), num_examples=6),
        *(
            pytest.param(make, marks=pytest.mark.slow)
            for make in (
                lambda: train.aevb(*small_pair(), ScoreFunction(2, "running-mean"), optax.sgd(1e-3), num_examples=6),
                lambda: train.full_vb(*small_pair(), SgvbB(), optax.adam(1e-3), num_examples=6),
            )
        ),
    ],
    ids=["aevb", "aevb with a state", "full_vb"],
)
def test_our_algorithms_pass(make):
    check_algorithm(make(), ROWS, KEY)


SHARED = jnp.zeros(())


def climbing(wrong: str = "") -> train.Algorithm:
    """One number that climbs to the mean of the rows, with one thing wrong."""

    def init(key):
        params = {"loc": SHARED if wrong == "shared" else jnp.asarray(0.0, None if wrong == "weak" else jnp.float32)}
        params |= {"text": "x"} if wrong == "text" else {}
        step = jnp.ones((), jnp.int32) if wrong == "first" else jnp.zeros((), jnp.int32)
        return train.TrainState(params, (), (), step, jnp.array(key))

    def gap(state, batch):
        noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(state.key, i)))(
            jnp.arange(len(batch.indices)) if wrong == "place" else batch.indices
        )
        return jnp.mean((jnp.mean(batch.rows, axis=1) - state.params["loc"]) * (1 + noise))

    def step(state, batch):
        slope = gap(state, batch)
        ok = jnp.isfinite(slope)
        loc = state.params["loc"] + 0.1 * (slope if wrong in ("nan", "told") else jnp.where(ok, slope, 0.0))
        loc = {"dtype": lambda v: v.astype(jnp.float16), "weak": lambda v: v * jnp.ones((), jnp.float32)}.get(
            wrong, lambda v: v
        )(loc)
        if wrong == "impure":
            loc = loc + isinstance(loc, jax.core.Tracer)
        params = [loc] if wrong == "form" else {"loc": loc}
        key = jax.random.split(state.key)[0] if wrong == "key" else state.key
        ok = {"number": jnp.where(ok, 1.0, 0.0), "told": jnp.ones((), bool)}.get(wrong, ok)
        after = train.TrainState(params, (), (), state.step + (wrong != "step"), key)
        return after, train.Metrics(jnp.stack([slope]) if wrong == "metrics" else slope, jnp.abs(slope), ok)

    def model(state):
        return factors() if wrong == "model" else (factors(), None)

    def gradients(state, batch):
        return gap(state, batch) / (0.0 if wrong == "gradients" else 1.0)

    return train.Algorithm(init, step, model, gradients)


OF_ALGORITHMS = {
    "dtype": r"step changes state\.params\['loc'\] from float32\[\] to float16\[\]",
    "form": "step changes the structure of the state",
    "weak": "the second one compiles again",
    "text": r"JAX arrays alone, and \.params\['text'\]",
    "first": "the state's step must be 0",
    "step": "the state's step must rise by 1",
    "key": "the state's key must stay as it is",
    "number": "metrics.ok must be a boolean, is float32",
    "metrics": r"metrics.objective must be one number, but has shape \(1,\)",
    "impure": "in plain Python, it gives another result than compiled",
    "place": "with the rows of a batch in another order",
    "nan": r"says that it is not ok, and moves \(params, opt_state, carry\)",
    "told": "on a batch of NaN it says ok, and of the parameters",
    "gradients": "gradients: it holds",
    "model": r"model\(state\) must give \(generative, recognition\)",
    "shared": "a second state shares .*params.* with the first",
}


def test_an_algorithm_of_ones_own_passes():
    check_algorithm(climbing(), ROWS, KEY)


@pytest.mark.parametrize("wrong", OF_ALGORITHMS)
def test_what_is_wrong_with_an_algorithm_is_found(wrong, monkeypatch):
    monkeypatch.setitem(globals(), "SHARED", jnp.zeros(()) + 0.0)
    with pytest.raises(AssertionError, match=OF_ALGORITHMS[wrong]):
        check_algorithm(climbing(wrong), ROWS, KEY)


# --- specs of one's own -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Losing(Cauchy):
    def to_dict(self):
        return {"kind": self.kind, "min_scale": self.min_scale}


@dataclasses.dataclass(frozen=True)
class Rounding(Cauchy):
    def to_dict(self):
        return super().to_dict() | {"min_scale": round(self.min_scale)}


@dataclasses.dataclass(frozen=True)
class Anything(Cauchy):
    colour: str = "red"

    def __post_init__(self):
        pass


class Undecorated(Cauchy):
    pass


@dataclasses.dataclass(frozen=True)
class Chance(PriorSpec):
    kind = "chance"
    of: str = ""

    def build(self, around, *, key):
        return Shifted(around.latent_dim, jnp.asarray(np.random.default_rng().normal(), jnp.float32))


class Shifted(StandardPrior):
    by: jax.Array

    def __init__(self, latent_dim, by):
        super().__init__(latent_dim)
        self.by = by


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Losing(min_scale=0.5), r"'cauchy': to_dict\(\) has kind, min_scale, and must have .*sigmoid_mean"),
        (Rounding(min_scale=1.25), r"written to a dictionary and read again, .*1\.25.* becomes .*1\.0"),
        (Anything(), "must be refused with a ConfigError"),
        (Undecorated(), r"must be a frozen dataclass; decorate it with @dataclass\(frozen=True\)"),
        (Chance(), "built twice with one key, .* draw parameters with the key alone"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_spec_is_found(spec, message):
    with pytest.raises(AssertionError, match=message):
        check_spec(spec, Registry("part", type(spec)), KEY, models=False)


def test_a_spec_of_ones_own_passes():
    check_spec(Cauchy(min_scale=0.2), Registry("likelihood", Cauchy), KEY, models=False)
    with pytest.raises(AssertionError, match="not of the class that the registry has by this kind; register it"):
        check_spec(Cauchy(), Registry("likelihood", Losing), KEY)
