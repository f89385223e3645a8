"""Defects of what people read: figures and tables."""

MUTANTS = [
    (
        "channels before columns",
        "plots/_draw.py",
        "reshape(down, columns, height, width, *channels).swapaxes(1, 2)",
        "reshape(down, columns, height, *channels, width).swapaxes(1, 2)",
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
