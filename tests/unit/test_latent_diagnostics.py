"""KL, active dimensions, information and aggregate posterior: against closed forms of the linear-Gaussian model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from _oracles import JointOnly, LinearGaussian, Problem, standard_kl

from aevb.distributions import FAMILIES, Distribution, Normal
from aevb.evaluate._latent import LatentDiagnostics, _log_aggregate, collapse_verdict, latent_diagnostics
from aevb.evaluate._summary import Mean
from aevb.models import Architecture, Mixture, build, tie

KEY = jax.random.key(0)
PROBLEM = Problem.make(data_dim=5, latent_dim=2, num_rows=300, seed=2)
MANY = Problem.make(data_dim=5, latent_dim=2, num_rows=4000, seed=3)
ROWS = PROBLEM.rows.astype(np.float32)


def diagnose(problem: Problem = PROBLEM, generative=None, rows=None, **options) -> LatentDiagnostics:
    wrong = {name: options.pop(name) for name in ("shift", "scale", "tilt") if name in options}
    return latent_diagnostics(
        problem.generative() if generative is None else generative,
        problem.recognition(**wrong),
        problem.rows.astype(np.float32) if rows is None else rows,
        KEY,
        **options,
    )


@functools.cache
def many(shift: float) -> LatentDiagnostics:
    return diagnose(MANY, shift=shift, num_aggregate=4000)


def locs_and_scale(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    a, b, t = problem.posterior()
    return problem.rows @ a.T + b, t


# --- closed forms -----------------------------------------------------------------------------------------------------


def test_the_kl_and_the_moments_are_those_of_the_posterior():
    d = diagnose()
    locs, t = locs_and_scale(PROBLEM)
    kl = np.array([float(standard_kl(loc, t)) for loc in locs])
    assert d.kl_is_analytic
    assert d.kl.value == pytest.approx(kl.mean(), rel=1e-5)
    assert d.kl.standard_error == pytest.approx(kl.std(ddof=1) / np.sqrt(300), rel=1e-4)
    assert d.kl.num_rows == 300
    # -1/2 (1 + log t_j^2 - loc_j^2 - t_j^2), the mean over rows
    np.testing.assert_allclose(d.kl_per_dimension, np.mean(0.5 * (locs**2 + t**2 - 1) - np.log(t), axis=0), rtol=1e-5)
    np.testing.assert_allclose(d.variance_of_mean, locs.var(axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(d.scale, t, rtol=1e-5)
    np.testing.assert_allclose(d.prior_scale, 1.0)
    np.testing.assert_allclose(d.correlation, np.corrcoef(locs.T), rtol=1e-4, atol=1e-5)
    assert d.num_active == 2


def test_a_column_of_zeros_is_a_collapsed_dimension():
    problem = PROBLEM._replace(weight=PROBLEM.weight * np.array([1.0, 0.0]))
    d = diagnose(problem)
    assert d.kl_per_dimension[1] == 0.0
    assert d.kl_per_dimension[0] > 0.5
    assert d.active.tolist() == [True, False]
    assert d.num_active == 1
    assert d.variance_of_mean[1] == 0.0
    assert np.isnan(d.correlation[0, 1])
    assert "the other one has a KL of less than 0.01 nats and could be left out" in collapse_verdict(d)


def test_a_dimension_is_active_from_a_hundredth_of_the_priors_variance():
    locs, _ = locs_and_scale(PROBLEM)
    smaller = float(np.sqrt(0.01 / locs.var(axis=0, ddof=1).min()))  # at this tilt the quieter dimension is at the edge
    assert diagnose(tilt=1.02 * smaller).num_active == 2
    assert diagnose(tilt=0.98 * smaller).num_active == 1


class Wide(LinearGaussian):
    """p(z) = N(0, 10^2 I)."""

    def prior(self) -> Distribution:
        return Normal(jnp.zeros_like(self.weight[0]), jnp.full_like(self.weight[0], 10.0)).to_event(1)


class NoClosedForm(LinearGaussian):
    """p(z) = N(0, I), as a mixture of one component."""

    def prior(self) -> Distribution:
        zeros = jnp.zeros_like(self.weight[0])
        return Mixture(jnp.zeros(1), lambda loc: Normal(loc, jnp.ones_like(loc)).to_event(1), zeros[None])


def remade(kind: type[LinearGaussian]) -> LinearGaussian:
    g = PROBLEM.generative()
    return kind(g.weight, g.mean, g.log_scale)


def test_activity_is_measured_by_the_priors_scale():
    locs, _ = locs_and_scale(PROBLEM)
    tilt = float(np.sqrt(0.3 / locs.var(axis=0, ddof=1).max()))
    assert diagnose(tilt=tilt).num_active == 2
    d = diagnose(generative=remade(Wide), tilt=tilt)  # 0.3 is less than 0.01 * 10^2
    assert d.num_active == 0
    np.testing.assert_allclose(d.prior_scale, 10.0)


def test_the_sampled_kl_agrees_with_the_closed_form():
    exact, sampled = diagnose(), diagnose(generative=remade(NoClosedForm))
    assert not sampled.kl_is_analytic
    assert sampled.kl_per_dimension is None
    locs, t = locs_and_scale(PROBLEM)
    error = np.sqrt(log_ratio_variance(locs, t).sum() / 32) / 300  # of the draws; the rows are the same
    assert abs(sampled.kl.value - exact.kl.value) < 5 * error
    assert error < 0.05 * exact.kl.value  # negative control: 25 % more would be seen


def log_ratio_variance(locs: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Var of log q(z) - log p(z) of each row: at z = loc + t eps it is loc t eps + (t^2 - 1) eps^2 / 2 + a constant."""
    return np.sum((locs * t) ** 2 + (t**2 - 1) ** 2 / 2, axis=1)


def test_the_information_is_that_of_the_jointly_gaussian_x_and_z():
    """q(x, z) = p(x, z) here: I = 1/2 log det (I + W'W / s^2), and q(z) = p(z)."""
    d = many(0.0)
    _, t = locs_and_scale(MANY)
    exact = 0.5 * np.linalg.slogdet(np.eye(2) + MANY.weight.T @ MANY.weight / MANY.scale**2)[1]
    # A finite N takes less than log(1 + (r - 1) / N) from I and gives it to the aggregate KL, r = E[q(z | x) / q(z)]
    # over q(x, z), which is 1 / (1 - rho^2) = 1 / t^2 for two Gaussians with correlation rho.
    bias = (1 / np.prod(t**2) - 1) / 4000
    information, aggregate = d.mutual_information, d.aggregate_kl
    assert abs(information.value - exact) < 5 * information.standard_error + bias
    assert abs(aggregate.value) < 5 * aggregate.standard_error + bias
    assert information.value < d.mutual_information_limit == pytest.approx(np.log(4000))
    # Negative controls: the one of a single dimension; the KL in place of I; noise and bias are small.
    assert information.value + np.log(t).max() > 5 * information.standard_error + bias
    assert 5 * information.standard_error + bias < 0.1 * exact


def test_a_shift_of_the_encoder_is_a_distance_of_the_aggregate_posterior():
    """q(z) = N(shift, I): its KL is J shift^2 / 2, and the information stays."""
    d, unmoved = many(1.0), many(0.0)
    bias = (1 / np.prod(locs_and_scale(MANY)[1] ** 2) - 1) / 4000
    assert abs(d.aggregate_kl.value - 1.0) < 5 * d.aggregate_kl.standard_error + bias
    assert d.mutual_information.value == pytest.approx(unmoved.mutual_information.value, abs=1e-4)
    assert abs(unmoved.aggregate_kl.value - 1.0) > 5 * d.aggregate_kl.standard_error + bias
    assert "samples from p(z) come from places" in collapse_verdict(diagnose(shift=2.0))
    assert "samples from p(z)" not in collapse_verdict(unmoved)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_two_parts_add_up_to_the_kl(shift):
    d = many(shift)
    locs, t = locs_and_scale(MANY)
    error = np.sqrt(log_ratio_variance(locs + shift, t).sum()) / 4000  # of one z a row
    both = d.mutual_information.value + d.aggregate_kl.value
    assert abs(both - d.kl.value) < 5 * error
    assert abs(both + np.log(2) - d.kl.value) > 5 * error  # a factor of 2 in either density would be seen


def test_more_information_than_the_rows_can_show_stops_at_log_n():
    problem = Problem.make(data_dim=5, latent_dim=2, num_rows=100, seed=4)._replace(scale=1e-3)
    d = diagnose(problem)
    assert d.mutual_information_limit == pytest.approx(np.log(100))
    assert d.mutual_information.value == pytest.approx(np.log(100), abs=1e-4)
    assert d.kl.value > 10  # the closed form is 13 nats
    assert -np.log(problem.posterior()[2]).sum() > 10
    assert "carry between 4.6 and" in collapse_verdict(d)
    assert "is not known" in collapse_verdict(d)
    assert many(0.0).mutual_information.value < d.mutual_information_limit - 1  # negative control


# --- exactness of the aggregate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 7, 300, 1000])
def test_the_aggregate_posterior_is_the_mixture_over_all_rows(chunk_size):
    a, b, t = PROBLEM.posterior()
    z = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    each = scipy.stats.norm.logpdf(z[None], (ROWS @ a.T + b)[:, None], t).sum(-1)  # (row x_j, z_i)
    found = _log_aggregate(PROBLEM.recognition(), jnp.asarray(ROWS), z, chunk_size)
    np.testing.assert_allclose(found, scipy.special.logsumexp(each, axis=0) - np.log(300), rtol=1e-4, atol=1e-4)


def test_the_order_of_the_rows_does_not_matter():
    order = np.random.default_rng(1).permutation(300)
    d, other = diagnose(), diagnose(rows=ROWS[order])
    for name in ("kl_per_dimension", "variance_of_mean", "scale", "correlation"):
        np.testing.assert_allclose(getattr(other, name), getattr(d, name), rtol=1e-5, atol=1e-6)
    assert other.kl.value == pytest.approx(d.kl.value, rel=1e-6)
    for name in ("mutual_information", "aggregate_kl"):  # the draws of z are others
        one, two = getattr(d, name), getattr(other, name)
        assert one.value != two.value
        assert abs(one.value - two.value) < 5 * np.hypot(one.standard_error, two.standard_error)
    z = np.zeros((300, 2), np.float32)
    np.testing.assert_allclose(
        _log_aggregate(PROBLEM.recognition(), jnp.asarray(ROWS[order]), z, 50),
        _log_aggregate(PROBLEM.recognition(), jnp.asarray(ROWS), z, 50),
        rtol=1e-5,
    )


def test_batches_do_not_change_the_result():
    whole, cut = diagnose(batch_size=300), diagnose(batch_size=7)
    for one, two in zip(whole, cut, strict=True):
        if isinstance(one, np.ndarray | Mean):
            np.testing.assert_allclose(one, two, rtol=2e-5, atol=1e-6)


def test_only_some_rows_make_the_aggregate():
    d, whole = diagnose(num_aggregate=60), diagnose()
    assert d.mutual_information.num_rows == d.aggregate_kl.num_rows == 60
    assert d.mutual_information_limit == pytest.approx(np.log(60))
    assert d.kl == whole.kl
    assert whole.mutual_information.num_rows == 300
    error = np.hypot(d.mutual_information.standard_error, whole.mutual_information.standard_error)
    bias = (1 / np.prod(locs_and_scale(PROBLEM)[1] ** 2) - 1) / 60
    assert abs(d.mutual_information.value - whole.mutual_information.value) < 5 * error + bias


def test_a_dimension_that_repeats_another_is_told():
    weight = np.repeat(np.linspace(0.5, 1.0, 5)[:, None], 2, axis=1) * [1.0, 1.02]
    rows = np.random.default_rng(0).normal(size=(300, 1)) * weight[:, 0] + 0.1
    problem = Problem(weight, np.zeros(5), 0.6, rows)
    d = diagnose(problem)
    assert d.correlation[0, 1] > 0.9
    assert "dimensions 0 and 1 have a correlation of" in collapse_verdict(d)
    assert "correlation" not in collapse_verdict(diagnose())


# --- every kind of latent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("posterior", "prior"),
    [
        ("full-covariance", "normal"),
        ("iaf", "normal"),
        ("gaussian", "vamp"),
        ("dirichlet", "dirichlet"),
        ("von-mises", "von-mises"),
        ("cauchy", "mixture"),
    ],
)
def test_other_families(posterior, prior):
    options = {"prior_components": 3} if prior in ("mixture", "vamp") else {}
    if posterior == "iaf":
        options |= {"flow_steps": 1, "flow_hidden": (4,)}
    architecture = Architecture(5, 3, (4,), "tanh", "gaussian", posterior=posterior, prior=prior, **options)
    generative, recognition = build(architecture, key=KEY)
    d = latent_diagnostics(tie(generative, recognition), recognition, ROWS[:40], KEY)
    assert d.active.shape == d.scale.shape == d.prior_scale.shape == (3,)
    assert d.correlation.shape == (3, 3)
    assert d.kl_is_analytic == (posterior in ("full-covariance", "dirichlet", "von-mises"))
    assert (d.kl_per_dimension is not None) == (posterior == "von-mises")
    for value in (*d.kl[:2], *d.mutual_information[:2], *d.aggregate_kl[:2], *d.scale, *d.variance_of_mean):
        assert np.isfinite(value)
    assert d.kl.value > -1e-6
    assert -5 * d.mutual_information.standard_error <= d.mutual_information.value <= np.log(40) + 1e-4
    assert collapse_verdict(d)


def test_rows_of_bytes_and_of_floats_give_the_same():
    rows = np.round(np.abs(ROWS)).astype(np.uint8)
    assert diagnose(rows=rows).mutual_information == diagnose(rows=rows.astype(np.float32)).mutual_information


# --- the verdict ------------------------------------------------------------------------------------------------------


def made(num_dims: int, num_active: int, **changes) -> LatentDiagnostics:
    active = np.arange(num_dims) < num_active
    fields = {
        "kl": Mean(5.0, 0.1, 1000),
        "kl_is_analytic": True,
        "kl_per_dimension": np.where(active, 1.0, 0.001),
        "variance_of_mean": np.where(active, 0.9, 1e-4),
        "scale": np.where(active, 0.3, 1.0),
        "prior_scale": np.ones(num_dims),
        "active": active,
        "correlation": np.eye(num_dims),
        "mutual_information": Mean(4.8, 0.05, 1000),
        "mutual_information_limit": float(np.log(1000)),
        "aggregate_kl": Mean(0.2, 0.01, 1000),
    }
    return LatentDiagnostics(**(fields | changes))


FLAT, NOTHING = np.zeros(3), Mean(0.0, 0.001, 1000)


@pytest.mark.parametrize(
    ("diagnostics", "expected"),
    [
        (made(2, 2), ["All 2 latent dimensions are active; they carry 4.8 nats about x."]),
        (made(1, 1), ["The one latent dimension is active; it carries 4.8 nats about x."]),
        (made(40, 12), ["12 of 40", "the other 28 have a KL of less than 0.01 nats each and could be left out."]),
        (made(3, 1, kl_per_dimension=np.array([1.0, 0.5, 0.2])), ["do not follow x but have a KL of up to 0.5 nats"]),
        (made(3, 2, kl_per_dimension=None), ["the other one does not follow x and could be left out"]),
        (made(3, 0, mutual_information=NOTHING, kl=NOTHING), ["collapsed", "says nothing about x; try --kl-warmup"]),
        (made(3, 0, mutual_information=NOTHING), ["collapsed", "though it costs 5.0 nats", "--free-bits"]),
        (made(3, 0), ["No posterior mean moves with x, yet z carries 4.8 nats"]),
        (
            made(2, 2, kl=Mean(24.0, 0.1, 1000), mutual_information=Mean(6.9, 0.01, 1000)),
            ["between 6.9 and 24.0 nats", "1000 rows cannot show more than 6.9 nats"],
        ),
        (made(2, 2, aggregate_kl=Mean(3.4, 0.1, 1000)), ["The z of data are 3.4 nats from the prior", "--prior"]),
        (made(2, 2, aggregate_kl=Mean(1.2, 0.1, 1000)), ["nats about x."]),
        (
            made(3, 3, correlation=np.array([[1, 0.1, -0.95], [0.1, 1, 0.9], [-0.95, 0.9, 1]])),
            ["dimensions 0 and 2 have a correlation of -0.95 (and 1 other pair above 0.8)"],
        ),
    ],
)
def test_the_verdict(diagnostics, expected):
    verdict = collapse_verdict(diagnostics)
    for part in expected:
        assert part in verdict, verdict
    assert 1 <= verdict.replace("0.", "").count(". ") + 1 <= 3
    assert verdict.endswith(".")
    if not any(word in str(expected) for word in ("cannot show", "--prior")):
        assert "come from places" not in verdict


def test_as_plain_values():
    plain = diagnose(PROBLEM._replace(weight=PROBLEM.weight * np.array([1.0, 0.0]))).to_dict()
    assert plain["num_active"] == 1
    assert plain["active"] == [True, False]
    assert plain["correlation"][0][1] is None
    assert plain["kl"]["num_rows"] == 300


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": ROWS[:1]}, "at least 2 rows, got 1"),
        ({"rows": ROWS[:0]}, "at least 2 rows, got 0"),
        ({"num_aggregate": 1}, "num_aggregate must be at least 2"),
        ({"batch_size": 0}, "batch_size at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        diagnose(**options)


def test_a_model_without_a_prior_of_its_own_is_refused():
    with pytest.raises(TypeError, match=r"JointOnly has only log_joint; derive it from AbstractPriorLikelihood"):
        diagnose(generative=JointOnly(PROBLEM.generative()))


class Positive(LinearGaussian):
    def prior(self) -> Distribution:
        return FAMILIES["gamma"].standard(2)


def test_an_infinite_kl_is_refused():
    with pytest.raises(ValueError, match=r"where p\(z\) has no density"):
        diagnose(generative=remade(Positive))
