"""Defects of what people read: figures and tables."""

UNITS, COMPARE = "reports/_units.py", "reports/_compare.py"
TABLE = "unit/test_units.py::test_log_densities_are_shifted_and_a_kl_is_not"

MUTANTS = [
    ("the Jacobian's sign", UNITS, 'value["mean"] + jacobian', 'value["mean"] - jacobian', TABLE),
    (
        "the KL has a unit",
        UNITS,
        '("elbo", "reconstruction", "log_likelihood")',
        '("elbo", "reconstruction", "log_likelihood", "kl")',
        TABLE,
    ),
    (
        "one key with two meanings in JSON",
        COMPARE,
        "_entry(self.elbo, self.log_jacobian)",
        "_entry(self.elbo)",
        "unit/test_units.py::test_a_comparison_has_both_in_json",
    ),
    (
        "the curve is of the scaled data",
        "plots/_training.py",
        "units = fitted.log_jacobian if i < 2 else 0.0",
        "units = 0.0",
        "unit/test_plots.py::test_history_is_in_the_datas_own_units",
    ),
    (
        "tiles in the order of columns",
        "plots/_draw.py",
        ".swapaxes(1, 2)",
        ".swapaxes(0, 1)",
        "unit/test_plots.py::test_channels_are_drawn_as_they_are[3]",
    ),
    (
        "a figure that fails ends the rest",
        "plots/_save.py",
        "errors.append(error)",
        "raise",
        "unit/test_plots.py::test_a_figure_that_fails_keeps_no_other_from_being_written",
    ),
]
