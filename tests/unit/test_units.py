"""What is said of the units of densities."""

from aevb._measures import about_units
from aevb.evaluate import Mean
from aevb.reports import Compared


def test_what_is_said_of_units():
    assert about_units(-9.95).endswith("of the scaled data they are 9.95 nats higher.")
    assert about_units(2.5).endswith("of the scaled data they are 2.50 nats lower.")
    assert about_units(0.0) == ""  # probabilities have none


def test_a_comparison_as_plain_values():
    mean, none = Mean(-13.09, 0.5, 40), Mean(0.0, float("nan"), 1)
    line = Compared("a", mean, None, none, None, 0.0, -9.95, "elbo").to_dict()
    assert line["elbo"] == {"mean": -13.09, "standard_error": 0.5}
    assert line["elbo_difference"] == {"mean": 0.0, "standard_error": None}
    assert (line["log_p"], line["log_jacobian"], line["method"]) == (None, -9.95, "elbo")
