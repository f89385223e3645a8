"""Every family of section 2.4: density, sampler, pathwise gradient and extremes, from one table."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.special
import scipy.stats as st

from aevb.distributions import (
    FAMILIES,
    Beta,
    Cauchy,
    Chi2,
    ContinuousBernoulli,
    Dirichlet,
    DiscretizedLogistic,
    Erlang,
    F,
    Gamma,
    MultivariateNormal,
    MultivariateStudentT,
    Reparameterized,
    StudentT,
    Triangular,
    Uniform,
    Weibull,
    family_lies_within,
    location_and_scale,
    support_depends_on_parameters,
)
from aevb.estimators import Dreg, ScoreFunction, SgvbA, StickingTheLanding, Vimco
from aevb.models import (
    AbstractFlow,
    AbstractGenerativeModel,
    AbstractRecognitionModel,
    FlowDistribution,
    Mixture,
)

# What the paper names in section 2.4, and what the issue adds. A vector of latents makes sense of each.
NAMES = [
    "normal",
    "cauchy",
    "laplace",
    "logistic",
    "student-t",
    "gumbel",
    "uniform",
    "triangular",
    "exponential",
    "rayleigh",
    "pareto",
    "weibull",
    "gompertz",
    "erlang",
    "gamma",
    "log-normal",
    "chi-squared",
    "f",
    "reciprocal",
    "beta",
    "continuous-bernoulli",
    "dirichlet",
    "von-mises",
]
RTOL = {"float32": 3e-5, "float64": 1e-9}


class ContinuousBernoulliOracle:
    """SciPy has none: density, distribution and quantile function to 40 digits or by their definition."""

    def __init__(self, logits):
        self.l = float(logits)

    def logpdf(self, x):
        with mpmath.workdps(60):
            l = mpmath.mpf(self.l)  # noqa: E741
            norm = mpmath.log(mpmath.expm1(l) / l) if l else mpmath.mpf(0)
            return np.array([float(l * mpmath.mpf(float(v)) - norm) for v in np.ravel(x)]).reshape(np.shape(x))

    def cdf(self, x):
        x = np.asarray(x)
        if self.l == 0:
            return x
        return np.expm1(self.l * x) / np.expm1(self.l) if self.l < 50 else np.exp(self.l * (x - 1))

    def ppf(self, u):
        u = np.asarray(u)
        if self.l == 0:
            return u
        return np.log1p(u * np.expm1(self.l)) / self.l if self.l < 50 else 1 + np.log(u) / self.l


class VonMisesOracle:
    """SciPy's, but for a concentration of zero, and with the angles taken to [-pi, pi]."""

    def __init__(self, loc, concentration):
        self.loc, self.kappa = float(loc), float(concentration)

    def logpdf(self, x):
        return self.kappa * (np.cos(x - self.loc) - 1) - np.log(2 * np.pi * scipy.special.i0e(self.kappa))

    def cdf(self, x):
        grid = np.linspace(-np.pi, np.pi, 200_001)
        mass = scipy.integrate.cumulative_trapezoid(np.exp(self.logpdf(grid)), grid, initial=0)
        return np.interp(x, grid, mass / mass[-1])

    def ppf(self, u):
        grid = np.linspace(-np.pi, np.pi, 200_001)
        mass = scipy.integrate.cumulative_trapezoid(np.exp(self.logpdf(grid)), grid, initial=0)
        return np.interp(u, mass / mass[-1], grid)


@dataclass(frozen=True)
class Case:
    oracle: Callable  # the parameters -> an object with logpdf, cdf and ppf
    moderate: dict  # parameters at which samples and gradients are checked, two members
    extreme: tuple = ()  # further members, for the density


def over(**values):
    return {name: tuple(float(x) for x in xs) for name, xs in values.items()}


LOC_SCALE = over(loc=(0.3, -1.0), scale=(1.5, 0.4))
EXTREME_LOC_SCALE = ({"loc": 1e3, "scale": 1e4}, {"loc": 0.0, "scale": 1e-6}, {"loc": -2.0, "scale": 3e7})

CASES = {
    "normal": Case(st.norm, LOC_SCALE, EXTREME_LOC_SCALE),
    "cauchy": Case(st.cauchy, LOC_SCALE, EXTREME_LOC_SCALE),
    "laplace": Case(st.laplace, LOC_SCALE, EXTREME_LOC_SCALE),
    "logistic": Case(st.logistic, LOC_SCALE, EXTREME_LOC_SCALE),
    "student-t": Case(
        lambda df, loc, scale: st.t(df, loc, scale),
        {"df": (3.0, 0.8), **LOC_SCALE},
        tuple({"df": df, "loc": 0.5, "scale": 2.0} for df in (1e-3, 39.0, 41.0, 1e4, 3e7)),
    ),
    "gumbel": Case(st.gumbel_r, LOC_SCALE, EXTREME_LOC_SCALE),
    "uniform": Case(
        lambda low, width: st.uniform(low, width),
        over(low=(-1.0, 2.0), width=(2.0, 0.5)),
        ({"low": 0.0, "width": 1e-6},),
    ),
    "triangular": Case(
        lambda low, width, peak: st.triang(peak, low, width),
        over(low=(-1.0, 2.0), width=(2.0, 0.5), peak=(0.3, 0.8)),
        ({"low": 0.0, "width": 1e4, "peak": 0.0}, {"low": 0.0, "width": 1e-4, "peak": 1.0}),
    ),
    "exponential": Case(lambda rate: st.expon(scale=1 / rate), over(rate=(0.5, 3.0)), ({"rate": 1e-6}, {"rate": 3e7})),
    "rayleigh": Case(lambda scale: st.rayleigh(scale=scale), over(scale=(0.5, 3.0)), ({"scale": 1e-6}, {"scale": 3e7})),
    "pareto": Case(
        lambda scale, alpha: st.pareto(alpha, scale=scale),
        over(scale=(1.0, 2.0), alpha=(3.0, 6.0)),
        ({"scale": 1e-6, "alpha": 0.1}, {"scale": 3e7, "alpha": 3e4}),
    ),
    "weibull": Case(
        lambda scale, concentration: st.weibull_min(concentration, scale=scale),
        over(scale=(1.0, 2.0), concentration=(0.7, 3.0)),
        ({"scale": 1e3, "concentration": 0.05}, {"scale": 1e-3, "concentration": 1e3}),
    ),
    "gompertz": Case(
        lambda concentration, rate: st.gompertz(concentration, scale=1 / rate),
        over(concentration=(0.2, 2.0), rate=(1.0, 3.0)),
        ({"concentration": 1e-6, "rate": 1e3}, {"concentration": 1e3, "rate": 1e-3}),
    ),
    "erlang": Case(lambda rate: st.gamma(2, scale=1 / rate), over(rate=(0.5, 3.0)), ({"rate": 1e-6}, {"rate": 3e7})),
    "gamma": Case(
        lambda concentration, rate: st.gamma(concentration, scale=1 / rate),
        over(concentration=(0.4, 5.0), rate=(1.0, 2.0)),
        tuple({"concentration": a, "rate": 0.5} for a in (1e-3, 0.999, 1.001, 15.9, 16.1, 1e4, 1e7)),
    ),
    "log-normal": Case(
        lambda loc, scale: st.lognorm(scale, scale=np.exp(loc)), over(loc=(0.3, -1.0), scale=(0.5, 0.2)), ()
    ),
    "chi-squared": Case(st.chi2, over(df=(1.0, 8.0)), ({"df": 2e-3}, {"df": 1e4}, {"df": 2e7})),
    "f": Case(
        lambda df1, df2: st.f(df1, df2),
        over(df1=(1.0, 8.0), df2=(9.0, 20.0)),
        ({"df1": 0.01, "df2": 3.0}, {"df1": 1e6, "df2": 1e5}, {"df1": 3.0, "df2": 1e6}),
    ),
    "reciprocal": Case(
        lambda low, excess: st.loguniform(low, low * (1 + excess)),
        over(low=(0.5, 2.0), excess=(1.0, 9.0)),
        ({"low": 1e-6, "excess": 1e6}, {"low": 3.0, "excess": 0.01}),
    ),
    "beta": Case(
        lambda concentration1, concentration0: st.beta(concentration1, concentration0),
        over(concentration1=(0.5, 3.0), concentration0=(0.8, 2.0)),
        (
            {"concentration1": 0.01, "concentration0": 0.02},
            {"concentration1": 1e6, "concentration0": 3e6},
            {"concentration1": 20.0, "concentration0": 1e5},
        ),
    ),
    "continuous-bernoulli": Case(
        ContinuousBernoulliOracle,
        over(logits=(-2.0, 4.0)),
        tuple({"logits": v} for v in (0.0, 1e-8, -1e-3, 0.0199, 0.0201, 0.299, -0.301, 0.99, 1.01, -30.0, 40.0, 1e4)),
    ),
    "von-mises": Case(
        VonMisesOracle,
        over(loc=(0.4, -1.0), concentration=(1.5, 8.0)),
        tuple({"loc": 0.5, "concentration": k} for k in (0.0, 1e-6, 0.1, 19.9, 20.1, 199.0, 201.0, 1e5)),
    ),
}

U = np.array([1e-4, 0.01, 0.2, 0.5, 0.8, 0.99, 1 - 1e-4])
NUM_DRAWS = 40_000


def build(name: str, parameters: dict):
    return FAMILIES[name].make(**{k: jnp.atleast_1d(jnp.asarray(v, float)) for k, v in parameters.items()}).base_dist


@functools.cache
def draw(name: str, precision: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draws of the two moderate members, and the derivative of each draw by each parameter."""
    parameters = {k: jnp.asarray(v, precision) for k, v in CASES[name].moderate.items()}
    key = jax.random.key(0)

    def sample(parameters):
        return FAMILIES[name].make(**parameters).base_dist.rsample(key, (NUM_DRAWS,))

    @jax.jit
    def both(parameters):
        tangents = {
            k: jax.jvp(lambda v, k=k: sample({**parameters, k: v}), (parameters[k],), (jnp.ones_like(parameters[k]),))
            for k in parameters
        }
        return next(iter(tangents.values()))[0], {k: t for k, (_, t) in tangents.items()}

    z, slopes = both(parameters)
    return np.asarray(z, np.float64), {k: np.asarray(v, np.float64) for k, v in slopes.items()}


def members(name: str) -> list[dict]:
    case = CASES[name]
    return [{k: v[i] for k, v in case.moderate.items()} for i in range(2)]


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_family_is_in_the_table(name):
    family = FAMILIES[name]
    assert family.name == name
    prior = family.standard(3)
    assert prior.event_shape == (3,)
    assert prior.batch_shape == ()
    assert prior.has_rsample
    z = prior.rsample(jax.random.key(0), (7,))
    assert z.shape == (7, 3)
    log_p = prior.log_prob(z)
    assert log_p.shape == (7,)
    assert np.all(np.isfinite(log_p))
    if name != "dirichlet":
        assert family.edges[0] <= z.min()
        assert z.max() <= family.edges[1]
        assert len(np.unique(z)) == 21  # no two elements share their noise


def test_the_table_has_no_family_without_a_test():
    assert sorted(FAMILIES) == sorted(NAMES)
    assert sorted([*CASES, "dirichlet"]) == sorted(NAMES)


def test_a_wrong_parameter_is_named():
    with pytest.raises(ValueError, match=r"gamma.*concentration.*rate.*got.*scale"):
        FAMILIES["gamma"].from_raw({"scale": jnp.zeros(2)})


# --- density ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_density(name, precision):
    everything = [*members(name), *CASES[name].extreme]
    rows = [{k: float(np.asarray(v, precision)) for k, v in row.items()} for row in everything]
    grid = []
    for row in rows:
        z = CASES[name].oracle(**row).ppf(U)
        info = np.finfo(precision)
        z = np.clip(z, info.tiny if FAMILIES[name].support in ("positive", "unit") else -1e30, 1e30)
        grid.append(np.clip(z, None, 1 - info.epsneg) if FAMILIES[name].support == "unit" else z)
    z = np.asarray(grid, precision).T
    d = build(name, {k: np.array([row[k] for row in rows], precision) for k in rows[0]})
    value = jax.jit(d.log_prob)(jnp.asarray(z))
    assert value.dtype == precision
    value = np.asarray(value, np.float64)
    for j, row in enumerate(rows):
        oracle, at = CASES[name].oracle(**row), z[:, j].astype(np.float64)
        expected = oracle.logpdf(at)
        good = np.isfinite(expected)  # at an edge that rounding reached
        # A density is known to its argument's own rounding: |d log p / d log z| of it, besides that of the logarithms.
        ulp = np.finfo(precision).eps
        near = np.stack([oracle.logpdf(at * (1 + s * 4 * ulp)) for s in (-1, 1)])
        rounding = np.max(np.where(np.isfinite(near), np.abs(near - expected), 0.0), axis=0)
        # SciPy's own error, which at concentrations of 1e7 is that of a difference of log-gammas.
        largest = max(map(abs, row.values()))
        oracle_error = 8e-16 * largest * np.log(2 + largest)
        tolerance = RTOL[precision] * np.maximum(1, np.abs(expected)) + 2 * rounding + oracle_error
        assert good.sum() >= 5, row
        np.testing.assert_array_less(np.abs(value[:, j] - expected)[good], tolerance[good], err_msg=str(row))


@pytest.mark.filterwarnings("ignore:Out-of-support")
@pytest.mark.parametrize("name", CASES)
def test_density_outside_the_support_is_zero(name):
    """Never NaN, and at no end of the number line either. (An angle beyond +-pi is the one that it stands for.)"""
    family = FAMILIES[name]
    outside = [-jnp.inf, jnp.inf]
    if family.support != "circle":
        outside += [v for v in (family.edges[0] - 1.0, family.edges[1] + 1.0) if np.isfinite(v)]
    log_p = family.standard(len(outside)).base_dist.log_prob(jnp.array(outside))
    assert np.all(np.isneginf(log_p)), dict(zip(outside, log_p, strict=True))


INF = np.inf
AT_EDGES = [
    ("exponential", {"rate": 3.0}, 0.0, np.log(3)),
    ("rayleigh", {"scale": 1.0}, 0.0, -INF),
    ("pareto", {"scale": 2.0, "alpha": 3.0}, 2.0, np.log(1.5)),
    ("weibull", {"scale": 2.0, "concentration": 0.5}, 0.0, INF),
    ("weibull", {"scale": 2.0, "concentration": 1.0}, 0.0, -np.log(2)),
    ("weibull", {"scale": 2.0, "concentration": 2.0}, 0.0, -INF),
    ("weibull", {"scale": 0.01, "concentration": 2.0}, 1e37, -INF),  # z / scale overflows
    ("weibull", {"scale": 1e10, "concentration": 2.0}, 1e-36, np.log(2e-56)),  # or is less than float32 has
    ("gompertz", {"concentration": 2.0, "rate": 3.0}, 0.0, np.log(6)),
    ("erlang", {"rate": 1.0}, 0.0, -INF),
    ("gamma", {"concentration": 0.5, "rate": 3.0}, 0.0, INF),
    ("gamma", {"concentration": 1.0, "rate": 3.0}, 0.0, np.log(3)),
    ("gamma", {"concentration": 2.0, "rate": 3.0}, 0.0, -INF),
    ("gamma", {"concentration": 2.0, "rate": 10.0}, 1e38, -INF),  # rate z overflows
    ("gamma", {"concentration": 2.0, "rate": 1e-30}, 1e-19, np.log(1e-79)),  # rate z is less than float32 has
    ("log-normal", {"loc": 0.0, "scale": 1.0}, 0.0, -INF),
    ("chi-squared", {"df": 1.0}, 0.0, INF),
    ("chi-squared", {"df": 2.0}, 0.0, -np.log(2)),
    ("chi-squared", {"df": 4.0}, 0.0, -INF),
    ("f", {"df1": 1.0, "df2": 5.0}, 0.0, INF),
    ("f", {"df1": 2.0, "df2": 5.0}, 0.0, 0.0),
    ("f", {"df1": 4.0, "df2": 5.0}, 0.0, -INF),
    ("reciprocal", {"low": 0.5, "excess": 3.0}, 0.5, -np.log(0.5 * np.log(4))),
    ("reciprocal", {"low": 0.5, "excess": 3.0}, 2.0, -np.log(2.0 * np.log(4))),
    ("beta", {"concentration1": 0.5, "concentration0": 2.0}, 0.0, INF),
    ("beta", {"concentration1": 0.5, "concentration0": 2.0}, 1.0, -INF),
    ("beta", {"concentration1": 1.0, "concentration0": 3.0}, 0.0, np.log(3)),
    ("beta", {"concentration1": 3.0, "concentration0": 1.0}, 1.0, np.log(3)),
    ("beta", {"concentration1": 2.0, "concentration0": 0.5}, 1.0, INF),
    ("beta", {"concentration1": 1.0, "concentration0": 1.0}, 1.0, 0.0),
    ("continuous-bernoulli", {"logits": 0.0}, 1.0, 0.0),
    ("uniform", {"low": -1.0, "width": 2.0}, 1.0, -np.log(2)),
    ("triangular", {"low": 0.0, "width": 1.0, "peak": 0.5}, 0.0, -INF),
    ("triangular", {"low": 0.0, "width": 1.0, "peak": 0.5}, 1.0, -INF),
    ("triangular", {"low": 0.0, "width": 1.0, "peak": 0.0}, 0.0, np.log(2)),
    ("triangular", {"low": 0.0, "width": 1.0, "peak": 1.0}, 1.0, np.log(2)),
]


@pytest.mark.parametrize(("name", "parameters", "z", "expected"), AT_EDGES)
def test_density_at_an_edge_is_its_limit(name, parameters, z, expected):
    """Zero, a finite number or infinite; Beta and Dirichlet were NaN there, and others zero where they are not."""
    np.testing.assert_allclose(build(name, parameters).log_prob(jnp.array([z])), [expected], rtol=1e-5, atol=1e-5)


def test_dirichlet_at_and_beyond_the_edges_of_the_simplex():
    def log_p(a, x):
        return float(FAMILIES["dirichlet"].make(concentration=jnp.array(a)).log_prob(jnp.array(x)))

    exact = scipy.special.gammaln(6.0) - np.log(2) + np.log(0.4) + 2 * np.log(0.6)  # of (1, 2, 3) at (0, 0.4, 0.6)
    np.testing.assert_allclose(log_p([1.0, 2.0, 3.0], [0.0, 0.4, 0.6]), exact, rtol=1e-5)
    assert log_p([0.5, 2.0, 3.0], [0.0, 0.4, 0.6]) == INF
    assert log_p([2.0, 2.0, 3.0], [0.0, 0.4, 0.6]) == -INF
    assert log_p([0.5, 2.0, 3.0], [0.0, 0.0, 1.0]) == -INF
    for outside in ([-0.1, 0.5, 0.6], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0], [INF, 0.0, 0.0]):
        assert log_p([0.5, 2.0, 3.0], outside) == -INF, outside


def test_dirichlet_density(precision):
    for a in ([0.5, 2.0, 3.0], [1.0, 1.0, 1.0], [1e-2, 5.0, 1e-2], [1e5, 3e5, 6e5]):
        a = np.asarray(a, precision)
        d = FAMILIES["dirichlet"].make(concentration=jnp.asarray(a))
        x = np.array(d.sample(jax.random.key(1), (20,)), np.float64)
        x /= x.sum(axis=1, keepdims=True)
        a64 = a.astype(np.float64)
        expected = scipy.special.gammaln(a64.sum()) - scipy.special.gammaln(a64).sum() + ((a64 - 1) * np.log(x)).sum(1)
        tolerance = RTOL[precision] * max(1, np.abs(a64).max() ** 0.5)
        value = d.log_prob(jnp.asarray(x, precision))
        np.testing.assert_allclose(value, expected, rtol=10 * RTOL[precision], atol=10 * tolerance)


# --- sampler ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_sampler_follows_the_density(name, precision):
    """Kolmogorov & Smirnov: sqrt(n) D > 2.75 has probability 2 exp(-2 * 2.75^2) = 5e-7."""
    z, _ = draw(name, precision)
    for j, row in enumerate(members(name)):
        cdf = np.sort(CASES[name].oracle(**row).cdf(z[:, j]))
        steps = np.arange(NUM_DRAWS + 1) / NUM_DRAWS
        distance = max(np.max(cdf - steps[:-1]), np.max(steps[1:] - cdf))
        assert np.sqrt(NUM_DRAWS) * distance < 2.75, row
        other = np.sort(CASES[name].oracle(**members(name)[1 - j]).cdf(z[:, j]))  # control: the other member
        assert np.sqrt(NUM_DRAWS) * np.max(np.abs(other - steps[:-1])) > 2.75


# --- pathwise gradient ------------------------------------------------------------------------------------------------


def bounded(x):
    """Bounded and smooth, for families without moments, and of period 2 pi, for the angle that crosses the seam."""
    return np.sin(x) + 0.5 * np.cos(2 * x), np.cos(x) - np.sin(2 * x)


@functools.cache
def gauss_legendre():
    return np.polynomial.legendre.leggauss(400)


def expectation(name: str, row: dict) -> float:
    """E[f(z)] by the quantile function: the integral over u of f(F^-1(u)), with u crowded towards both ends."""
    x, w = gauss_legendre()
    t = 0.5 * (x + 1)
    u, jacobian = t**3 * (10 - 15 * t + 6 * t**2), 30 * t**2 * (1 - t) ** 2
    u = np.clip(u, 1e-300, 1 - 1e-16)
    return float(np.sum(0.5 * w * jacobian * bounded(CASES[name].oracle(**row).ppf(u))[0]))


@functools.cache
def exact_slope(name: str, j: int, parameter: str) -> float:
    """d E[f(z)] / d parameter of member j, by central differences of the quadrature."""
    row = members(name)[j]
    h = 1e-3 * max(abs(row[parameter]), 0.1)
    up, down = ({**row, parameter: row[parameter] + s * h} for s in (1, -1))
    return (expectation(name, up) - expectation(name, down)) / (2 * h)


def slope_is_right(name: str, precision: str, j: int, parameter: str, share: float = 1.0) -> bool:
    """Whether the pathwise gradient is the exact one at 5 sigma, if `share` of dz / d parameter arrives."""
    z, slopes = draw(name, precision)
    draws = share * bounded(z)[1][:, j] * slopes[parameter][:, j]
    exact, error = exact_slope(name, j, parameter), draws.std() / np.sqrt(NUM_DRAWS)
    return bool(abs(draws.mean() - exact) < 5 * error + 1e-4 * max(1, abs(exact)))


@pytest.mark.parametrize("name", CASES)
def test_pathwise_gradient(name, precision):
    z, slopes = draw(name, precision)
    value, _ = bounded(z)
    for j, row in enumerate(members(name)):
        error = value[:, j].std() / np.sqrt(NUM_DRAWS)
        assert abs(value[:, j].mean() - expectation(name, row)) < 5 * error + 1e-5
        for parameter in row:
            assert slope_is_right(name, precision, j, parameter), (row, parameter)
            assert slopes[parameter][:, j].std() > 0 or parameter in ("loc", "low")  # a shift moves all draws alike


@pytest.mark.parametrize("name", CASES)
def test_a_path_that_loses_half_of_its_derivative_is_found(name):
    """The negative control: a sampler through which half of each dz / d parameter arrives."""
    parameters = [(j, parameter) for parameter in CASES[name].moderate for j in range(2)]
    assert not all(slope_is_right(name, "float32", j, parameter, share=0.5) for j, parameter in parameters)


@jax.jit
def gammas_and_slopes(a):
    def sample(a):
        return FAMILIES["gamma"].make(concentration=a[None], rate=jnp.ones(1)).rsample(jax.random.key(3), (20_000,))

    return jax.jvp(sample, (a,), (jnp.ones_like(a),))


@pytest.mark.parametrize("a", [1e-3, 0.1, 1.0, 2.5, 100.0, 999.0, 1001.0, 1e4, 1e6])
def test_mean_of_a_gamma_moves_as_its_concentration(a, precision):
    """d E[z] / d a = 1, at 5 sigma, for every concentration."""
    z, slope = gammas_and_slopes(jnp.asarray(a, precision))
    slope = np.asarray(slope, np.float64)
    assert np.all(np.isfinite(slope))
    assert abs(slope.mean() - 1) < 5 * slope.std() / np.sqrt(len(slope)) + 1e-4
    z = np.asarray(z, np.float64)
    if a >= 0.1:
        assert abs(z.mean() - a) < 5 * np.sqrt(a / len(z))


@jax.jit
def directions_and_slopes(k):
    def sample(k):
        z = FAMILIES["von-mises"].make(loc=jnp.zeros(1, k.dtype), concentration=k[None])
        return 2 * jnp.sin(0.5 * z.rsample(jax.random.key(4), (20_000,))) ** 2

    return jax.jvp(sample, (k,), (jnp.ones_like(k),))


@pytest.mark.parametrize("kappa", [1e-3, 0.5, 3.0, 19.0, 21.0, 250.0, 1e4, 1e6])
def test_mean_direction_of_a_von_mises_moves_as_its_concentration(kappa, precision):
    """E[2 sin^2(z/2)] = 1 - A: at kappa = 1e6 its slope is -1/2 kappa^2."""
    value, slope = directions_and_slopes(jnp.asarray(kappa, precision))
    value, slope = np.asarray(value, np.float64), np.asarray(slope, np.float64)
    with mpmath.workdps(50):
        k = mpmath.mpf(kappa)
        ratio = mpmath.besseli(1, k) / mpmath.besseli(0, k)
        exact, exact_slope = float(1 - ratio), float(-(1 - ratio / k - ratio**2))
    assert abs(value.mean() - exact) < 5 * value.std() / np.sqrt(len(value)) + 1e-5 * exact
    assert abs(slope.mean() - exact_slope) < 5 * slope.std() / np.sqrt(len(slope)) + 1e-3 * abs(exact_slope)


def test_implicit_gradient_of_von_mises_against_mpmath(x64):
    from aevb.distributions._von_mises import with_implicit_gradient

    points = [(k, z) for k in (0.01, 1.0, 10.0, 1000.0) for z in (0.01, -0.2, 1.0, 3.0) if k < 100 or abs(z) < 0.5]
    k, z = (jnp.asarray(v) for v in zip(*points, strict=True))
    ours = jax.jvp(lambda k: with_implicit_gradient(k, z), (k,), (jnp.ones_like(k),))[1]
    for (kappa, angle), value in zip(points, ours, strict=True):
        with mpmath.workdps(30):
            kappa, x, width = mpmath.mpf(kappa), mpmath.mpf(abs(angle)), 1 / mpmath.sqrt(mpmath.mpf(kappa))
            ratio = mpmath.besseli(1, kappa) / mpmath.besseli(0, kappa)

            def integrand(t, kappa=kappa, x=x, ratio=ratio):
                return (mpmath.cos(t) - ratio) * mpmath.exp(kappa * (mpmath.cos(t) - mpmath.cos(x)))

            # From z to pi, in pieces as wide as the distribution: from 0 to z it cancels at a large concentration.
            pieces = [x, *(x + width * j / 2 for j in range(1, 60) if x + width * j / 2 < mpmath.pi), mpmath.pi]
            exact = mpmath.sign(angle) * mpmath.quad(integrand, pieces)
        np.testing.assert_allclose(float(value), float(exact), rtol=1e-7)


def test_dirichlet_samples_and_gradient(precision):
    a = jnp.asarray([0.4, 2.0, 3.0], precision)

    def sample(a):
        return FAMILIES["dirichlet"].make(concentration=a).rsample(jax.random.key(5), (NUM_DRAWS,))

    x, slopes = jax.jit(lambda a: (sample(a), jax.jacfwd(sample)(a)))(a)
    x, slopes, a = (np.asarray(v, np.float64) for v in (x, slopes, a))
    total = a.sum()
    np.testing.assert_allclose(x.sum(axis=1), 1, atol=1e-5)
    assert np.all(np.abs(x.mean(axis=0) - a / total) < 5 * x.std(axis=0) / np.sqrt(NUM_DRAWS))
    exact = np.eye(3) / total - a[:, None] / total**2  # d E[x_i] / d a_j
    error = slopes.std(axis=0) / np.sqrt(NUM_DRAWS)
    assert np.all(np.abs(slopes.mean(axis=0) - exact) < 5 * error + 1e-6)
    second = a * (a + 1) / (total * (total + 1))
    assert np.all(np.abs((x**2).mean(axis=0) - second) < 5 * (x**2).std(axis=0) / np.sqrt(NUM_DRAWS))
    for j in range(3):
        d = np.sqrt(NUM_DRAWS) * st.kstest(x[:, j], st.beta(a[j], total - a[j]).cdf).statistic
        assert d < 2.75


# --- extremes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", pytest.param("float64", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("name", NAMES)
def test_raw_outputs_of_any_size_give_finite_numbers_and_gradients(name, precision):
    family = FAMILIES[name]
    names = list(family.parameters)
    corners = np.array(np.meshgrid(*[[-1e4, -30.0, 0.0, 30.0, 1e4]] * len(names))).reshape(len(names), -1)
    raw = {n: jnp.asarray(corners[i], precision) for i, n in enumerate(names)}
    if name == "dirichlet":
        raw = {
            "concentration": jnp.asarray([[-1e4, 1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [0, 30, -30]], precision)
        }

    def each(raw, key):
        q = family.from_raw(raw if name == "dirichlet" else {n: v[None] for n, v in raw.items()})
        z = q.rsample(key, (4,))
        return jnp.sum(q.log_prob(z)), z

    def total(raw, key):
        log_q, z = each(raw, key)
        return log_q, (z, log_q)

    def parameters(raw):
        q = family.from_raw(raw if name == "dirichlet" else {n: v[None] for n, v in raw.items()})
        return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(q))

    rows = next(iter(raw.values())).shape[0]

    @jax.jit
    def run(raw):
        keys = jax.random.split(jax.random.key(0), rows)
        slope_of_log, (z, log_q) = jax.vmap(jax.grad(total, has_aux=True))(raw, keys)
        slope_of_z = jax.vmap(jax.jacfwd(lambda r, k: each(r, k)[1]))(raw, keys)
        log_at = jax.vmap(
            jax.grad(
                lambda r, z, k: jnp.sum(
                    family.from_raw(r if name == "dirichlet" else {n: v[None] for n, v in r.items()}).log_prob(z)
                )
            )
        )(raw, z, keys)
        return z, log_q, slope_of_log, slope_of_z, log_at

    z, log_q, slope_of_log, slope_of_z, score = run(raw)
    assert z.dtype == precision
    assert np.all(np.isfinite(z))
    if family.support == "positive":
        assert np.all(np.asarray(z) > 0)
    for what, tree in {"log q": log_q, "d log q": slope_of_log, "dz": slope_of_z, "score": score}.items():
        for leaf, values in jax.tree_util.tree_leaves_with_path(tree):
            bad = ~np.isfinite(values)
            assert not bad.any(), (what, leaf, {n: np.asarray(v)[bad.reshape(rows, -1).any(1)] for n, v in raw.items()})


@pytest.mark.parametrize("kind", ["real", "positive", "unit", "angle"])
def test_constrained_parameters_keep_a_gradient(kind, precision):
    from aevb.distributions._family import constrain

    raw = jnp.asarray([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4], precision)
    value, slope = constrain(kind, raw), jax.vmap(jax.grad(lambda r: constrain(kind, r[None])[0]))(raw)
    assert value.dtype == precision
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(slope))
    assert np.all(np.asarray(slope) > 0)
    if kind in ("positive", "unit"):
        assert np.all(np.asarray(value) > 0)


@pytest.mark.parametrize("name", NAMES)
def test_jit_is_eager(name):
    family = FAMILIES[name]

    def both(key):
        q = family.standard(2)
        z = q.rsample(key, (3,))
        return z, q.log_prob(z)

    for a, b in zip(both(jax.random.key(7)), jax.jit(both)(jax.random.key(7)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=5e-6)


# --- families that are not in the table -------------------------------------------------------------------------------


def test_width_of_a_narrow_uniform_far_from_zero():
    """1e4 + 1e-7 is 1e4 in float32, so that high - low has lost the width."""
    d = Uniform(jnp.float32(1e4), jnp.float32(1e4), width=jnp.float32(1e-7))
    np.testing.assert_allclose(d.log_prob(d.sample(jax.random.key(0))), -np.log(1e-7), rtol=1e-6)


def test_erlang_needs_a_whole_number():
    with pytest.raises(ValueError, match="k = 0"):
        Erlang(0, 1.0)
    np.testing.assert_allclose(Erlang(5, 2.0).log_prob(jnp.array(1.7)), st.gamma(5, scale=0.5).logpdf(1.7), rtol=1e-5)


def test_multivariate_student_t(precision):
    tril = np.array([[1.5, 0.0], [-0.7, 0.6]])
    loc, df = np.array([0.5, -1.0]), 3.0
    z = np.array([[0.5, -1.0], [0.0, 0.0], [4.0, -3.0], [1e3, 1e3], [-1e8, 3.0]])
    expected = st.multivariate_t(loc, tril @ tril.T, df).logpdf(z)
    d = MultivariateStudentT(jnp.asarray(df, precision), jnp.asarray(loc, precision), jnp.asarray(tril, precision))
    np.testing.assert_allclose(d.log_prob(jnp.asarray(z, precision)), expected, rtol=RTOL[precision])
    assert np.isfinite(d.log_prob(jnp.asarray([1e30, -1e30], precision)))
    assert np.isfinite(d.log_prob(jnp.asarray([loc[0], 1e30], precision)))  # the norm by its LARGEST element
    draws = np.asarray(d.rsample(jax.random.key(0), (NUM_DRAWS,)), np.float64)
    eps = np.linalg.solve(tril, (draws - loc).T)
    for j in range(2):
        assert np.sqrt(NUM_DRAWS) * st.kstest(eps[j], st.t(df).cdf).statistic < 2.75
    assert np.sqrt(NUM_DRAWS) * st.kstest(np.sum(eps**2, 0) / 2, st.f(2, df).cdf).statistic < 2.75


def test_multivariate_normal(precision):
    tril = np.array([[1.5, 0.0], [-0.7, 0.6]])
    d = MultivariateNormal(jnp.zeros(2, precision), scale_tril=jnp.asarray(tril, precision))
    z = np.array([[0.5, -1.0], [0.0, 0.0], [4.0, -3.0]])
    expected = st.multivariate_normal(np.zeros(2), tril @ tril.T).logpdf(z)
    np.testing.assert_allclose(d.log_prob(jnp.asarray(z, precision)), expected, rtol=RTOL[precision])


@pytest.mark.parametrize("logit", [0.0, 1e-9, 1e-3, -0.02, 0.3, -1.0, 1.0, -40.0, 1e4])
def test_moments_and_slopes_of_the_continuous_bernoulli(logit, precision):
    logit = float(np.asarray(logit, precision))
    with mpmath.workdps(60):
        l = mpmath.mpf(logit)  # noqa: E741
        mean = float(1 / (1 - mpmath.exp(-l)) - 1 / l) if l else 0.5
        variance = float(1 / l**2 - 1 / (mpmath.expm1(l) * -mpmath.expm1(-l))) if l else 1 / 12
    d = ContinuousBernoulli(jnp.asarray(logit, precision))
    np.testing.assert_allclose(d.mean, mean, rtol=10 * RTOL[precision] / 10)
    np.testing.assert_allclose(d.variance, variance, rtol=1e3 * RTOL[precision] if precision == "float32" else 1e-9)
    x = jnp.asarray(0.25, precision)
    score = jax.grad(lambda v: ContinuousBernoulli(v).log_prob(x))(jnp.asarray(logit, precision))
    np.testing.assert_allclose(score, 0.25 - mean, rtol=RTOL[precision], atol=RTOL[precision] / 10)


@pytest.mark.parametrize("num_bins", [2, 16, 256])
def test_discretized_logistic(num_bins, precision):
    members = [(0.3, 0.05), (0.5, 1e-3), (-4.0, 0.1), (0.9, 3e7), (0.5, 1e-6)]
    x = np.arange(num_bins) / (num_bins - 1)
    for loc, scale in members:
        loc, scale = float(np.asarray(loc, precision)), float(np.asarray(scale, precision))
        d = DiscretizedLogistic(jnp.asarray(loc, precision), jnp.asarray(scale, precision), num_bins=num_bins)
        log_p = np.asarray(d.log_prob(jnp.asarray(x, precision)), np.float64)
        assert np.all(np.isfinite(log_p))
        with mpmath.workdps(80):
            sigmoid = lambda t: 1 / (1 + mpmath.exp(-t))  # noqa: E731
            cut = [
                (mpmath.mpf(2 * k + 1) / (2 * (num_bins - 1)) - mpmath.mpf(loc)) / mpmath.mpf(scale)
                for k in range(num_bins - 1)
            ]
            masses = [mpmath.mpf(0), *map(sigmoid, cut), mpmath.mpf(1)]
            upper = [mpmath.mpf(1), *(sigmoid(-t) for t in cut), mpmath.mpf(0)]  # survival: exact in the right tail
            exact = []
            for k in range(num_bins):
                mass = masses[k + 1] - masses[k] if masses[k] < 0.5 else upper[k] - upper[k + 1]
                exact.append(float(mpmath.log(mass)))
        # The cut points lie on a grid of 1, so that an ulp of 1 over the scale is what an edge is known to.
        slack = 4 * np.finfo(precision).eps / scale
        np.testing.assert_allclose(log_p, exact, rtol=10 * RTOL[precision], atol=10 * RTOL[precision] + slack)
    assert not d.has_rsample
    with pytest.raises(ValueError, match="two bins"):
        DiscretizedLogistic(0.0, 1.0, num_bins=1)


@pytest.mark.parametrize(
    ("loc", "scale"), [(0.3, 0.05), (0.5, 1e-3), (-4.0, 0.1), (0.9, 3e7), (0.0, 0.3), (1.2, 0.02), (0.1, 0.1)]
)
def test_moments_of_the_discretized_logistic(loc, scale, precision):
    """E[x] and its variance by enumeration. `clip(loc)`, which stood here for the mean, is off by up to 0.2."""
    loc, scale = float(np.asarray(loc, precision)), float(np.asarray(scale, precision))
    values = np.arange(256) / 255
    with jax.enable_x64(True):
        p = np.exp(np.asarray(DiscretizedLogistic(jnp.asarray(loc), jnp.asarray(scale)).log_prob(jnp.asarray(values))))
    mean = np.sum(p * values)
    d = DiscretizedLogistic(jnp.asarray(loc, precision), jnp.asarray(scale, precision))
    assert d.mean.dtype == d.variance.dtype == precision
    tolerance = 1e-5 if precision == "float32" else 1e-11
    np.testing.assert_allclose(d.mean, mean, rtol=tolerance)
    np.testing.assert_allclose(d.variance, np.sum(p * (values - mean) ** 2), rtol=tolerance)
    if (loc, round(scale, 3)) == (0.0, 0.3):
        assert mean - np.clip(loc, 0, 1) > 0.19


def test_what_is_none_of_the_values_of_a_discretized_logistic_has_no_mass():
    log_p = np.asarray(DiscretizedLogistic(0.5, 0.1).log_prob(jnp.array([-0.3, -0.003, 0.0, 1.0, 1.003, jnp.inf])))
    assert np.isneginf(log_p[[0, 1, 4, 5]]).all()
    assert np.isfinite(log_p[2:4]).all()


def test_draws_of_the_discretized_logistic():
    d = DiscretizedLogistic(0.3, 0.1, num_bins=5)
    values = np.arange(5) / 4
    draws = np.asarray(d.sample(jax.random.key(0), (50_000,)))
    p = np.exp(np.asarray(d.log_prob(jnp.asarray(values)), np.float64))
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
    counts = np.array([(draws == np.float32(v)).mean() for v in values])
    assert np.all(np.abs(counts - p) < 5 * np.sqrt(p * (1 - p) / 50_000) + 1e-12)


# --- supports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concentration", [1.5, 1e2, 1e4, 1e6])
def test_a_steep_weibull_keeps_its_digits(concentration):
    """z / scale is rounded, which cost 0.26 nats at a concentration of 1e6."""
    scale = np.float32(1.7)
    z = Weibull(jnp.array(scale), jnp.array(concentration, jnp.float32)).sample(jax.random.key(0), (1000,))
    c = float(np.float32(concentration))
    log_y = np.log(np.asarray(z, np.float64) / float(scale))
    exact = np.log(c) - np.log(np.asarray(z, np.float64)) + c * log_y - np.exp(c * log_y)
    ours = Weibull(jnp.array(scale), jnp.array(concentration, jnp.float32)).log_prob(z)
    np.testing.assert_allclose(ours, exact, rtol=2e-5, atol=2e-5)
    score = jax.grad(lambda s: Weibull(s, c).log_prob(z).sum())(jnp.array(scale))
    np.testing.assert_allclose(score, np.sum(c * np.expm1(c * log_y) / float(scale)), rtol=1e-3)


@pytest.mark.parametrize(
    ("q", "p", "expected"),
    [
        ("normal", "cauchy", True),
        ("gamma", "normal", True),
        ("normal", "gamma", False),
        ("beta", "gamma", True),
        ("gamma", "beta", False),
        ("beta", "uniform", True),
        ("normal", "uniform", False),
        ("uniform", "exponential", False),  # its lower edge can come to lie below 0
        ("uniform", "normal", True),
        ("triangular", "uniform", False),
        ("pareto", "gamma", True),
        ("gamma", "pareto", False),
        ("pareto", "reciprocal", False),
        ("reciprocal", "pareto", False),
        ("reciprocal", "gamma", True),
        ("von-mises", "von-mises", True),
        ("normal", "von-mises", False),
        ("dirichlet", "dirichlet", True),
        ("dirichlet", "beta", False),
        ("normal", "dirichlet", False),
    ],
)
def test_supports(q, p, expected):
    assert family_lies_within(q, p) is expected


@pytest.mark.parametrize("name", NAMES)
def test_a_family_lies_within_itself_unless_its_edges_move(name):
    assert family_lies_within(name, name) != any(FAMILIES[name].movable)


WITHOUT_CDF = {"continuous-bernoulli", "dirichlet", "erlang", "f", "rayleigh", "triangular", "von-mises"}


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - WITHOUT_CDF))
def test_the_distribution_function_outside_the_support_is_0_or_1(name):
    """NumPyro's were -6.39 for an Exponential and 0.63 for a Weibull at -1, and NaN for a Gamma."""
    family = FAMILIES[name]
    q = family.standard(1)
    q = q.base_dist if isinstance(q, dist.Independent) else q
    low, high = family.edges
    below = [low - 1.0, low - 3.0, -1e30, -INF] if np.isfinite(low) else []
    above = [high, high + 0.5, high + 10.0, INF]
    draws = q.sample(jax.random.key(0), (1000,)).ravel()
    points = jnp.concatenate([jnp.array([*below, *above]), draws])
    u, slope = map(np.asarray, jax.jit(jax.vmap(jax.value_and_grad(lambda z: q.cdf(z)[0])))(points))
    assert np.all(u[: len(below)] == 0) and np.all(slope[: len(below[:2])] == 0)
    assert np.all(u[len(below) : -1000] == 1)
    assert st.kstest(u[-1000:], "uniform").pvalue > 1e-6


# --- distribution functions and entropies at large concentrations -----------------------------------------------------

CONCENTRATIONS = np.array([0.1, 0.5, 3.0, 15.0, 17.0, 40.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7])
ALL_PAIRS = tuple(v.ravel() for v in np.meshgrid(CONCENTRATIONS, CONCENTRATIONS + 1))
OF_SCIPY = {
    # name: ours, SciPy's, parameters
    "gamma": (Gamma, lambda a, rate: st.gamma(a, scale=1 / rate), (CONCENTRATIONS, 0.037)),
    "chi-squared": (Chi2, st.chi2, (CONCENTRATIONS,)),
    "beta": (Beta, st.beta, ALL_PAIRS),
    "student-t": (StudentT, st.t, (CONCENTRATIONS, 0.0, 1.0)),
}


def with_large_concentrations(name: str, precision: str):
    """Ours and SciPy's, of the parameters that the type holds, in a column."""
    ours, of_scipy, parameters = OF_SCIPY[name]
    held = [np.asarray(np.reshape(v, (-1, 1)), precision) for v in parameters]
    return ours(*map(jnp.asarray, held)), of_scipy(*(v.astype(np.float64) for v in held))


@pytest.mark.parametrize("name", OF_SCIPY)
def test_distribution_function_at_large_concentrations(name, precision):
    """In float32 a Beta's was wrong by 0.012 at (1e4, 2e4), a Gamma's by 0.02 at 1e5, a Student's t by 0.004 at 1e5."""
    q, exact = with_large_concentrations(name, precision)
    z = exact.ppf([1e-4, 0.02, 0.16, 0.3, 0.45, 0.5, 0.55, 0.7, 0.84, 0.98, 0.9999]).astype(precision)
    z = np.clip(z, 1e-18, 1 - np.finfo(precision).epsneg) if name == "beta" else z
    z = np.maximum(z, 1e-18) if name in ("gamma", "chi-squared") else z
    ours = jax.jit(q.cdf)(jnp.asarray(z))
    assert ours.dtype == precision
    # In float64 as good as JAX's where that is used, for (1/2, 1/2) say, and as SciPy's at 1e7.
    atol = 1e-5 if precision == "float32" else 2e-8
    np.testing.assert_allclose(ours, exact.cdf(z.astype(np.float64)), rtol=0, atol=atol)
    inner = jnp.asarray(exact.mean() if name != "student-t" else exact.median(), precision)
    slope = jax.jit(jax.grad(lambda z: q.cdf(z).sum()))(inner)
    np.testing.assert_allclose(slope, exact.pdf(np.asarray(inner, np.float64)), rtol=2e-3)


@pytest.mark.parametrize("name", OF_SCIPY)
def test_entropy_at_large_concentrations(name, precision):
    """In float32 that of a Beta was -4.469 for -4.488 at (1e4, 2e4)."""
    q, _ = with_large_concentrations(name, precision)
    parameters = OF_SCIPY[name][-1]
    exact = exact_entropy(name, *(np.asarray(v, precision).astype(np.float64) for v in parameters))
    tolerance = 2e-6 if precision == "float32" else 2e-13
    np.testing.assert_allclose(np.ravel(jax.jit(q.entropy)()), exact, rtol=tolerance, atol=tolerance)


def test_entropy_of_a_dirichlet_at_large_concentrations(precision):
    a = np.array([[0.1, 2.0, 30.0], [1e4, 2e4, 3e4], [0.5, 1e7, 1e3], [1e6, 1e6, 1e6]], precision)
    exact = [dirichlet_entropy(*row) for row in a.astype(np.float64)]
    tolerance = 2e-6 if precision == "float32" else 2e-13
    np.testing.assert_allclose(Dirichlet(jnp.asarray(a)).entropy(), exact, rtol=tolerance, atol=tolerance)


def dirichlet_entropy(*a: float) -> float:
    a = [mpmath.mpf(float(v)) for v in a]
    with mpmath.workdps(40):
        n, psi = sum(a), mpmath.digamma
        total = sum(mpmath.loggamma(v) - (v - 1) * psi(v) for v in a) - mpmath.loggamma(n) + (n - len(a)) * psi(n)
        return float(total)


def gamma_entropy(a: float, rate: float) -> float:
    a = mpmath.mpf(float(a))
    with mpmath.workdps(40):
        return float(a - mpmath.log(rate) + mpmath.loggamma(a) + (1 - a) * mpmath.digamma(a))


def student_entropy(df: float) -> float:
    x, half = mpmath.mpf(float(df)) / 2, mpmath.mpf(0.5)
    with mpmath.workdps(40):
        step = mpmath.loggamma(x + half) - mpmath.loggamma(x)
        slope = mpmath.digamma(x + half) - mpmath.digamma(x)
        return float((x + half) * slope - step + mpmath.log(2 * mpmath.pi * x) / 2)


def exact_entropy(name: str, *parameters: np.ndarray) -> list[float]:
    first = parameters[0]
    if name == "beta":
        return [dirichlet_entropy(*row) for row in zip(*parameters, strict=True)]
    if name == "student-t":
        return [student_entropy(v) for v in first]
    return [gamma_entropy(*((v / 2, 0.5) if name == "chi-squared" else (v, float(parameters[1])))) for v in first]


@pytest.mark.parametrize(
    ("q", "values", "expected"),
    [
        (Gamma(1e3, 2.0), [-np.inf, -1.0, 0.0, 1e-18, 1e38, np.inf], [0, 0, 0, 0, 1, 1]),
        (Gamma(3.0, 1e10), [-np.inf, -1.0, 0.0, 1e38, np.inf], [0, 0, 0, 1, 1]),
        (Beta(50.0, 1e4), [-1.0, 0.0, 1e-18, 0.9999, 1.0, np.inf], [0, 0, 0, 1, 1, 1]),
        (StudentT(50.0, 0.0, 1.0), [-np.inf, -1e38, -1e19, 0.0, 1e19, 1e38, np.inf], [0, 0, 0, 0.5, 1, 1, 1]),
        # 1 - F is c t^-df, and t^2 overflows at the last but one.
        (StudentT(0.1, 0.0, 1.0), [-np.inf, 0.0, 1e30, np.inf], [0, 0.5, st.t(0.1).cdf(1e30), 1]),
    ],
)
def test_distribution_function_far_out(q, values, expected):
    values = jnp.asarray(values, jnp.float32)
    found, slope = jax.jit(jax.vmap(jax.value_and_grad(q.cdf)))(values)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.all(np.isfinite(slope))


# --- quantiles, and where a posterior lies ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "of_scipy", "parameters"),
    [
        *((StudentT, st.t, (df, 1.0, 2.0)) for df in (0.4, 0.7, 3.0, 99.0, 101.0, 1e6)),
        *((F, st.f, dfs) for dfs in ((0.1, 3.0), (3.0, 0.4), (1.0, 1.0), (5.0, 40.0), (300.0, 500.0))),
    ],
)
def test_quantiles(family, of_scipy, parameters, precision):
    q, exact = family(*(jnp.asarray(v, precision) for v in parameters)), of_scipy(*parameters)
    p = jnp.asarray([0.01, 0.15865525, 0.3, 0.5, 0.6, 0.84134475, 0.995], precision)
    ours = jax.jit(q.icdf)(p)
    assert ours.dtype == precision
    # At the probability that the type can hold, 1e-7 of which is 1e-3 of a quantile far out in a heavy tail.
    tolerance = {"rtol": 2e-3, "atol": 1e-5} if precision == "float32" else {"rtol": 1e-6, "atol": 1e-9}
    np.testing.assert_allclose(ours, exact.ppf(np.asarray(p, np.float64)), **tolerance)


@pytest.mark.parametrize(
    ("family", "of_scipy", "parameters", "p"),
    [
        (StudentT, st.t, (0.05, 0.0, 1.0), 0.8413),
        (StudentT, st.t, (0.05, 0.0, 1.0), 0.1587),
        (StudentT, st.t, (0.1, 0.0, 1.0), 0.99),
        (StudentT, st.t, (0.02, 0.0, 1.0), 0.8413),
        (F, st.f, (0.03, 8.0), 0.5),
        (F, st.f, (0.03, 1e4), 0.5),
        (F, st.f, (8.0, 0.03), 0.5),
        (F, st.f, (0.03, 8.0), 0.1),
    ],
)
def test_quantiles_far_in_a_tail(family, of_scipy, parameters, p, precision):
    """They stopped at what the Beta's own quantile can be: 6.8e8 for 1.06e9, 2.9e-17 for 3.7e-19."""
    p = jnp.asarray(p, precision)
    ours = jax.jit(family(*(jnp.asarray(v, precision) for v in parameters)).icdf)(p)
    exact = of_scipy(*(float(jnp.asarray(v, precision)) for v in parameters)).ppf(float(p))
    if precision == "float32":
        exact = np.sign(exact) * np.clip(abs(exact), 2.0**-63, 2.0**64)  # where samples are held
    np.testing.assert_allclose(ours, exact, rtol=2e-3 if precision == "float32" else 1e-6)


def test_a_posterior_without_moments_lies_at_its_median():
    df, loc, tril = 3.0, np.array([1.0, -2.0]), np.array([[1.0, 0.0], [3.0, 4.0]])
    half = 0.5 * (st.t(df).ppf(0.84134475) - st.t(df).ppf(0.15865525))
    where, width = location_and_scale(MultivariateStudentT(df, jnp.asarray(loc), jnp.asarray(tril)))
    np.testing.assert_allclose(where, loc, atol=1e-6)
    np.testing.assert_allclose(width, half * np.array([1.0, 5.0]), rtol=1e-4)
    low, high = st.f(4, 1).ppf([0.15865525, 0.84134475])
    np.testing.assert_allclose(location_and_scale(F(4.0, 1.0)), [st.f(4, 1).median(), 0.5 * (high - low)], rtol=1e-4)
    np.testing.assert_allclose(location_and_scale(Cauchy(2.0, 3.0)), [2.0, 3 * np.tan(0.34134475 * np.pi)], rtol=1e-5)


def lies_at(z, where, width, *, by_quantiles: bool, more: float = 0.0) -> bool:
    """Whether draws (n,) have this location and half-width at 5 sigma, free of their distribution.

    By ranks, if these are the median and half of the 16 % to 84 % range: the share of draws below a quantile has
    variance p (1 - p) / n. `more` is the 1/n of the draws that the two were themselves taken from.
    """
    if not by_quantiles:
        centred = z - z.mean()
        variance, error = np.mean(centred**2), np.sqrt(np.mean(centred**2) / len(z))
        spread = np.sqrt((np.mean(centred**4) - variance**2) / len(z))
        return bool(abs(z.mean() - where) < 5 * error + 1e-6 and abs(variance - width**2) < 5 * spread + 1e-6)
    noise = np.sqrt(1 / len(z) + more)
    median_is_right = abs(np.mean(z < where) - 0.5) < 5 * 0.5 * noise
    p = np.array([0.15865525, 0.84134475])
    slack = 5 * noise * np.sqrt(p * (1 - p))
    (low_least, high_least), (low_most, high_most) = np.quantile(z, p - slack), np.quantile(z, p + slack)
    return bool(median_is_right and 0.5 * (high_least - low_most) < width < 0.5 * (high_most - low_least))


BY_QUANTILES = ("cauchy", "student-t", "pareto", "log-normal", "weibull", "gompertz", "f")


@pytest.mark.parametrize("name", CASES)
def test_location_and_scale_against_draws(name):
    """A von Mises' scale was the root of its circular variance, 0.59 to 0.71 of the angle's deviation."""
    z, _ = draw(name, "float32")
    parameters = {k: jnp.array(v) for k, v in CASES[name].moderate.items()}
    where, width = jax.jit(lambda parameters: location_and_scale(FAMILIES[name].make(**parameters)))(parameters)
    for j in range(2):
        draws, at = z[:, j], float(where[j])
        if name == "von-mises":
            draws = at + np.angle(np.exp(1j * (draws - at)))  # the short way round
        by_quantiles = name in BY_QUANTILES
        assert lies_at(draws, at, float(width[j]), by_quantiles=by_quantiles)
        # Control: a width of 0.7 of the true one, and a location half a width away.
        assert not lies_at(draws, at, 0.7 * float(width[j]), by_quantiles=by_quantiles)
        assert not lies_at(draws, at + 0.5 * float(width[j]), float(width[j]), by_quantiles=by_quantiles)


def test_location_and_scale_of_a_dirichlet_against_draws():
    q = FAMILIES["dirichlet"].make(concentration=jnp.array([0.4, 2.0, 3.0]))
    z, (where, width) = np.asarray(q.sample(jax.random.key(0), (NUM_DRAWS,)), np.float64), location_and_scale(q)
    assert all(lies_at(z[:, j], where[j], width[j], by_quantiles=False) for j in range(3))


@pytest.mark.parametrize("kappa", [0.0, 1e-6, 0.1, 1.0, 15.0, 1e3, 1e6])
def test_variance_of_an_angle(kappa, precision):
    def weight(t):
        return np.exp(-2 * kappa * np.sin(0.5 * t) ** 2)

    reach = min(np.pi, 14 / np.sqrt(max(kappa, 1.0)))
    options = {"epsabs": 0, "epsrel": 1e-11}
    second, total = (scipy.integrate.quad(lambda t, n=n: t**n * weight(t), 0, reach, **options)[0] for n in (2, 0))
    d = FAMILIES["von-mises"].make(loc=jnp.full(1, 2.0, precision), concentration=jnp.full(1, kappa, precision))
    rtol = 1e-6 if precision == "float32" else 1e-10
    np.testing.assert_allclose(d.variance, [second / total], rtol=rtol)


@pytest.mark.parametrize(("low", "excess"), [(0.5, 9.0), (3.0, 1e-6), (3.0, 0.9), (3.0, 1.8), (1e-6, 3e7)])
def test_moments_of_the_reciprocal(low, excess, precision):
    low, excess = (float(np.asarray(v, precision)) for v in (low, excess))
    with mpmath.workdps(50):
        r = mpmath.log1p(mpmath.mpf(excess))
        mean = mpmath.mpf(low) * mpmath.expm1(r) / r
        variance = mpmath.mpf(low) ** 2 * mpmath.expm1(2 * r) / (2 * r) - mean**2
    d = build("reciprocal", {"low": np.asarray(low, precision), "excess": np.asarray(excess, precision)})
    rtol = 1e-5 if precision == "float32" else 1e-12
    np.testing.assert_allclose(d.mean, [float(mean)], rtol=rtol)
    np.testing.assert_allclose(d.variance, [float(variance)], rtol=10 * rtol)


@pytest.mark.parametrize("name", NAMES)
def test_location_and_scale_are_numbers_for_any_raw_output(name):
    """The mean of a wide log-normal is beyond floating point: `reconstruct` then refused its own encoder."""
    family = FAMILIES[name]
    names = list(family.parameters)
    corners = np.array(np.meshgrid(*[[-1e4, -20.0, 0.0, 20.0, 1e4]] * len(names)), np.float32).reshape(len(names), -1)
    raw = {n: jnp.asarray(corners[i]) for i, n in enumerate(names)}
    where, width = jax.jit(lambda raw: location_and_scale(family.from_raw(raw)))(raw)
    assert np.isfinite(where).all()
    assert np.isfinite(width).all()
    assert np.all(np.asarray(width) >= 0)
    if family.support == "positive":
        assert np.all(np.asarray(where) > 0)


def test_a_posterior_that_knows_neither_moments_nor_quantiles_is_measured_by_its_draws():
    where, width = location_and_scale(Reparameterized(dist.Normal(0.0, 1.0), lambda eps: 2.0 + 3.0 * eps))
    assert abs(where - 2.0) < 5 * 3 * 1.25 / 1000**0.5
    assert abs(width - 3.0) < 0.5


# --- supports that move -----------------------------------------------------------------------------------------------

LOW, LOC = jnp.zeros(2), jnp.zeros(2)
NORMAL = dist.Normal(LOC, 1.0)
SHIFT = dist.transforms.AffineTransform(LOC, jnp.ones(2))
EXP = dist.transforms.ExpTransform()


def mixed(component):
    return Mixture(jnp.log(jnp.full(2, 0.5)), component, jnp.zeros((2, 3)))


class Shift(AbstractFlow):
    """A shift."""

    latent_dim: int = 2
    context_dim: int = 0

    def forward(self, eps, context=None):
        return eps + LOC, jnp.zeros(())

    def inverse(self, z, context=None):
        return z - LOC, jnp.zeros(())


MOVING = {
    "uniform": lambda: dist.Uniform(LOW, LOW + 1.0).to_event(1),
    "expanded": lambda: dist.Uniform(jnp.zeros(()), 1.0).expand((2,)).to_event(1),
    "masked": lambda: dist.Uniform(LOW, LOW + 1.0).mask(True),
    "truncated": lambda: dist.TruncatedNormal(LOC, 1.0, low=LOW),
    "mixture": lambda: mixed(lambda low: dist.Uniform(low, low + 1.0).to_event(1)),
    "numpyro's mixture": lambda: dist.MixtureSameFamily(  # it refuses a Uniform, but not one that is mapped
        dist.Categorical(jnp.ones(2) / 2), dist.TransformedDistribution(dist.Uniform(LOW, LOW + 1.0), EXP)
    ),
    "general mixture": lambda: dist.MixtureGeneral(
        dist.Categorical(jnp.ones(2) / 2), 2 * [dist.Uniform(jnp.zeros(()), jnp.ones(()))]
    ),
    "transformed": lambda: dist.TransformedDistribution(dist.Uniform(LOW, LOW + 1.0), EXP),
    "shifted half-line": lambda: dist.TransformedDistribution(dist.Exponential(LOW + 1.0), SHIFT),
    "shifted image": lambda: dist.TransformedDistribution(NORMAL, [EXP, SHIFT]),
    "reparameterised": lambda: Reparameterized(dist.Uniform(LOW, LOW + 1.0).to_event(1), lambda eps: LOC + eps),
    "unit noise": lambda: Reparameterized(dist.Uniform(0.0, 1.0), lambda eps: LOC[0] + eps),
    "half-line noise": lambda: Reparameterized(dist.Exponential(1.0), lambda eps: LOC[0] + eps),
    "stated interval": lambda: Reparameterized(
        dist.Normal(0.0, 1.0), jax.nn.sigmoid, support=dist.constraints.interval(LOC[0], 1.0)
    ),
    "flow": lambda: FlowDistribution(dist.Uniform(LOW, LOW + 1.0).to_event(1), Shift()),
    "told": lambda: Reparameterized(dist.Normal(0.0, 1.0), jnp.exp, support_moves=True),
    "peak on an edge": lambda: Triangular(LOW, LOW + 1.0, 0.0),
    **{n: (lambda n=n: FAMILIES[n].standard(2)) for n in ("uniform", "pareto", "reciprocal")},
}
STAYING = {
    "mixture": lambda: mixed(lambda loc: dist.Normal(loc, 1.0).to_event(1)),
    "numpyro's mixture": lambda: dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), NORMAL),
    "shifted before": lambda: dist.TransformedDistribution(NORMAL, [SHIFT, EXP]),
    "truncated at a number": lambda: dist.TruncatedNormal(LOC, 1.0, low=0.0),
    "reparameterised": lambda: Reparameterized(NORMAL.to_event(1), lambda eps: LOC + eps),
    "stated half-line": lambda: Reparameterized(NORMAL.to_event(1), jnp.exp, support=dist.constraints.positive),
    "flow": lambda: FlowDistribution(NORMAL.to_event(1), Shift()),
    "told": lambda: Reparameterized(dist.Exponential(1.0), lambda e: 2 * e, support_moves=False),
    "discrete": lambda: dist.Categorical(logits=LOC),
    "triangle": lambda: FAMILIES["triangular"].standard(2),
    **{n: (lambda n=n: FAMILIES[n].standard(2)) for n in NAMES if n not in ("uniform", "pareto", "reciprocal")},
}


@pytest.mark.parametrize("name", MOVING)
def test_a_support_that_moves_is_known_however_deep_it_lies(name):
    assert support_depends_on_parameters(MOVING[name]())


@pytest.mark.parametrize("name", STAYING)
def test_a_support_that_stays_is_known_too(name):
    assert not support_depends_on_parameters(STAYING[name]())


class Stretched(AbstractRecognitionModel):
    """z = e^s u on an interval that s moves, or z = e^(s + eps) on the half-line."""

    s: jax.Array
    moving: bool = eqx.field(static=True, default=True)
    told: bool | None = eqx.field(static=True, default=None)

    def posterior(self, x):
        if not self.moving:
            return dist.TransformedDistribution(
                dist.Normal(0.0, 1.0), [dist.transforms.AffineTransform(self.s, 1.0), EXP]
            )
        noise = dist.Uniform(0.0, 1.0)
        return Reparameterized(
            noise,
            lambda u: jnp.exp(self.s) * u,
            inverse=lambda z: jnp.exp(-self.s) * z,
            support_moves=self.told,
        )


class Falling(AbstractGenerativeModel):
    """log p(x, z) = -z: E_q is -e^s / 2 under the uniform, -e^(s + 1/2) under the log-normal."""

    def log_joint(self, x, z):
        return -z

    def sample(self, key):
        return jnp.zeros(()), jnp.zeros(())


def slope_of_bound(estimator, recognition) -> tuple[float, float]:
    """Mean gradient of s over 2,000 draws, and its standard error."""

    @jax.jit
    def gradients(keys):
        bound = lambda q, key: estimator(key, Falling(), q, jnp.zeros(())).bound  # noqa: E731
        return jax.vmap(lambda key: jax.grad(bound)(recognition, key).s)(keys)

    draws = np.asarray(gradients(jax.random.split(jax.random.key(0), 2000)), np.float64)
    return draws.mean(), draws.std() / np.sqrt(len(draws))


@pytest.mark.parametrize("estimator", [StickingTheLanding(2), Dreg(2), ScoreFunction(2), Vimco(2)])
def test_estimators_made_of_the_score_refuse_a_support_that_moves_below(estimator):
    with pytest.raises(TypeError, match="edge of its support"):
        estimator(jax.random.key(0), Falling(), Stretched(jnp.zeros(())), jnp.zeros(()))


def test_what_their_gradient_would_be_there():
    """d/ds (s - e^s / 2) = 1/2; without the score term, whose mean is -1, it is wrong by 1: what a lie would cost."""
    right, error = slope_of_bound(SgvbA(2), Stretched(jnp.zeros(())))
    assert abs(right - 0.5) < 5 * error
    wrong, error = slope_of_bound(StickingTheLanding(2), Stretched(jnp.zeros(()), told=False))
    assert abs(wrong - (0.5 - 1.0)) < 5 * error


def test_where_a_transformed_support_stays_their_gradient_is_right():
    """d/ds (s - e^(s + 1/2)), log p(x, z) = -z, q the log-normal."""
    for estimator in (StickingTheLanding(2), ScoreFunction(2)):
        slope, error = slope_of_bound(estimator, Stretched(jnp.zeros(()), moving=False))
        assert abs(slope - (1 - np.exp(0.5))) < 5 * error
