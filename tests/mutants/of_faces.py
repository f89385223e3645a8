"""Defects of what people read: figures and tables."""

MUTANTS = [
    (
        "tiles in the order of columns",
        "plots/_draw.py",
        ".swapaxes(1, 2)",
        ".swapaxes(0, 1)",
        "unit/test_plots.py::test_channels_are_drawn_as_they_are[3]",
    ),
    (
        "white is guessed from the values",
        "plots/_draw.py",
        "levels=(0.0, white), inverted=inverted, **options)",
        "inverted=inverted, **options)",
        "unit/test_plots.py::test_what_is_white_is_told_by_the_model_and_not_by_the_values[samples]",
    ),
    (
        "a figure that fails ends the rest",
        "plots/_save.py",
        "errors.append(error)",
        "raise",
        "unit/test_plots.py::test_a_figure_that_fails_keeps_no_other_from_being_written",
    ),
]
