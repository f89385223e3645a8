"""What the likelihood sees of a stored row: exact where it is not random, and of the right law where it is."""

import dataclasses
import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy import stats

from aevb.data import Preprocessing, choose_preprocessing, fix, load
from aevb.errors import DataError
from aevb.models import GaussianLikelihood

KEY = jax.random.key(11)
DYNAMIC = Preprocessing(binarization="dynamic", maximum=255.0)
THRESHOLD = Preprocessing(binarization="threshold", maximum=255.0)
UNIT = Preprocessing(scaling="unit", maximum=255.0)
GREY = Preprocessing(scaling="unit", maximum=255.0, grey=True)
NONE = Preprocessing()
STANDARD = Preprocessing(scaling="standardize", mean=(1.0, -2.0, 1e3), std=(0.5, 2.0, 7.0))
LEVELS = np.arange(256, dtype=np.uint8)


def draws(preprocessing, row, num_draws, key=KEY):
    return np.asarray(jax.vmap(lambda k: preprocessing(k, row))(jax.random.split(key, num_draws)))


def test_deterministic_forms_are_exact():
    np.testing.assert_allclose(NONE(None, LEVELS), LEVELS)
    unit = np.asarray(UNIT(None, LEVELS))
    np.testing.assert_allclose(unit, LEVELS / 255.0, rtol=2**-23)
    assert unit[0] == 0.0 and unit[255] == 1.0 and unit.min() >= 0 and unit.max() <= 1
    np.testing.assert_array_equal(THRESHOLD(None, LEVELS), LEVELS / 255.0 >= 0.5)
    row = np.array([2.0, 0.0, 993.0], np.float32)
    np.testing.assert_allclose(STANDARD(None, row), [2.0, 1.0, -1.0], rtol=1e-6)
    fractions = np.array([0.0, 0.25, 0.5, 0.75, 1.0], np.float32)
    np.testing.assert_array_equal(Preprocessing(binarization="threshold")(None, fractions), [0, 0, 1, 1, 1])


@pytest.mark.parametrize("maximum", [1.0, 3.0, 49.0, 100.0, 255.0, 1000.0, 65535.0])
def test_the_maximum_is_one_and_never_more(maximum):
    preprocessing = Preprocessing(scaling="unit", maximum=maximum)
    x = float(preprocessing(None, np.array([maximum], np.float32))[0])
    assert 1 - 2**-24 <= x <= 1.0


@pytest.mark.parametrize("preprocessing", [DYNAMIC, THRESHOLD, UNIT, GREY, NONE])
@pytest.mark.parametrize("x64", [False, True])
def test_dtype_jit_vmap_and_strict_promotion(preprocessing, x64):
    rows = np.random.default_rng(0).integers(0, 256, (4, 256), dtype=np.uint8)
    keys = jax.random.split(KEY, 4)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"), jax.enable_x64(x64):
        eager = jnp.stack([preprocessing(k, row) for k, row in zip(keys, rows, strict=True)])
        jitted = jax.jit(jax.vmap(preprocessing))(keys, rows)
        assert eager.dtype == jitted.dtype == jnp.float32 and jitted.shape == (4, 256)
        np.testing.assert_array_equal(eager, jitted)
    np.testing.assert_array_equal(eager, jnp.stack([preprocessing(k, r) for k, r in zip(keys, rows, strict=True)]))


def test_standardize_under_jit_and_strict_promotion():
    rows = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    with jax.numpy_dtype_promotion("strict"), jax.enable_x64(True):
        one = partial(STANDARD, None)
        jitted = jax.jit(jax.vmap(one))(rows)
        assert jitted.dtype == jnp.float32
        np.testing.assert_array_equal(jitted, [one(row) for row in rows])
    with pytest.raises(ValueError, match="3 standardised columns"):
        STANDARD(None, rows[:, :2][0])


def test_a_dynamic_draw_is_binary_and_its_ends_are_certain():
    many = draws(DYNAMIC, LEVELS, 2000)
    assert set(np.unique(many)) == {0.0, 1.0}
    assert many[:, 0].max() == 0 and many[:, 255].min() == 1
    for maximum in (1.0, 3.0, 255.0):
        ends = np.array([0.0, maximum] * 500, np.float32)
        some = draws(Preprocessing(binarization="dynamic", maximum=maximum), ends, 400)
        assert some[:, ::2].max() == 0 and some[:, 1::2].min() == 1
    largest = np.float32(1 - 2**-23) * np.float32(255)  # the largest uniform times the maximum stays below it
    assert largest < 255


def test_the_mean_of_dynamic_draws_is_the_grey_value():
    num_draws = 20_000
    mean = draws(DYNAMIC, LEVELS, num_draws).mean(axis=0, dtype=np.float64)
    p = LEVELS / 255.0
    sigma = np.sqrt(p * (1 - p) / num_draws)
    assert np.all(np.abs(mean - p) <= 5 * sigma)
    np.testing.assert_allclose(DYNAMIC.expected(LEVELS), p, rtol=2**-23)
    # Controls: a maximum of 256 and a threshold are both seen.
    inside = slice(1, 255)
    for wrong in (LEVELS / 240.0, p >= 0.5):
        assert np.any(np.abs(mean - wrong)[inside] > 5 * sigma[inside])


def test_dynamic_draws_are_independent_over_pixels_rows_and_calls():
    row = np.full(400, 128, np.uint8)
    many = draws(DYNAMIC, row, 400) - 128 / 255.0
    scale = (128 / 255.0) * (127 / 255.0) * math.sqrt(400)
    for products in (many @ many.T, many.T @ many):
        off = products[~np.eye(400, dtype=bool)] / scale
        # 159,600 off-diagonal correlations (each pair twice): the largest of so many normals is below 6.5 sigma.
        assert np.abs(off).max() < 6.5 and abs(off.std() - 1) < 0.05
    # Control: one key for all rows.
    same = np.stack([DYNAMIC(KEY, row)] * 2) - 128 / 255.0
    assert (same @ same.T)[0, 1] / scale > 6.5
    np.testing.assert_array_equal(DYNAMIC(KEY, row), DYNAMIC(KEY, row))


def test_dynamic_needs_a_key():
    with pytest.raises(ValueError, match="key"):
        DYNAMIC(None, LEVELS)


@pytest.mark.parametrize("preprocessing", [DYNAMIC, THRESHOLD, UNIT, GREY, NONE])
def test_fix_is_the_row_by_row_result_whatever_the_chunk(preprocessing):
    rows = np.random.default_rng(1).integers(0, 256, (23, 12), dtype=np.uint8)
    whole = fix(preprocessing, rows, KEY)
    assert whole.dtype == (np.float32 if preprocessing.binarization == "none" else np.uint8)
    by_row = [preprocessing(jax.random.fold_in(KEY, i), row) for i, row in enumerate(rows)]
    np.testing.assert_array_equal(whole, np.stack(by_row))
    for chunk_rows in (1, 5, 22, 23, 100):
        np.testing.assert_array_equal(whole, fix(preprocessing, rows, KEY, chunk_rows=chunk_rows))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        np.testing.assert_array_equal(whole, fix(preprocessing, rows, KEY))
    with pytest.raises(ValueError, match="chunk_rows"):
        fix(preprocessing, rows, KEY, chunk_rows=0)


def test_fixed_rows_differ_from_each_other_and_between_keys():
    rows = np.full((50, 100), 128, np.uint8)
    fixed = fix(DYNAMIC, rows, KEY)
    assert len({row.tobytes() for row in fixed}) == 50
    assert (fixed != fix(DYNAMIC, rows, jax.random.key(12))).mean() > 0.4


def test_expected_is_what_every_key_gives():
    rows = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    np.testing.assert_allclose(STANDARD.expected(rows), fix(STANDARD, rows, KEY), rtol=1e-6)
    for preprocessing in (THRESHOLD, UNIT, NONE):
        expected = preprocessing.expected(LEVELS[None])
        assert expected.dtype == np.float32
        np.testing.assert_array_equal(expected[0], preprocessing(None, LEVELS))


def test_inverse_undoes_the_scaling():
    np.testing.assert_array_equal(np.rint(UNIT.inverse(np.asarray(UNIT(None, LEVELS)))), LEVELS)
    rows = np.random.default_rng(2).normal(size=(5, 4, 3)).astype(np.float32) * 10
    back = STANDARD.inverse(STANDARD.expected(rows))
    np.testing.assert_allclose(back, rows, atol=2e-4)
    probabilities = np.array([0.0, 0.3, 1.0], np.float32)
    np.testing.assert_array_equal(NONE.inverse(probabilities), probabilities)
    np.testing.assert_array_equal(Preprocessing(binarization="dynamic").inverse(probabilities), probabilities)
    for preprocessing in (DYNAMIC, THRESHOLD):  # 1 is what 255 was
        np.testing.assert_allclose(preprocessing.inverse(probabilities), [0, 76.5, 255], rtol=1e-6)
    with pytest.raises(ValueError, match="standardised"):
        STANDARD.inverse(probabilities[:2])


def test_log_jacobian_turns_the_density_of_x_into_that_of_the_row():
    row = np.array([2.0, 0.5, 993.0])
    mean, std = np.asarray(STANDARD.mean), np.asarray(STANDARD.std)
    scaled = stats.norm.logpdf((row - mean) / std).sum()
    stored = stats.norm.logpdf(row, mean, std).sum()
    assert math.isclose(scaled + STANDARD.log_jacobian(3), stored, rel_tol=1e-12)
    images = LEVELS[:10].astype(float)
    scaled = stats.norm.logpdf(images / 255, 0.1, 0.2).sum()
    stored = stats.norm.logpdf(images, 0.1 * 255, 0.2 * 255).sum()
    assert math.isclose(scaled + UNIT.log_jacobian(10), stored, rel_tol=1e-12)
    assert UNIT.log_jacobian(10) < 0
    binary = Preprocessing(scaling="unit", maximum=255.0, binary=True)
    assert all(p.log_jacobian(10) == 0 for p in (DYNAMIC, THRESHOLD, NONE, GREY, binary))
    with pytest.raises(ValueError, match="3"):
        STANDARD.log_jacobian(4)


@pytest.mark.parametrize("preprocessing", [DYNAMIC, THRESHOLD, UNIT, GREY, NONE, STANDARD])
def test_json_round_trip_is_exact(preprocessing):
    text = json.dumps(preprocessing.to_dict(), allow_nan=False)
    again = Preprocessing.from_dict(json.loads(text))
    assert again == preprocessing and hash(again) == hash(preprocessing)
    third = Preprocessing(scaling="standardize", mean=(1 / 3, 0.1), std=(2 / 3, 1e-7))
    assert Preprocessing.from_dict(json.loads(json.dumps(third.to_dict()))) == third


@pytest.mark.parametrize(
    "change",
    [
        {"binarization": "random"},
        {"binarization": None},
        {"binarization": ["none"]},
        {"binarization": "dynamic"},
        {"scaling": "log"},
        {"scaling": 1},
        {"scaling": "unit"},
        {"maximum": 0},
        {"maximum": -1.0},
        {"maximum": math.inf},
        {"maximum": math.nan},
        {"maximum": True},
        {"maximum": "255"},
        {"maximum": None},
        {"maximum": 10**400},
        {"mean": None},
        {"std": None},
        {"mean": [1.0, 2.0]},
        {"mean": [1.0, math.nan, 0.0]},
        {"mean": [1.0, "2", 0.0]},
        {"mean": 1.0},
        {"mean": "abc"},
        {"mean": [1e300, 0.0, 0.0]},
        {"mean": [], "std": []},
        {"std": [1.0, 0.0, 1.0]},
        {"std": [1.0, -1.0, 1.0]},
        {"std": [1.0, 1e-50, 1.0]},
        {"std": [1.0, math.inf, 1.0]},
        {"std": [1.0, True, 1.0]},
        {"grey": 1},
        {"grey": None},
        {"grey": True},
        {"binary": True},
        {"extra": 1},
    ],
)
def test_from_dict_refuses_everything_else(change):
    with pytest.raises((ValueError, TypeCheckError)):
        Preprocessing.from_dict(STANDARD.to_dict() | change)


def test_from_dict_needs_every_key_and_a_mapping():
    for name in STANDARD.to_dict():
        content = STANDARD.to_dict()
        del content[name]
        with pytest.raises(ValueError, match=name):
            Preprocessing.from_dict(content)
    for wrong in (None, [], "x", 3):
        with pytest.raises((ValueError, TypeCheckError)):
            Preprocessing.from_dict(wrong)


def test_contradictions_are_refused():
    for fields in (
        {"binarization": "dynamic", "scaling": "unit"},
        {"binarization": "threshold", "grey": True},
        {"binarization": "dynamic", "binary": True},
        {"grey": True, "binary": True},
        {"mean": (0.0,), "std": (1.0,)},
        {"scaling": "standardize"},
        {"scaling": "standardize", "mean": [0.0], "std": [1.0]},
    ):
        with pytest.raises((ValueError, TypeCheckError)):
            Preprocessing(**fields)
    with pytest.raises(dataclasses.FrozenInstanceError):
        NONE.maximum = 2.0


def test_rows_stay_as_they_were():
    rows = load("mnist").rows[:3].copy()
    before = rows.copy()
    fix(DYNAMIC, rows, KEY)
    UNIT.expected(rows)
    UNIT.inverse(rows)
    np.testing.assert_array_equal(rows, before)


FAR = 1e8 + np.random.default_rng(5).normal(size=(400, 2)) @ np.array([[1.0, 0.4], [0.0, 2.0]])


def test_columns_far_from_zero_are_centred_before_they_become_float32():
    """float32 holds 1e8 to the nearest 8: columns of unit variance there were called constant."""
    preprocessing = choose_preprocessing(load(FAR), GaussianLikelihood())
    exact = (FAR - FAR.mean(axis=0)) / FAR.std(axis=0)
    rows, prepare = preprocessing.staged(load(FAR).rows)
    assert rows.dtype == np.float32
    seen = jax.vmap(prepare, in_axes=(None, 0))(KEY, rows)
    for x in (seen, preprocessing.expected(FAR), fix(preprocessing, FAR, KEY)):
        np.testing.assert_allclose(x, exact, atol=1e-6)
    # ... a new row alone, which is stored as float64 too, by the training rows' mean
    np.testing.assert_allclose(preprocessing.expected(load(FAR[7:8]).rows), exact[7:8], atol=1e-6)
    np.testing.assert_allclose(preprocessing.inverse(preprocessing.expected(FAR)), FAR, atol=1e-6)
    again = Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict())))
    np.testing.assert_array_equal(again.expected(FAR), preprocessing.expected(FAR))
    assert math.isclose(preprocessing.log_jacobian(2), -math.fsum(np.log(FAR.std(axis=0))), rel_tol=1e-9)


def test_a_float32_row_far_from_zero_is_centred_on_the_mean_and_not_on_its_rounding():
    rows = np.array([[16_777_216.0], [16_777_218.0]], np.float32)  # mean 16777217, which float32 does not hold
    preprocessing = choose_preprocessing(load(rows), GaussianLikelihood())
    staged, prepare = preprocessing.staged(rows)
    assert staged is rows
    np.testing.assert_array_equal(jax.vmap(prepare, in_axes=(None, 0))(KEY, staged), [[-1.0], [1.0]])


def test_a_spread_that_float32_would_lose_is_refused_where_nothing_is_centred():
    with pytest.raises(DataError, match=r"2 of 2 columns .*float32 loses it: 1, 2; use scaling='standardize'"):
        choose_preprocessing(load(FAR), GaussianLikelihood(), "auto", "none")
    assert choose_preprocessing(load(FAR - 1e8), GaussianLikelihood(), "auto", "none") == NONE


def test_the_standardisation_does_not_depend_on_the_pieces(monkeypatch):
    preprocessing = choose_preprocessing(load(FAR), GaussianLikelihood())
    whole = preprocessing.expected(FAR)
    monkeypatch.setattr("aevb.data.preprocessing._CHUNK", 34)
    np.testing.assert_array_equal(preprocessing.expected(FAR), whole)


@pytest.mark.parametrize(
    ("preprocessing", "white"),
    [
        (Preprocessing("dynamic", maximum=255.0), 255.0),
        (Preprocessing("threshold"), 1.0),
        (Preprocessing(scaling="unit", maximum=255.0), 255.0),
        (Preprocessing(binary=True), 1.0),
        (Preprocessing(grey=True), 1.0),
        (Preprocessing(), None),
        (Preprocessing(scaling="standardize", mean=(280.0,), std=(10.0,)), None),
    ],
)
def test_white_is_the_maximum_of_pixels_and_measurements_have_none(preprocessing, white):
    assert preprocessing.white == white
