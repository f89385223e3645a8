"""KL, active dimensions, information and aggregate posterior: against closed forms of the linear-Gaussian model."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from _models import build, by_names
from _oracles import JointOnly, LinearGaussian, Problem, standard_kl, z_scores

from aevb.distributions import FAMILIES, Distribution, Normal
from aevb.errors import UnavailableError
from aevb.evaluate import _latent
from aevb.evaluate._latent import Bounds, LatentDiagnostics, _log_aggregate, latent_diagnostics
from aevb.evaluate._latent_words import collapse_verdict
from aevb.evaluate._summary import Mean
from aevb.models import Mixture, tie

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
    assert "The other one has a KL of less than 0.01 nats and could be left out." in collapse_verdict(d).details


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

    scale: float = 1.0

    def prior(self) -> Distribution:
        zeros = jnp.zeros_like(self.weight[0])
        component = lambda loc: Normal(loc, self.scale * jnp.ones_like(loc)).to_event(1)  # noqa: E731
        return Mixture(jnp.zeros(1), component, zeros[None])


def remade(kind: type[LinearGaussian], **options) -> LinearGaussian:
    g = PROBLEM.generative()
    return kind(g.weight, g.mean, g.log_scale, **options)


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
    wrong = diagnose(generative=remade(NoClosedForm, scale=1.3))  # negative control: another prior
    assert abs(wrong.kl.value - exact.kl.value) > 5 * error


def log_ratio_variance(locs: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Var of log q(z) - log p(z) of each row: at z = loc + t eps it is loc t eps + (t^2 - 1) eps^2 / 2 + a constant."""
    return np.sum((locs * t) ** 2 + (t**2 - 1) ** 2 / 2, axis=1)


def exact_information(problem: Problem) -> float:
    """I(x; z) of the jointly Gaussian x and z: 1/2 log det (I + W'W / s^2)."""
    return 0.5 * np.linalg.slogdet(np.eye(2) + problem.weight.T @ problem.weight / problem.scale**2)[1]


# A finite N takes less than log(1 + (r - 1) / N) from I and gives it to the aggregate KL, r = E[q(z | x) / q(z)] over
# q(x, z), which is 1 / (1 - rho^2) = 1 / t^2 for two Gaussians with correlation rho. Own row out, it is half of that.
BIAS = (1 / np.prod(locs_and_scale(MANY)[1] ** 2) - 1) / 4000


def test_the_information_is_that_of_the_jointly_gaussian_x_and_z():
    """q(x, z) = p(x, z) here: I is known, q(z) = p(z), and with 4,000 rows both sides of both agree."""
    d, exact = many(0.0), exact_information(MANY)
    wrong = diagnose(MANY, scale=1.2, num_aggregate=4000)  # negative control: tells 2 log 1.2 = 0.36 nats less, or so
    for side, other in zip(d.mutual_information, wrong.mutual_information, strict=True):
        assert abs(side.value - exact) < 5 * side.standard_error + BIAS
        assert abs(other.value - exact) > 5 * side.standard_error + BIAS
    for side in d.aggregate_kl:
        assert abs(side.value) < 5 * side.standard_error + BIAS
    assert d.mutual_information.lower.value < d.mutual_information_limit == pytest.approx(np.log(4000))
    assert d.num_saturated < 40


def test_a_shift_of_the_encoder_is_a_distance_of_the_aggregate_posterior():
    """q(z) = N(shift, I): its KL is J shift^2 / 2, and the information stays."""
    d, unmoved = many(1.0), many(0.0)
    for side, before in zip(d.aggregate_kl, unmoved.aggregate_kl, strict=True):
        assert abs(side.value - 1.0) < 5 * side.standard_error + BIAS
        assert abs(before.value - 1.0) > 5 * side.standard_error + BIAS
    for side, before in zip(d.mutual_information, unmoved.mutual_information, strict=True):
        assert side.value == pytest.approx(before.value, abs=1e-4)
    assert "at least" in collapse_verdict(diagnose(shift=2.0)).details
    assert "at least" not in collapse_verdict(unmoved).details


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_two_parts_add_up_to_the_kl(shift):
    d = many(shift)
    locs, t = locs_and_scale(MANY)
    error = np.sqrt(log_ratio_variance(locs + shift, t).sum()) / 4000  # of one z a row
    wrong = diagnose(MANY, shift=shift, scale=1.2, num_aggregate=4000)  # negative control: an encoder that is too wide

    def sums(d: LatentDiagnostics) -> tuple[float, float]:
        (below, above), (least, most) = d.mutual_information, d.aggregate_kl
        return below.value + most.value, above.value + least.value  # own row in, own row out

    for both, other in zip(sums(d), sums(wrong), strict=True):
        assert abs(both - d.kl.value) < 5 * error
        assert abs(other - d.kl.value) > 5 * error


def test_the_two_sides_hold_the_truth_between_them():
    """Few rows for much information: one side is too low and the other too high in expectation, by much."""
    problem = PROBLEM._replace(scale=0.2)
    exact = exact_information(problem)
    rng = np.random.default_rng(0)
    found = []
    for seed in range(40):
        rows = rng.normal(size=(20, 2)) @ problem.weight.T + problem.mean + problem.scale * rng.normal(size=(20, 5))
        found.append(
            latent_diagnostics(
                problem.generative(), problem.recognition(), rows.astype(np.float32), jax.random.key(seed)
            )
        )
    for sides, truth in ((lambda d: d.mutual_information, exact), (lambda d: d.aggregate_kl, 0.0)):
        assert z_scores([sides(d).lower.value for d in found], truth) < -5
        assert z_scores([sides(d).upper.value for d in found], truth) > 5
    assert all(0 < d.num_saturated <= 20 for d in found)


def test_an_exact_model_is_not_told_that_its_z_are_far_from_the_prior():
    """Six dimensions and 12 nats: own row in, the estimate stops at log N, and what is missing looks like a KL."""
    rng = np.random.default_rng(1)
    problem = Problem.make(data_dim=12, latent_dim=6, num_rows=1, seed=1)._replace(scale=0.1)
    rows = rng.normal(size=(300, 6)) @ problem.weight.T + problem.mean + 0.1 * rng.normal(size=(300, 12))
    d = latent_diagnostics(problem.generative(), problem.recognition(), rows.astype(np.float32), KEY)
    assert d.aggregate_kl.upper.value > 4  # as it was reported
    assert d.num_saturated > 250
    words = collapse_verdict(d)
    assert "cannot be told from zero" in words.details
    assert "at least" not in words.details
    assert "rows z lies where no other row's z does" in words.details
    # Negative control: an encoder that is moved by 10 in each of six dimensions is 300 nats away, and is told so.
    moved = latent_diagnostics(problem.generative(), problem.recognition(shift=10.0), rows.astype(np.float32), KEY)
    low, high = moved.aggregate_kl.interval()
    assert 100 < low < 300 < high
    assert "at least" in collapse_verdict(moved).details


def test_more_information_than_the_rows_can_show_stops_at_log_n():
    problem = Problem.make(data_dim=5, latent_dim=2, num_rows=100, seed=4)._replace(scale=1e-3)
    d = diagnose(problem)
    assert d.mutual_information_limit == pytest.approx(np.log(100))
    assert d.mutual_information.lower.value == pytest.approx(np.log(100), abs=1e-4)
    assert d.num_saturated == 100
    assert d.kl.value > 10  # the closed form is 13 nats
    exact = -np.log(problem.posterior()[2]).sum()
    low, high = d.mutual_information.interval()
    assert low < exact < high
    assert "z carries between 4.6 and" in collapse_verdict(d).headline
    assert many(0.0).mutual_information.lower.value < d.mutual_information_limit - 1  # negative control


def test_rows_that_no_other_row_reaches_leave_one_side_open():
    """So narrow a q(z | x) that the density of another row is zero in float32: no crash, and no infinity in words."""
    d = diagnose(scale=1e-25)
    assert d.num_saturated == 300
    assert d.mutual_information.upper[:2] == (np.inf, np.inf)
    assert d.aggregate_kl.lower[:2] == (-np.inf, np.inf)
    told = json.loads(json.dumps(d.to_dict(), allow_nan=False))
    assert told["mutual_information"]["upper"]["value"] is None
    words = str(collapse_verdict(d))
    assert "z carries between 5.7 and" in words
    assert "the prior cannot be told from zero" in words
    assert "inf" not in words
    assert "nan" not in words


# --- exactness of the aggregate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 7, 300, 1000])
def test_the_aggregate_posterior_is_the_mixture_over_all_rows(chunk_size):
    a, b, t = PROBLEM.posterior()
    z = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    each = scipy.stats.norm.logpdf(z[None], (ROWS @ a.T + b)[:, None], t).sum(-1)  # (row x_j, z_i)
    own_in, own_out = _log_aggregate(PROBLEM.recognition(), jnp.asarray(ROWS), z, chunk_size)
    np.testing.assert_allclose(own_in, scipy.special.logsumexp(each, axis=0) - np.log(300), rtol=1e-4, atol=1e-4)
    np.fill_diagonal(each, -np.inf)
    np.testing.assert_allclose(own_out, scipy.special.logsumexp(each, axis=0) - np.log(299), rtol=1e-4, atol=1e-4)


def test_the_order_of_the_rows_does_not_matter():
    order = np.random.default_rng(1).permutation(300)
    d, other = diagnose(), diagnose(rows=ROWS[order])
    for name in ("kl_per_dimension", "variance_of_mean", "scale", "correlation"):
        np.testing.assert_allclose(getattr(other, name), getattr(d, name), rtol=1e-5, atol=1e-6)
    assert other.kl.value == pytest.approx(d.kl.value, rel=1e-6)
    for name in ("mutual_information", "aggregate_kl"):  # the draws of z are others
        for one, two in zip(getattr(d, name), getattr(other, name), strict=True):
            assert one.value != two.value
            assert abs(one.value - two.value) < 5 * np.hypot(one.standard_error, two.standard_error)
    z = np.zeros((300, 2), np.float32)
    np.testing.assert_allclose(
        _log_aggregate(PROBLEM.recognition(), jnp.asarray(ROWS[order]), z, 50)[0],
        _log_aggregate(PROBLEM.recognition(), jnp.asarray(ROWS), z, 50)[0],
        rtol=1e-5,
    )


def test_batches_do_not_change_the_result():
    whole, cut = diagnose(batch_size=300), diagnose(batch_size=7)
    for one, two in zip(whole, cut, strict=True):
        if isinstance(one, np.ndarray | Mean | Bounds):
            np.testing.assert_allclose(one, two, rtol=2e-5, atol=1e-6)


def test_only_some_rows_make_the_aggregate():
    d, whole = diagnose(num_aggregate=60), diagnose()
    assert d.mutual_information.lower.num_rows == d.aggregate_kl.upper.num_rows == 60
    assert d.mutual_information_limit == pytest.approx(np.log(60))
    assert d.kl == whole.kl
    assert whole.mutual_information.upper.num_rows == 300
    some, all_rows = d.mutual_information.lower, whole.mutual_information.lower
    error = np.hypot(some.standard_error, all_rows.standard_error)
    bias = (1 / np.prod(locs_and_scale(PROBLEM)[1] ** 2) - 1) / 60
    assert abs(some.value - all_rows.value) < 5 * error + bias


def test_a_dimension_that_repeats_another_is_told():
    weight = np.repeat(np.linspace(0.5, 1.0, 5)[:, None], 2, axis=1) * [1.0, 1.02]
    rows = np.random.default_rng(0).normal(size=(300, 1)) * weight[:, 0] + 0.1
    problem = Problem(weight, np.zeros(5), 0.6, rows)
    d = diagnose(problem)
    assert d.correlation[0, 1] > 0.9
    assert "dimensions 1 and 2 have a correlation of" in collapse_verdict(d).details
    assert "correlation" not in collapse_verdict(diagnose()).details


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
    architecture = by_names(5, 3, (4,), "tanh", "gaussian", posterior=posterior, prior=prior, **options)
    generative, recognition = build(architecture, key=KEY)
    d = latent_diagnostics(tie(generative, recognition), recognition, ROWS[:40], KEY)
    assert d.active.shape == d.scale.shape == d.prior_scale.shape == (3,)
    assert d.correlation.shape == (3, 3)
    assert d.kl_is_analytic == (posterior in ("full-covariance", "dirichlet", "von-mises"))
    assert (d.kl_per_dimension is not None) == (posterior == "von-mises")
    sides = (*d.mutual_information, *d.aggregate_kl)
    for value in (*d.kl[:2], *(v for side in sides for v in side[:2]), *d.scale, *d.variance_of_mean):
        assert np.isfinite(value)
    assert d.kl.value > -1e-6
    least = d.mutual_information.lower
    assert -5 * least.standard_error <= least.value <= np.log(40) + 1e-4
    assert least.value <= d.mutual_information.upper.value
    assert collapse_verdict(d).headline


def test_rows_of_bytes_and_of_floats_give_the_same():
    rows = np.round(np.abs(ROWS)).astype(np.uint8)
    assert diagnose(rows=rows).mutual_information == diagnose(rows=rows.astype(np.float32)).mutual_information


# --- the words --------------------------------------------------------------------------------------------------------


def about(lower: float, upper: float | None = None, error: float = 0.01, num_rows: int = 1000) -> Bounds:
    return Bounds(Mean(lower, error, num_rows), Mean(lower if upper is None else upper, error, num_rows))


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
        "mutual_information": about(4.8),
        "mutual_information_limit": float(np.log(1000)),
        "aggregate_kl": about(0.2),
        "num_saturated": 0,
    }
    return LatentDiagnostics(**(fields | changes))


CORRELATED = np.array([[1, 0.1, -0.95], [0.1, 1, 0.9], [-0.95, 0.9, 1]])
NOTHING, SOMETHING = about(0.01, 0.02), about(0.05, 0.08)
FEW, TEN = Mean(5.0, 0.1, 3), Mean(5.0, 0.1, 10)


def test_of_two_rows_no_bound_on_the_information_is_told():
    """It was "at most 132.1 nats"."""
    of = {
        rows: made(2, 2, kl=Mean(0.79, 0.56, rows), mutual_information=about(0.1, 0.4, 0.5, rows)) for rows in (2, 10)
    }
    assert "what z tells about x cannot be told of 2 rows." in str(collapse_verdict(of[2]))
    assert "cannot be told from zero (at most" in str(collapse_verdict(of[10]))


CHEAP = Mean(0.03, 0.001, 1000)
IDLE = np.array([1.0, 0.5, 0.2, 0.1])


@pytest.mark.parametrize(
    ("sentence", "result", "other"),
    [
        ("2 of 2 latent dimensions are active; z carries between 4.7 and 4.9 nats about x.", made(2, 2), made(2, 1)),
        ("1 of 1 latent dimension is active;", made(1, 1), made(2, 1)),
        (
            "what z tells about x cannot be told from zero (at most 0.051 nats).",
            made(3, 3, mutual_information=NOTHING),
            made(3, 3, mutual_information=SOMETHING),
        ),
        (  # the KL is a limit too
            "z carries between 6.7 and 24.4 nats about x.",
            made(2, 2, kl=Mean(24.0, 0.1, 1000), mutual_information=about(6.8, 40.0)),
            made(2, 2, kl=Mean(24.0, 0.1, 1000), mutual_information=about(6.8, 20.0)),
        ),
        (
            "z is hardly used: try --kl-warmup or --free-bits.",
            made(2, 0, mutual_information=NOTHING, kl=CHEAP),
            made(2, 0, mutual_information=SOMETHING, kl=CHEAP),
        ),
        (
            "The posterior looks collapsed",
            made(2, 0, mutual_information=NOTHING),
            made(2, 1, mutual_information=NOTHING),
        ),
        (
            "The posterior means hardly move with x. It costs 5.00 nats",
            made(2, 0, mutual_information=about(0.0, 3.0)),
            made(2, 0, mutual_information=NOTHING),
        ),
        (
            "It costs 5.00 nats of KL all the same.",
            made(2, 0, mutual_information=NOTHING),
            made(2, 0, mutual_information=NOTHING, kl=CHEAP),
        ),
        (
            "The posterior means hardly move with x: z tells of x by the shape of q(z | x).",
            made(4, 0, mutual_information=SOMETHING),
            made(4, 0, mutual_information=NOTHING),
        ),
        ("The posterior mean of the other one hardly moves with x.", made(5, 4, kl_per_dimension=None), made(5, 4)),
        ("The posterior mean of the other 2 hardly moves with x.", made(5, 3, kl_per_dimension=None), made(5, 3)),
        ("The other 28 have a KL of less than 0.01 nats each and could be left out.", made(40, 12), made(40, 40)),
        (
            "The other one has a KL of less than 0.01 nats and could be left out.",
            made(4, 3),
            made(4, 3, kl_per_dimension=IDLE),
        ),
        (
            "The other 3 have a KL of up to 0.5 nats each, but hardly move with x.",
            made(4, 1, kl_per_dimension=IDLE),
            made(4, 1),
        ),
        (
            "The means of dimensions 1 and 3 have a correlation of -0.95 (1 other pair above 0.8): fewer "
            "dimensions may do as well.",
            made(3, 3, correlation=CORRELATED),
            made(3, 2, correlation=CORRELATED),  # the third is not active
        ),
        # Few rows correlate by chance: of independent dimensions two rows said so nearly always.
        (
            "a correlation of 1.00",
            made(2, 2, correlation=np.ones((2, 2))),
            made(2, 2, correlation=np.ones((2, 2)), kl=FEW),
        ),
        ("a correlation of -0.95", made(3, 3, correlation=CORRELATED), made(3, 3, correlation=CORRELATED, kl=TEN)),
        (
            "The z of data are at least 3.0 nats from the prior: samples from p(z) may come from where few z of data "
            "lie. A prior that is learned (--prior mixture, vamp or flow) may bring samples nearer to the data.",
            made(6, 6, aggregate_kl=about(3.1, 4.0)),
            made(6, 6, aggregate_kl=about(0.9, 4.0)),
        ),
        (
            "The z of data are at most 0.24 nats from the prior.",
            made(2, 2),
            made(2, 2, aggregate_kl=about(0.2, 1.1)),
        ),
        (
            "The z of data are between 0.26 and 4.9 nats from the prior. In 400 of 1,000 rows z lies where no other "
            "row's z does: too few rows to tell more.",
            made(7, 7, aggregate_kl=about(0.3, 4.8), num_saturated=400),
            made(7, 7, aggregate_kl=about(0.3, 4.8), num_saturated=50),
        ),
        (
            "The distance of the z of data from the prior cannot be told from zero (at most 4.9 nats).",
            made(8, 8, aggregate_kl=about(-3.0, 4.8)),
            made(8, 8, aggregate_kl=about(0.3, 4.8)),
        ),
    ],
)
def test_every_sentence_appears_where_it_must_and_not_beside_it(sentence, result, other):
    words = collapse_verdict(result)
    assert sentence in str(words)
    assert sentence not in str(collapse_verdict(other))
    assert "\n" not in words.headline
    assert len(words.headline) < 120
    assert str(words).endswith(".")


def test_zero_is_never_claimed():
    """An interval that holds zero is told as such, whatever its width; one that does not, is not."""
    for low, error, told in ((0.05, 0.02, True), (0.05, 0.01, False), (-0.2, 0.1, True), (0.0, 0.0, True)):
        words = str(collapse_verdict(made(2, 2, mutual_information=about(low, max(low, 0.0) + 0.1, error))))
        assert ("cannot be told from zero" in words) == told
        assert "nothing" not in words


# --- as data ----------------------------------------------------------------------------------------------------------


def test_as_plain_values():
    plain = diagnose(PROBLEM._replace(weight=PROBLEM.weight * np.array([1.0, 0.0]))).to_dict()
    assert plain["num_active"] == 1
    assert plain["active"] == [True, False]
    assert plain["correlation"][0][1] is None
    assert plain["kl"]["num_rows"] == 300
    assert set(plain["aggregate_kl"]) == {"lower", "upper"}
    assert set(plain["mutual_information"]["lower"]) == {"value", "standard_error", "num_rows"}


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
    with pytest.raises(UnavailableError, match=r"JointOnly has only log_joint; derive it from AbstractPriorLikelihood"):
        diagnose(generative=JointOnly(PROBLEM.generative()))


class Positive(LinearGaussian):
    def prior(self) -> Distribution:
        return FAMILIES["gamma"].standard(2)


def test_an_infinite_kl_is_refused():
    with pytest.raises(UnavailableError, match=r"where p\(z\) has no density"):
        diagnose(generative=remade(Positive))


@pytest.mark.parametrize("name", ["kl_divergence", "kl_per_dimension"])
@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_a_fault_in_a_users_model_is_not_taken_for_a_missing_closed_form(monkeypatch, name, error):
    """Only an UnavailableError is an answer: then the KL is sampled."""

    def broken(q, p):
        raise error("a bug of the user's")

    monkeypatch.setattr(_latent, name, broken)
    with pytest.raises(error, match="a bug of the user's"):
        diagnose()
    assert not issubclass(error, UnavailableError)
