"""Which preprocessing a data set gets, and which data a model refuses."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from aevb.data import Dataset, Preprocessing, check_compatible, choose_preprocessing, is_binary, load
from aevb.errors import ConfigError, DataError

IMAGES = load(np.arange(256, dtype=np.uint8).reshape(8, 4, 8))
BINARY = load(np.eye(4, dtype=np.uint8))
BINARY_FLOAT = load(np.eye(4))
BLACK_WHITE = load(np.eye(4, dtype=np.uint8) * 255)
FRACTIONS = load(np.linspace(0, 1, 12).reshape(4, 3))
FLOATS_255 = load(np.linspace(0, 255, 12).reshape(4, 3))
REAL = load(np.random.default_rng(0).normal(size=(50, 3)) * [1, 10, 1e-3] + [5, 0, 1])


def chosen(*args):
    return choose_preprocessing(*args)


def refused(kind, *args, words=()):
    with pytest.raises(kind) as caught:
        choose_preprocessing(*args)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


P = Preprocessing


@pytest.mark.parametrize(
    ("dataset", "likelihood", "binarization", "scaling", "expected"),
    [
        (IMAGES, "bernoulli", "auto", "auto", P("dynamic", maximum=255.0)),
        (IMAGES, "bernoulli", "auto", "none", P("dynamic", maximum=255.0)),
        (IMAGES, "bernoulli", "dynamic", "auto", P("dynamic", maximum=255.0)),
        (IMAGES, "bernoulli", "threshold", "auto", P("threshold", maximum=255.0)),
        (IMAGES, "bernoulli", "none", "auto", P("none", "unit", maximum=255.0, grey=True)),
        (IMAGES, "bernoulli", "none", "unit", P("none", "unit", maximum=255.0, grey=True)),
        (IMAGES, "bernoulli", "auto", "unit", P("none", "unit", maximum=255.0, grey=True)),
        (BLACK_WHITE, "bernoulli", "auto", "auto", P("dynamic", maximum=255.0)),
        (BLACK_WHITE, "bernoulli", "none", "auto", P("none", "unit", maximum=255.0, binary=True)),
        (BINARY, "bernoulli", "auto", "auto", P(binary=True)),
        (BINARY_FLOAT, "bernoulli", "auto", "auto", P(binary=True)),
        (BINARY, "bernoulli", "none", "none", P(binary=True)),
        (BINARY, "bernoulli", "none", "unit", P(scaling="unit", binary=True)),
        (BINARY, "bernoulli", "dynamic", "auto", P("dynamic")),
        (FRACTIONS, "bernoulli", "auto", "auto", P("dynamic")),
        (FRACTIONS, "bernoulli", "threshold", "none", P("threshold")),
        (FRACTIONS, "bernoulli", "none", "auto", P(grey=True)),
        (FRACTIONS, "bernoulli", "none", "none", P(grey=True)),
        (IMAGES, "gaussian", "auto", "auto", P(scaling="unit", maximum=255.0)),
        (IMAGES, "gaussian", "none", "none", P()),
        (BINARY, "gaussian", "auto", "unit", P(scaling="unit", maximum=1.0)),
        (FRACTIONS, "gaussian", "auto", "unit", P(scaling="unit", maximum=1.0)),
        (REAL, "gaussian", "auto", "none", P()),
    ],
)
def test_choices(dataset, likelihood, binarization, scaling, expected):
    found = chosen(dataset, likelihood, binarization, scaling)
    assert found == expected
    assert Preprocessing.from_dict(found.to_dict()) == found


def test_defaults_are_auto():
    assert chosen(IMAGES, "bernoulli") == chosen(IMAGES, "bernoulli", "auto", "auto")


def test_standardised_columns_have_mean_0_and_std_1():
    found = chosen(REAL, "gaussian", "auto", "auto")
    assert found.scaling == "standardize" and not found.grey
    x = found.expected(REAL.rows).astype(np.float64)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=2e-4)
    np.testing.assert_allclose(x.std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(found.mean, REAL.rows.astype(float).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.std, REAL.rows.astype(float).std(axis=0), rtol=1e-12)
    assert chosen(IMAGES, "gaussian", "none", "standardize").scaling == "standardize"


def test_standardisation_sums_in_float64_over_blocks(monkeypatch):
    rows = np.ones((5000, 2), np.float32) * 16_777_216
    rows[::2] += 2
    whole = chosen(load(rows), "gaussian")
    assert whole.mean == (16_777_217.0,) * 2 and whole.std == (1.0,) * 2
    monkeypatch.setattr("aevb.data.arrays._BLOCK", 14)
    assert chosen(load(rows), "gaussian") == whole


def test_extreme_scales():
    tiny, huge = 1e-30, 1e30
    scales = np.random.default_rng(1).normal(size=(20, 2)) * [tiny, huge]
    x = chosen(load(scales), "gaussian").expected(load(scales).rows)
    np.testing.assert_allclose(x.std(axis=0), 1, rtol=1e-5)
    for values in ([[3e38], [-3e38]], [[0.0], [1e-44]]):
        refused(DataError, load(np.array(values)), "gaussian", words=["rescale"])


def test_constant_columns_are_named():
    rows = np.random.default_rng(0).normal(size=(6, 9))
    rows[:, [1, 7]] = 3.0
    refused(DataError, load(rows), "gaussian", words=["2 of 9 columns", "constant", ": 1, 7;", "--scaling none"])
    named = Dataset("t.csv", load(rows).rows, (9,), columns=tuple("abcdefghi"))
    refused(DataError, named, "gaussian", words=["'t.csv'", "'b', 'h'"])
    rows[:, :8] = 0.1  # not exact in binary: a computed variance need not be 0
    refused(DataError, load(rows), "gaussian", words=["8 of 9", "0, 1, 2, 3, 4 and 3 more"])
    assert chosen(load(rows), "gaussian", "auto", "none") == P()
    refused(DataError, load(np.ones((1, 2)) * 0.5), "gaussian", words=["constant"])


def test_data_outside_the_support():
    for dataset in (FLOATS_255, REAL):
        for binarization in ("auto", "none", "dynamic", "threshold"):
            refused(
                DataError,
                *(dataset, "bernoulli", binarization, "auto"),
                words=["holds values in [", "divide by 255", "uint8", "--likelihood gaussian"],
            )
    refused(DataError, load([[-0.001, 0.5]] * np.ones((2, 1))), "bernoulli", words=["-0.001"])
    refused(DataError, load([[0.0, 1.0001]] * np.ones((2, 1))), "bernoulli", words=["1.0001"])
    refused(DataError, IMAGES, "bernoulli", "none", "none", words=["0-255 integers to a Bernoulli decoder without"])
    refused(DataError, FLOATS_255, "gaussian", "auto", "unit", words=["[0, 255]", "standardize"])


def test_contradictions_and_unknown_choices():
    for binarization in ("dynamic", "threshold"):
        refused(ConfigError, IMAGES, "gaussian", binarization, "auto", words=[binarization])
        refused(ConfigError, IMAGES, "bernoulli", binarization, "unit", words=["unit"])
    refused(ConfigError, IMAGES, "bernoulli", "auto", "standardize")
    for choices, words in (
        (["poisson"], "'poisson'; choose one of bernoulli, gaussian"),
        (["bernoulli", "random"], "'random'; choose one of auto, dynamic, threshold, none"),
        (["gaussian", "auto", "log"], "'log'; choose one of auto, none, unit, standardize"),
    ):
        with pytest.raises((ConfigError, TypeCheckError)) as caught:
            choose_preprocessing(IMAGES, *choices)
        assert isinstance(caught.value, TypeCheckError) or words in str(caught.value)


def test_is_binary():
    assert is_binary(BINARY.rows) and is_binary(BINARY_FLOAT.rows) and is_binary(np.zeros((1, 1), np.float32))
    assert not any(is_binary(d.rows) for d in (IMAGES, BLACK_WHITE, FRACTIONS, REAL))


# A second data set


def fits(preprocessing, first, other):
    check_compatible(preprocessing, first.columns, first.event_shape, other)


def clashes(preprocessing, first, other, *words):
    with pytest.raises(DataError) as caught:
        fits(preprocessing, first, other)
    message = str(caught.value)
    assert "\n" not in message and repr(other.name) in message and "training data" in message
    for word in words:
        assert word in message, message


def test_a_data_set_fits_itself():
    for dataset in (IMAGES, BINARY, BINARY_FLOAT, BLACK_WHITE, FRACTIONS):
        for likelihood in ("bernoulli", "gaussian"):
            if dataset is not BINARY_FLOAT:
                fits(chosen(dataset, likelihood), dataset, dataset.take([1]))
    fits(chosen(REAL, "gaussian"), REAL, REAL)


def test_columns_must_agree():
    dynamic = chosen(IMAGES, "bernoulli")
    fits(dynamic, IMAGES, load(IMAGES.rows))  # flat rows of the same number are taken
    clashes(dynamic, IMAGES, load(IMAGES.rows[:, :-1]), "31 columns", "expected 32", "(4, 8)")
    rows = REAL.rows

    def table(*names):
        return Dataset("new.csv", rows, (3,), columns=names)

    first, gaussian = table("a", "b", "c"), chosen(REAL, "gaussian")
    fits(gaussian, first, table("a", "b", "c"))
    fits(gaussian, first, REAL)  # no names, nothing to compare
    clashes(gaussian, first, table("a", "c", "b"), "another order", "column 2 is 'c', expected 'b'")
    clashes(gaussian, first, table("a", "b", "d"), "'c' are missing", "'d' came instead")


def test_ranges_must_agree():
    dynamic = chosen(IMAGES, "bernoulli")
    shape = IMAGES.rows.shape
    fits(dynamic, IMAGES, load(np.zeros(shape)))
    fits(dynamic, IMAGES, load(np.full(shape, 17.5)))
    clashes(dynamic, IMAGES, load(np.full(shape, 0.5)), "[0.5, 0.5]", "255 means 1")
    clashes(dynamic, IMAGES, load(np.ones(shape, np.uint8)), "255 means 1")
    clashes(dynamic, IMAGES, load(np.full(shape, -1)), "[-1, -1]", "[0, 255]")
    clashes(chosen(IMAGES, "gaussian"), IMAGES, load(np.full(shape, 256)), "[256, 256]")
    clashes(chosen(IMAGES, "gaussian"), IMAGES, load(np.full(shape, 0.25)), "255 means 1")
    fits(chosen(IMAGES, "gaussian", "auto", "none"), IMAGES, load(np.full(shape, -3.0)))
    clashes(chosen(FRACTIONS, "bernoulli"), FRACTIONS, FLOATS_255, "[0, 255]", "[0, 1]")
    fits(chosen(REAL, "gaussian"), REAL, FLOATS_255)


def test_grey_values_do_not_reach_a_binary_model():
    half = np.eye(4)
    half[0, 1] = 0.5
    clashes(chosen(BINARY, "bernoulli"), BINARY, load(half), "0 and 1 only", "binarise")
    clashes(chosen(BINARY_FLOAT, "bernoulli"), BINARY_FLOAT, BLACK_WHITE, "[0, 255]")
    clashes(chosen(BLACK_WHITE, "bernoulli", "none"), BLACK_WHITE, load(half * 254), "0 and 1 only")
    fits(chosen(BLACK_WHITE, "bernoulli", "none"), BLACK_WHITE, load(np.eye(4) * 255.0))
    fits(chosen(BINARY, "bernoulli", "dynamic"), BINARY, load(half))
    fits(chosen(FRACTIONS, "bernoulli", "none"), FRACTIONS, load(half[:, :3]))


def test_a_table_of_whole_numbers_is_standardised_and_no_image():
    ages = np.array([[20, 150], [40, 190], [60, 170]], np.uint8)
    found = chosen(Dataset("ages", ages, (2,), columns=("age", "height")), "gaussian", "auto", "auto")
    assert found.scaling == "standardize"
    assert found.mean == (40.0, 170.0)
