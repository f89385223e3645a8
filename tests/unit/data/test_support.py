"""Which preprocessing a data set gets, and which data a model refuses."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from aevb.data import (
    Dataset,
    Preprocessing,
    check_compatible,
    choose_preprocessing,
    guess_likelihood,
    is_binary,
    load,
)
from aevb.errors import ConfigError, DataError
from aevb.models import LIKELIHOODS

IMAGES = load(np.arange(256, dtype=np.uint8).reshape(8, 4, 8))
BINARY = load(np.eye(4, dtype=np.uint8))
BINARY_FLOAT = load(np.eye(4))
BLACK_WHITE = load(np.eye(4, dtype=np.uint8) * 255)
FRACTIONS = load(np.linspace(0, 1, 12).reshape(4, 3))
FLOATS_255 = load(np.linspace(0, 255, 12).reshape(4, 3))
REAL = load(np.random.default_rng(0).normal(size=(50, 3)) * [1, 10, 1e-3] + [5, 0, 1])


def chosen(dataset, likelihood, *args):
    return choose_preprocessing(dataset, LIKELIHOODS.make(likelihood), *args)


def refused(kind, *args, words=()):
    with pytest.raises(kind) as caught:
        chosen(*args)
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
    refused(
        DataError,
        load(rows),
        "gaussian",
        words=["2 of 9 columns", "constant in the rows to train on", ": 2, 8;", "scaling='none'"],
    )
    named = Dataset("t.csv", load(rows).rows, (9,), columns=tuple("abcdefghi"))
    refused(DataError, named, "gaussian", words=["'t.csv'", "'b', 'h'"])
    rows[:, :8] = 0.1  # not exact in binary: a computed variance need not be 0
    refused(DataError, load(rows), "gaussian", words=["8 of 9", "1, 2, 3, 4, 5 and 3 more"])
    assert chosen(load(rows), "gaussian", "auto", "none") == P()
    refused(DataError, load(np.ones((1, 2)) * 0.5), "gaussian", words=["constant"])


def test_data_outside_the_support():
    for dataset in (FLOATS_255, REAL):
        for binarization in ("auto", "none", "dynamic", "threshold"):
            refused(
                DataError,
                *(dataset, "bernoulli", binarization, "auto"),
                words=["holds values in [", "divide by 255", "whole numbers 0 to 255", "likelihood='gaussian'"],
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
        (["bernoulli", "random"], "'random'; choose one of auto, dynamic, threshold, none"),
        (["gaussian", "auto", "log"], "'log'; choose one of auto, none, unit, standardize"),
    ):
        with pytest.raises((ConfigError, TypeCheckError)) as caught:
            chosen(IMAGES, *choices)
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


def test_a_gaussian_refuses_only_what_is_evidently_scaled_otherwise():
    unit = chosen(IMAGES, "gaussian")
    rows = IMAGES.rows.astype(np.float64)

    def take(values, likelihood="gaussian", first=IMAGES, preprocessing=unit):
        check_compatible(preprocessing, None, first.event_shape, load(values), likelihood=LIKELIHOODS.make(likelihood))

    take(rows * 1.2 - 42.1)
    with pytest.raises(DataError, match=r"expected \[0, 255\]: scale them the same"):
        take(rows * 1.2 - 42.1, "continuous-bernoulli")
    with pytest.raises(DataError, match=r"\[0, 65535\], expected about \[0, 255\]: scale them the same"):
        take(rows * 257)
    with pytest.raises(DataError, match="255 means 1"):
        take(rows / 255)
    fractions = chosen(FRACTIONS, "gaussian", "auto", "unit")
    with pytest.raises(DataError, match=r"\[0, 255\], expected about \[0, 1\]"):
        take(FLOATS_255.rows, first=FRACTIONS, preprocessing=fractions)


def test_grey_values_do_not_reach_a_binary_model():
    half = np.eye(4)
    half[0, 1] = 0.5
    words = ("0 and 1 only", "binarise", "probabilities", "`reconstruct`")
    clashes(chosen(BINARY, "bernoulli"), BINARY, load(half), *words)
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


# What is guessed of data for which no likelihood was named

COUNTS = np.random.default_rng(2).integers(0, 60, (40, 3))  # ages, say
SHARES = np.random.default_rng(3).uniform(size=(40, 3))
GREY = np.random.default_rng(4).integers(0, 256, (10, 4, 5))


def in_a_file(values, tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    if suffix == ".csv":
        np.savetxt(path, values, "%.17g", ",", header=",".join("abc"), comments="")
    elif suffix == ".npz":
        np.savez(path, values)
    else:
        np.save(path, values)
    return path


@pytest.mark.parametrize("values", [COUNTS, SHARES, COUNTS % 2], ids=["counts", "shares", "binary"])
def test_the_same_numbers_give_the_same_model_whatever_the_container(values, tmp_path):
    """Ages were Bernoulli(age / 255) as integers and standardised as floats; shares were binarised, but for a .csv."""
    first = load(values.astype(np.float64))
    containers = [
        *(values.astype(dtype) for dtype in ("i2", "i4", "u4", ">i8", "f2", "f4", "f8") if (values % 1 == 0).all()),
        *(in_a_file(values, tmp_path, suffix) for suffix in (".csv", ".npy", ".npz")),
    ]
    for container in containers:
        other = load(container)
        guess = guess_likelihood(other)
        assert guess.likelihood == guess_likelihood(first).likelihood
        assert chosen(other, guess.likelihood) == chosen(first, guess.likelihood)
        np.testing.assert_array_equal(other.rows, first.rows)
        assert other.fingerprint == first.fingerprint
    jax_array = load(jnp.asarray(values, jnp.float32))
    np.testing.assert_allclose(
        chosen(jax_array, "gaussian").expected(jax_array.rows),
        chosen(first, "gaussian").expected(first.rows),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("values", "likelihood", "words"),
    [
        (COUNTS % 2, "bernoulli", []),
        (COUNTS, "gaussian", ["whole numbers", "2 to 59", "table", "'bernoulli'"]),
        (COUNTS * 1000, "gaussian", []),
        (COUNTS - 30, "gaussian", []),
        (COUNTS % 2 * 2 - 1, "gaussian", ["two values", "-1 and 1", "as 0 and 1", "'bernoulli'"]),
        (COUNTS + 0.5, "gaussian", []),
        (COUNTS.astype(np.uint8), "bernoulli", ["pixels", "uint8", "value / 255", "'gaussian'"]),
        (SHARES, "gaussian", ["numbers in [0, 1]", "table", "(N, H, W)"]),
        (SHARES * 2, "gaussian", []),
        (GREY.astype(np.uint8), "bernoulli", []),
        (GREY, "bernoulli", ["pixels", "shape (4, 5)", "value / 255"]),
        (GREY.astype(np.float32), "bernoulli", ["pixels", "value / 255"]),
        (GREY / 255, "bernoulli", ["pixels", "0 or 1 with probability value / 1"]),
        ((GREY // 10).astype(np.uint8), "bernoulli", ["0 to 25", "pixels"]),
        (GREY / 255 - 0.5, "gaussian", []),
        (GREY.reshape(10, 20), "gaussian", ["whole numbers"]),
        (GREY.reshape(10, 1, 20), "gaussian", ["whole numbers"]),
        (np.stack([GREY] * 3, axis=-1).astype(np.uint8), "bernoulli", []),
    ],
)
def test_what_is_guessed_and_whether_it_is_said(values, likelihood, words):
    """Images are told by their shape, or by uint8 as given; what the data do not make evident is said."""
    guess = guess_likelihood(load(values))
    assert guess.likelihood == likelihood
    assert bool(guess.words) == bool(words), guess.words
    for word in words:
        assert word in guess.words, guess.words


def test_a_table_with_names_is_never_taken_for_pixels():
    table = Dataset("ages.csv", COUNTS.astype(np.uint8), (3,), columns=("a", "b", "c"))
    assert guess_likelihood(table).likelihood == "gaussian"
    assert (
        guess_likelihood(Dataset("b.csv", (COUNTS % 2).astype(np.uint8), (3,), columns=tuple("abc")))[0] == "bernoulli"
    )


def test_a_likelihood_of_pixels_that_was_named_takes_whole_numbers_for_pixels():
    """MNIST comes as a table of 0..255, too; whoever names the likelihood has said what they are."""
    flat = load(GREY.reshape(10, 20))
    assert chosen(flat, "bernoulli") == P("dynamic", maximum=255.0)
    assert chosen(flat, "continuous-bernoulli") == chosen(flat, "discretized-logistic") == P("none", "unit", 255.0)
    flat = load(np.where(np.arange(20) == 3, 0, GREY.reshape(10, 20)))
    refused(DataError, flat, "gaussian", words=["1 of 20 columns", "if these are pixels, name likelihood='bernoulli'"])
    with pytest.raises(DataError, match="constant") as caught:
        chosen(load(np.full((4, 2), 0.5)), "gaussian")
    assert "pixels" not in str(caught.value)


def test_a_misspelt_choice_gets_a_suggestion():
    refused(ConfigError, IMAGES, "bernouli", words=["did you mean 'bernoulli'?"])


def test_a_dark_row_is_not_refused_for_being_alone():
    """Levels of 0 and 1 in a single row were taken for a data set scaled to [0, 1]."""
    dynamic, unit = chosen(IMAGES, "bernoulli"), chosen(IMAGES, "gaussian")
    dark = np.zeros((3, 4, 8), np.uint8)
    dark[1, 2, 3] = 1
    dark[2] = 1
    for row in dark:
        for dtype in (np.uint8, np.float64):
            for preprocessing in (dynamic, unit):
                fits(preprocessing, IMAGES, load(row[None].astype(dtype)))
    fits(dynamic, IMAGES, load(np.concatenate([dark, np.full((1, 4, 8), 7, np.uint8)])))
    fits(chosen(REAL, "gaussian"), REAL, load(np.full((1, 3), 2.5)))
    # ... and what can be told of a single row is: fractions are no levels of 0..255.
    clashes(dynamic, IMAGES, load(np.full((1, 4, 8), 0.5)), "255 means 1")
