"""Densities in the data's own units: what is shifted by the scaling's Jacobian, and what is not."""

import pytest

from aevb.evaluate import Mean
from aevb.reports import Compared, about_units, in_data_units, numbers

EVALUATION = {
    "elbo": {"mean": -3.14, "standard_error": 0.5},
    "reconstruction": {"mean": -2.0, "standard_error": 0.5},
    "kl": {"mean": 1.14, "standard_error": 0.1},
    "importance_sampled_log_likelihood": {"mean": -3.0, "standard_error": 0.5},
    "num_samples": 10,
    "num_rows": 40,
    "log_jacobian": -9.95,
}


def test_log_densities_are_shifted_and_a_kl_is_not():
    """A KL is the same in all units; the bound is still the reconstruction less the KL."""
    found = in_data_units(EVALUATION)
    assert {key: value["mean"] for key, value in found.items()} == pytest.approx(
        {"elbo": -13.09, "reconstruction": -11.95, "importance_sampled_log_likelihood": -12.95}
    )
    assert found["elbo"]["standard_error"] == 0.5
    table = {what.split()[0]: float(mean) for what, mean, _ in numbers(EVALUATION)}
    assert table["ELBO"] == pytest.approx(-13.09)
    assert table["KL(q(z|x)"] == pytest.approx(1.14)


def test_probabilities_have_no_unit():
    probabilities = EVALUATION | {"log_jacobian": 0.0}
    assert in_data_units(probabilities) == {}
    assert about_units(0.0) == ""
    assert numbers(probabilities)[0][1] == "-3.14"


def test_what_is_said_of_units():
    assert about_units(-9.95).endswith("of the scaled data they are 9.95 nats higher.")
    assert about_units(2.5).endswith("of the scaled data they are 2.50 nats lower.")


def test_a_comparison_has_both_in_json():
    """`elbo` means in it what it means in evaluation.json, and the table's numbers stand beside it."""
    mean, none = Mean(-13.09, 0.5, 40), Mean(0.0, 0.0, 40)
    line = Compared("a", mean, None, none, None, 0.0, -9.95).to_dict()
    assert line["elbo"]["mean"] == pytest.approx(-3.14)
    assert line["in_data_units"]["elbo"]["mean"] == pytest.approx(-13.09)
    assert line["log_p"] is line["in_data_units"]["log_p"] is None
