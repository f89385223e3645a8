"""What the figures show: artists, coordinates, labels. Not their pixels."""

import threading
from types import SimpleNamespace

import jax
import matplotlib
import numpy as np
import pytest
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from aevb import plots
from aevb.errors import OutputError


class FakeFitted:
    """Rows are (z, noise ...) and images are flat planes of grey, so that every number on a figure can be told."""

    measures = ("elbo", "reconstruction", "kl")
    white: float | None = 1.0

    def __init__(self, latent_dim=2, event_shape=(3, 2), columns=None, epochs=3, validation=True):
        self.latent_dim, self.event_shape, self.columns = latent_dim, event_shape, columns
        parts = ("train", "validation") if validation else ("train",)
        self.history = tuple(
            {"epoch": e} | {f"{part}_{m}": -100.0 / e for part in parts for m in self.measures}
            for e in range(1, epochs + 1)
        )
        self.decode_calls = []

    @property
    def data_dim(self):
        return int(np.prod(self.event_shape))

    def encode(self, rows):
        z = np.asarray(rows, dtype=float)[:, : self.latent_dim]
        return SimpleNamespace(mean=z, scale=np.ones_like(z))

    def decode(self, z):
        self.decode_calls.append(np.asarray(z))
        level = scipy.stats.norm.cdf(z[:, 0]) / 10 + scipy.stats.norm.cdf(z[:, -1]) / 5
        return np.repeat(level[:, None], self.data_dim, axis=1) * np.arange(1, self.data_dim + 1) / self.data_dim

    def reconstruct(self, rows):
        return np.asarray(rows, dtype=float) / 2

    def sample(self, num, key):
        return np.asarray(jax.random.normal(key, (num, self.data_dim)))

    def sample_prior(self, num, key):
        return np.asarray(jax.random.normal(key, (num, self.latent_dim)))

    has_standard_normal_prior = True
    has_simplex_latent = False


@pytest.fixture
def axes():
    return Figure().add_subplot()


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    yield
    left = plt.get_fignums()
    plt.close("all")
    assert left == []
    assert dict(matplotlib.rcParams) == before


def rows_of(num, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(num, width))


def offsets(axes):
    return np.asarray(axes.collections[0].get_offsets())


def legend_texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


# history


def test_history_has_a_panel_for_each_measure():
    panels = plots.plot_history(FakeFitted(), axes=Figure())
    assert [ax.get_title() for ax in panels] == [
        "Bound (ELBO)",
        "Reconstruction E_q[log p(x|z)]",
        "KL divergence",
    ]
    for ax in panels:
        assert ax.get_ylabel() == "nats per example"
        assert [line.get_label() for line in ax.lines] == ["train", "validation"]
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(ax.lines[0].get_ydata(), [-100, -50, -100 / 3])
    assert legend_texts(panels[0]) == ["train", "validation"]


def test_history_of_grey_pixels_is_not_called_a_bound():
    fitted = FakeFitted()
    fitted.measures = ("grey_objective", "negative_cross_entropy", "kl")
    fitted.history = [{"epoch": 1, "train_grey_objective": -9.0, "train_negative_cross_entropy": -5.0, "train_kl": 4.0}]
    titles = [ax.get_title() for ax in plots.plot_history(fitted, axes=Figure())]
    assert not any("ELBO" in title or "likelihood" in title for title in titles)


@pytest.mark.parametrize("validation", [True, False])
def test_history_of_one_epoch(validation):
    panels = plots.plot_history(FakeFitted(epochs=1, validation=validation), axes=list(Figure().subplots(1, 3)))
    for ax in panels:
        assert len(ax.lines) == 1 + validation
        assert all(line.get_marker() not in ("", "None") for line in ax.lines)
        low, high = ax.get_ylim()
        assert low < -100 < high
        left, right = ax.get_xlim()
        assert [tick for tick in ax.get_xticks() if left <= tick <= right] == [1]
    assert (panels[0].get_legend() is not None) == validation


def test_history_validation_may_be_sparse():
    fitted = FakeFitted(validation=False)
    fitted.history[1].update({f"validation_{m}": -60.0 for m in fitted.measures})
    lines = plots.plot_history(fitted, axes=Figure())[0].lines
    assert [list(line.get_xdata()) for line in lines] == [[1, 2, 3], [2]]


@pytest.mark.parametrize("spike", [0, 1, 60])
def test_history_limits_keep_the_later_curve_readable(spike):
    fitted = FakeFitted()
    curve = -100 - 20 / np.arange(1, 101)
    curve[spike] = -1e6
    fitted.history = [{"epoch": i + 1} | {f"train_{m}": v for m in fitted.measures} for i, v in enumerate(curve)]
    low, high = plots.plot_history(fitted, axes=Figure())[0].get_ylim()
    later = np.delete(curve, spike)[25:]
    assert low < later.min() < later.max() < high
    assert high - low < 5 * (later.max() - later.min())
    assert low < curve[-1] < high


def test_history_limits_hold_a_curve_that_moves_only_at_the_end():
    fitted = FakeFitted()
    curve = np.where(np.arange(100) < 99, 0.0, 20.0)
    fitted.history = [{"epoch": i + 1} | {f"train_{m}": v for m in fitted.measures} for i, v in enumerate(curve)]
    low, high = plots.plot_history(fitted, axes=Figure())[2].get_ylim()
    assert low < 0.0 < 20.0 < high


def test_history_with_non_finite_values_is_drawn():
    fitted = FakeFitted()
    fitted.history[1]["train_elbo"] = -np.inf
    fitted.history[0]["train_kl"] = np.nan
    for ax in plots.plot_history(fitted, axes=Figure()):
        assert np.isfinite(ax.get_ylim()).all()


# latent space


def test_latent_space_shows_each_mean_in_its_class_colour(axes):
    rows = rows_of(500)
    labels = np.random.default_rng(1).integers(0, 7, 500)
    assert plots.plot_latent_space(FakeFitted(), rows, labels, ax=axes) is axes
    drawn, colours = offsets(axes), axes.collections[0].get_facecolors()
    assert drawn.shape == (500, 2)
    label_of = {tuple(row[:2]): label for row, label in zip(rows, labels, strict=True)}
    for point, colour in zip(drawn, colours, strict=True):
        assert to_hex(colour) == plots.PALETTE[label_of[tuple(point)]]
    assert legend_texts(axes) == [str(c) for c in range(7)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_{1}$", "$z_{2}$")
    assert axes.get_aspect() == 1.0


def test_latent_space_draws_classes_mixed(axes):
    labels = np.repeat([0, 1], 500)
    plots.plot_latent_space(FakeFitted(), rows_of(1000), labels, ax=axes)
    first_half = [to_hex(c) for c in axes.collections[0].get_facecolors()[:500]]
    assert 150 < first_half.count(plots.PALETTE[0]) < 350


def test_latent_space_of_other_dims(axes):
    rows = rows_of(50)
    plots.plot_latent_space(FakeFitted(latent_dim=4), rows, dims=(3, 1), ax=axes)
    assert {tuple(p) for p in offsets(axes)} == {(row[3], row[1]) for row in rows}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_{4}$", "$z_{2}$")
    assert axes.get_legend() is None


def test_latent_space_tells_classes_beyond_ten_by_marker(axes):
    labels = np.tile(np.arange(20), 3)
    rows = rows_of(60)
    plots.plot_latent_space(FakeFitted(), rows, labels, ax=axes)
    handles = axes.get_legend().legend_handles
    looks = [(to_hex(handle.get_color()), handle.get_marker()) for handle in handles]
    assert len(set(looks)) == len(looks) == 20
    vertices = [len(path.vertices) for path in axes.collections[0].get_paths()]
    label_of = {tuple(row[:2]): label for row, label in zip(rows, labels, strict=True)}
    expected_marker = [label_of[tuple(point)] >= 10 for point in offsets(axes)]
    assert [count == min(vertices) for count in vertices] == expected_marker  # a triangle has fewer than a circle


@pytest.mark.parametrize(
    "labels",
    [np.arange(21), np.linspace(0, 1, 21), np.r_[np.nan, np.arange(20.0)], np.array([f"w{i:02d}" for i in range(21)])],
    ids=["21 integers", "floats", "a missing float", "21 words"],
)
def test_latent_space_of_a_scale_has_a_colour_bar(labels):
    figure = Figure()
    axes = plots.plot_latent_space(FakeFitted(), rows_of(21), labels, ax=figure)
    assert len(figure.axes) == 2
    assert axes.get_legend() is None
    assert len(offsets(axes)) == 21
    assert len(axes.collections[0].get_array()) == 21


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "_hid", "$5"], [" _hid", r"\$5", "a", "b"]),
        ([True, False, True, True], ["False", "True"]),
        (np.array(["x", None, "x", "y"], dtype=object), ["None", "x", "y"]),
    ],
)
def test_latent_space_names_classes(axes, labels, names):
    plots.plot_latent_space(FakeFitted(), rows_of(4), labels, ax=axes)
    axes.figure.draw_without_rendering()
    assert sorted(legend_texts(axes)) == sorted(names)


@pytest.mark.parametrize("extra", [0, 1])
def test_latent_space_becomes_a_density_above_200_000_points(extra):
    rows = np.random.default_rng(0).normal(size=(200_000 + extra, 2))
    figure = Figure()
    axes = plots.plot_latent_space(FakeFitted(), rows, np.zeros(len(rows), dtype=int), ax=figure)
    drawn = axes.collections[0]
    if extra:
        assert drawn.get_array().sum() == len(rows)
        assert isinstance(drawn.norm, matplotlib.colors.LogNorm)
        assert len(figure.axes) == 2
    else:
        assert len(drawn.get_offsets()) == len(rows)
        assert legend_texts(axes) == ["0"]


@pytest.mark.parametrize("labels", [None, np.repeat([0, 1, 2], 10)])
def test_latent_space_of_one_dimension_is_a_histogram_per_class(axes, labels):
    plots.plot_latent_space(FakeFitted(latent_dim=1), rows_of(30), labels, ax=axes)
    if labels is None:
        assert sum(bar.get_height() for bar in axes.patches) == 30
    else:
        assert len(axes.patches) == 3
        assert legend_texts(axes) == ["0", "1", "2"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_{1}$", "examples")


# manifold


@pytest.mark.parametrize(("n", "low", "high"), [(20, 0.05, 0.95), (2, 0.01, 0.6)])
def test_manifold_coordinates_are_gaussian_quantiles_in_reading_order(n, low, high):
    grid = plots.manifold_coordinates(n, latent_dim=4, dims=(2, 0), low=low, high=high, base=[9.0, 1.0, 9.0, -1.0])
    assert grid.shape == (n * n, 4)
    quantiles = scipy.stats.norm.ppf(np.linspace(low, high, n))
    picture = grid.reshape(n, n, 4)
    np.testing.assert_allclose(picture[:, :, 2], np.broadcast_to(quantiles, (n, n)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(picture[:, :, 0], np.broadcast_to(quantiles[::-1, None], (n, n)), rtol=0, atol=1e-12)
    assert (grid[:, [1, 3]] == [1.0, -1.0]).all()


def test_manifold_coordinates_default_to_the_origin_elsewhere():
    assert (plots.manifold_coordinates(3, latent_dim=5)[:, 2:] == 0).all()
    assert plots.manifold_coordinates().shape == (400, 2)


def test_manifold_tiles_lie_where_their_latents_are(axes):
    fitted = FakeFitted(event_shape=(3, 2))
    assert plots.plot_manifold(fitted, n=5, ax=axes) is axes
    (z,) = fitted.decode_calls
    canvas = np.asarray(axes.images[0].get_array())
    assert canvas.shape == (15, 10)
    low, high = scipy.stats.norm.ppf([0.05, 0.95])
    corners = [(canvas[-3:, :2], (low, low)), (canvas[:3, :2], (low, high)), (canvas[-3:, -2:], (high, low))]
    for tile, point in corners:
        np.testing.assert_allclose(tile.ravel(), fitted.decode(np.array([point]))[0], atol=1e-12)
    assert len(z) == 25
    assert axes.images[0].origin == "upper"
    assert axes.get_ylim() == (-0.5, 4.5)


def test_manifold_ticks_are_latent_values(axes):
    plots.plot_manifold(FakeFitted(), n=19, ax=axes)
    quantiles = scipy.stats.norm.ppf(np.linspace(0.05, 0.95, 19))
    for label, tick in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True):
        nearest = np.interp(tick, np.arange(19), quantiles)
        assert abs(nearest - float(label.get_text().replace("−", "-"))) < 0.02


def test_manifold_of_a_table_is_a_map_per_column():
    fitted = FakeFitted(event_shape=(6,), columns=("a", "$b", "_c", "d", "e", "f"))
    figure = Figure()
    panels = plots.plot_manifold(fitted, n=4, ax=figure)
    figure.draw_without_rendering()
    assert [ax.get_title() for ax in panels] == ["Decoded a", r"Decoded \$b", "Decoded  _c", "Decoded d"]
    (z,) = fitted.decode_calls
    np.testing.assert_allclose(panels[1].images[0].get_array(), fitted.decode(z)[:, 1].reshape(4, 4))


# reconstructions


def test_reconstructions_of_images_stand_below_the_originals(axes):
    rows = np.random.default_rng(0).uniform(0, 0.4, (12, 6))
    assert plots.plot_reconstructions(FakeFitted(), rows, ax=axes) is axes
    canvas = np.asarray(axes.images[0].get_array())
    assert canvas.shape == (6, 20)
    np.testing.assert_allclose(canvas[:3, 4:6].ravel(), rows[2])
    np.testing.assert_allclose(canvas[3:, 4:6].ravel(), rows[2] / 2)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["original", "reconstruction"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_are_drawn_as_they_are(axes, channels):
    """A colour image is a picture like any other; each tile keeps its place, and each channel its own values."""
    shape = (3, 2, channels)
    rows = np.random.default_rng(0).uniform(0, 0.2, (4, 3 * 2 * channels))  # dark: a grey one would be inverted
    plots.plot_reconstructions(FakeFitted(event_shape=shape), rows, ax=axes)
    canvas = np.asarray(axes.images[0].get_array())
    assert canvas.shape == ((6, 8) if channels == 1 else (6, 8, channels))
    np.testing.assert_allclose(canvas[:3, 4:6].reshape(-1), rows[2])
    np.testing.assert_allclose(canvas[3:, 4:6].reshape(-1), rows[2] / 2)


def test_bytes_of_colour_images_are_levels(axes):
    plots.draw_tiles(axes, np.full((3, 2, 2, 3), [255, 0, 51], dtype=np.uint8), 2)
    canvas = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(canvas[:2], np.broadcast_to([1.0, 0.0, 0.2], (2, 4, 3)))
    assert (canvas[2:, 2:] == 1.0).all()  # blank paper in the place of a fourth


@pytest.mark.parametrize("shape", [(4, 2, 3), (4, 2, 1)])
def test_the_manifold_and_samples_of_images_with_channels_are_pictures(shape):
    fitted = FakeFitted(event_shape=shape)
    panel = plots.plot_manifold(fitted, n=3, ax=Figure())
    channels = shape[2:] if shape[2] > 1 else ()
    assert np.asarray(panel.images[0].get_array()).shape == (12, 6, *channels)
    panel = plots.plot_samples(fitted, jax.random.key(0), num=4, ax=Figure())
    assert np.asarray(panel.images[0].get_array()).shape == (8, 4, *channels)


def test_other_shapes_are_tables_of_their_numbers():
    panels = plots.plot_samples(FakeFitted(event_shape=(2, 2, 2)), jax.random.key(0), num=5, ax=Figure())
    assert [ax.get_xlabel() for ax in panels] == [f"x_{j}" for j in range(1, 7)]


def test_reconstructions_of_fewer_rows_and_other_shapes(axes):
    rows = np.random.default_rng(0).uniform(0, 0.4, (2, 3, 2))
    fitted = FakeFitted()
    plots.plot_reconstructions(fitted, rows, num=10, ax=axes)
    assert axes.images[0].get_array().shape == (6, 4)


@pytest.mark.parametrize("draw", ["reconstructions", "samples", "manifold"])
def test_what_is_white_is_told_by_the_model_and_not_by_the_values(axes, draw):
    """Means of 0 to 255 may all be below 2, and are nearly black then."""
    fitted = FakeFitted()
    fitted.white = 255.0
    fitted.decode = lambda z: np.full((len(z), 6), 1.25)
    fitted.reconstruct = lambda rows: np.full((len(rows), 6), 1.25)
    rows = np.array([[0, 0, 0, 0, 51, 255]], dtype=np.uint8)
    {
        "reconstructions": lambda: plots.plot_reconstructions(fitted, rows, ax=axes),
        "samples": lambda: plots.plot_samples(fitted, jax.random.key(0), num=4, ax=axes),
        "manifold": lambda: plots.plot_manifold(fitted, n=3, ax=axes),
    }[draw]()
    canvas = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(canvas[3:], 1.25 / 255)
    if draw == "reconstructions":
        np.testing.assert_allclose(canvas[:3].ravel(), rows[0] / 255)
    assert axes.images[0].get_clim() == (0.0, 1.0)


@pytest.mark.parametrize("centre", [280.0, -3.0])
def test_measurements_are_drawn_over_the_range_of_the_originals(centre):
    """Whatever their size: they have no value that is white. What is beyond the range is seen to be."""
    fitted, figure = FakeFitted(), Figure()
    fitted.white = None
    rows = centre + np.arange(12.0).reshape(2, 6)
    fitted.reconstruct = lambda rows: np.full((len(rows), 6), centre + 5.5)
    axes = plots.plot_reconstructions(fitted, rows, ax=figure)
    canvas = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(canvas[:3, :2].ravel(), np.arange(6) / 11)
    np.testing.assert_allclose(canvas[3:], 0.5)
    bar = figure.axes[1]
    assert bar.get_ylim() == (centre, centre + 11)
    assert len(bar.patches) == 0
    fitted.reconstruct = lambda rows: np.full((len(rows), 6), centre - 1)
    figure = Figure()
    canvas = np.asarray(plots.plot_reconstructions(fitted, rows, ax=figure).images[0].get_array())
    assert (canvas[3:] == 0).all()
    assert len(figure.axes[1].patches) == 2  # arrows at the ends of the bar


def test_samples_and_the_manifold_of_measurements_are_drawn_over_their_own_range():
    fitted = FakeFitted()
    fitted.white, plain = None, FakeFitted.decode
    fitted.decode = lambda z: 280.0 + plain(fitted, z)
    for draw in (
        lambda figure: plots.plot_samples(fitted, jax.random.key(0), num=7, ax=figure),
        lambda figure: plots.plot_manifold(fitted, n=4, ax=figure),
    ):
        figure = Figure()
        canvas = np.asarray(draw(figure).images[0].get_array())
        assert (np.nanmin(canvas), np.nanmax(canvas)) == (0.0, 1.0)
        assert 280 < figure.axes[1].get_ylim()[0] < figure.axes[1].get_ylim()[1] < 280.5


def test_colours_that_are_measurements_have_their_range_in_the_title():
    fitted = FakeFitted(event_shape=(3, 2, 3))
    fitted.white = None
    fitted.decode = lambda z: np.linspace(-4.0, 12.0, len(z))[:, None] * np.ones(18)
    axes = plots.plot_samples(fitted, jax.random.key(0), num=4, ax=Figure())
    canvas = np.asarray(axes.images[0].get_array())
    assert (canvas.min(), canvas.max()) == (0.0, 1.0)
    assert axes.get_title() == "Decoded draws from the prior (black is -4, white 12)"


@pytest.mark.parametrize(
    ("images", "levels", "drawn"),
    [
        (np.array([0.0, 0.25, 1.0]), None, [0, 0.25, 1]),
        (np.array([0, 1, 0], np.uint8), None, [0, 1, 0]),
        (np.array([0, 51, 102], np.uint8), None, [0, 0.2, 0.4]),
        (np.array([-3.0, -2.0, 1.0]), None, [0, 0.25, 1]),
        (np.array([0.0, 0.51, 1.02]), (0.0, 255.0), [0, 0.002, 0.004]),
        (np.array([-1.0, 1.0, 9.0]), (0.0, 2.0), [0, 0.5, 1]),
        (np.array([7.0, 7.0, 7.0]), None, [0, 0, 0]),
    ],
)
def test_levels_of_tiles_are_those_named_or_follow_one_rule(axes, images, levels, drawn):
    plots.draw_tiles(axes, images.reshape(3, 1, 1), 3, levels=levels)
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()).ravel(), drawn)


@pytest.mark.parametrize(("level", "cmap"), [(10, "gray_r"), (150, "gray")])
def test_dark_pictures_are_inverted_and_photographs_are_not(axes, level, cmap):
    fitted = FakeFitted()
    fitted.white = 255.0
    plots.plot_reconstructions(fitted, np.full((2, 6), level, dtype=np.uint8), ax=axes)
    assert axes.images[0].get_cmap().name == cmap


def test_a_gaussian_mean_just_above_one_is_white_and_not_a_grey_level(axes):
    fitted = FakeFitted()
    fitted.reconstruct = lambda rows: np.full((len(rows), 6), 1.05)
    plots.plot_reconstructions(fitted, np.ones((1, 6)), ax=axes)
    assert (np.asarray(axes.images[0].get_array()) == 1.0).all()


def test_reconstructions_of_a_table_are_standardised(axes):
    rows = np.random.default_rng(0).normal(5.0, 3.0, (40, 3))
    rows[:, 2] = 7.0
    plots.plot_reconstructions(FakeFitted(event_shape=(3,), columns=("a", "b", "c")), rows, ax=axes)
    assert legend_texts(axes) == ["a", "b", "c"]
    for j in (0, 1):
        x, y = np.asarray(axes.collections[j].get_offsets()).T
        assert (abs(x.mean()) < 1e-12, round(x.std(), 12)) == (True, 1.0)
        np.testing.assert_allclose(y, (rows[:, j] / 2 - rows[:, j].mean()) / rows[:, j].std())
    assert (np.asarray(axes.collections[2].get_offsets())[:, 0] == 0).all()
    assert len(axes.lines) == 1


# samples


def test_samples_of_images_are_decoded_draws_from_the_prior(axes):
    fitted = FakeFitted(latent_dim=3)
    key = jax.random.key(4)
    plots.plot_samples(fitted, key, num=7, ax=axes)
    (z,) = fitted.decode_calls
    np.testing.assert_array_equal(z, jax.random.normal(key, (7, 3)))
    canvas = np.asarray(axes.images[0].get_array())
    assert canvas.shape == (9, 6)
    np.testing.assert_allclose(canvas[3:6, 2:4].ravel(), fitted.decode(z)[4])
    assert (canvas[6:, 2:] == 0).all()  # blank paper after the seventh
    assert axes.get_title() == "Decoded draws from the prior"


def test_samples_of_a_table_are_histograms():
    panels = plots.plot_samples(FakeFitted(event_shape=(8,)), jax.random.key(0), ax=Figure())
    assert [ax.get_xlabel() for ax in panels] == [f"x_{j}" for j in range(1, 7)]
    assert [sum(bar.get_height() for bar in ax.patches) for ax in panels] == [1000.0] * 6


# all together


@pytest.mark.parametrize(
    ("latent_dim", "event_shape"),
    [(1, (3, 2)), (2, (3, 2)), (3, (3, 2)), (2, (6,)), (2, (1,)), (2, (4, 2, 3)), (2, (3, 2, 2)), (2, (400, 1))],
)
def test_save_figures_writes_what_applies(tmp_path, latent_dim, event_shape):
    fitted = FakeFitted(latent_dim=latent_dim, event_shape=event_shape)
    rows = rows_of(30, max(6, fitted.data_dim)) if fitted.data_dim > 1 else rows_of(30, 1)
    if fitted.data_dim == 1:
        fitted.encode = lambda rows: SimpleNamespace(mean=np.hstack([rows, rows]))
    directory = tmp_path / "a" / "b"
    paths = plots.save_figures(fitted, directory, rows=rows, labels=np.arange(30) % 3, key=jax.random.key(0))
    names = ["history", "latent_space", "manifold", "reconstructions", "samples"]
    if latent_dim == 1:
        names.remove("manifold")
    assert paths == [directory / f"{name}.png" for name in names]
    assert sorted(directory.iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.parametrize(("level", "cmap"), [(10, "gray_r"), (150, "gray")])
def test_the_rows_tell_whether_the_pictures_beside_them_are_inverted(tmp_path, monkeypatch, level, cmap):
    """And not each picture for itself: an untrained decoder's means are grey where the data are dark."""
    fitted, drawn = FakeFitted(), {}
    fitted.white = 255.0
    fitted.decode = lambda z: np.full((len(z), 6), 160.0 - level)
    monkeypatch.setattr(plots._save, "save_figure", lambda path, draw: drawn.update({path.stem: draw}))
    plots.save_figures(fitted, tmp_path, rows=np.full((9, 6), level, np.uint8), key=jax.random.key(0))
    pictures = [drawn[name](Figure()) for name in ("manifold", "reconstructions", "samples")]
    assert [panel.images[0].get_cmap().name for panel in pictures] == [cmap] * 3


def test_save_figures_in_a_thread_and_over_older_files(tmp_path):
    (tmp_path / "history.png").write_text("old")
    done = []
    arguments = {"rows": rows_of(20), "labels": None, "key": jax.random.key(0)}
    thread = threading.Thread(target=lambda: done.extend(plots.save_figures(FakeFitted(), tmp_path, **arguments)))
    thread.start()
    thread.join()
    assert len(done) == 5
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_that_fails_keeps_no_other_from_being_written(tmp_path):
    """A figure that fails after hours of training must cost nothing but itself."""
    fitted, told = FakeFitted(), []
    fitted.reconstruct = lambda rows: 1 / 0
    arguments = {"rows": rows_of(20), "labels": None, "key": jax.random.key(0)}
    paths = plots.save_figures(fitted, tmp_path, on_failure=told.append, **arguments)
    rest = ["history", "latent_space", "manifold", "samples"]
    assert [path.stem for path in paths] == rest
    assert told == [f"the figure {tmp_path / 'reconstructions.png'} was not drawn: ZeroDivisionError: division by zero"]
    for path in paths:
        path.unlink()
    with pytest.raises(ZeroDivisionError):  # nobody listens: the error is the caller's, after the others are written
        plots.save_figures(fitted, tmp_path, **arguments)
    assert sorted(path.stem for path in tmp_path.iterdir()) == rest


def test_save_figures_says_where_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"file.*history\.png"):
        plots.save_figures(FakeFitted(), tmp_path / "file", rows=rows_of(9), labels=None, key=jax.random.key(0))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "history.png").write_text("old")

    def full(self, path, **_):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="No space left"):
        plots.save_figures(FakeFitted(), tmp_path, rows=rows_of(9), labels=None, key=jax.random.key(0))
    assert [path.name for path in tmp_path.iterdir()] == ["history.png"]
    assert (tmp_path / "history.png").read_text() == "old"


def test_without_axes_a_pyplot_figure_is_opened():
    import matplotlib.pyplot as plt

    assert isinstance(plots.plot_latent_space(FakeFitted(), rows_of(5)), Axes)
    assert isinstance(plots.plot_manifold(FakeFitted(), n=3), Axes)
    assert plots.plot_history(FakeFitted()).shape == (3,)
    assert len(plt.get_fignums()) == 3
    plt.close("all")


def test_every_pair_of_palette_colours_differs():
    assert len(set(plots.PALETTE)) == 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, ax: plots.plot_latent_space(f, rows_of(5), dims=(0, 2), ax=ax), r"among 0 \.\.\. 1 .*came \(0, 2\)"),
        (lambda f, ax: plots.plot_latent_space(f, rows_of(5), dims=(1, 1), ax=ax), r"two different axes"),
        (lambda f, ax: plots.plot_latent_space(f, rows_of(5), dims=(-1, 0), ax=ax), r"came \(-1, 0\)"),
        (lambda f, ax: plots.plot_latent_space(f, rows_of(5), [1, 2], ax=ax), r"each of the 5 rows.*\(2,\)"),
        (lambda f, ax: plots.plot_latent_space(f, rows_of(5), np.ones((5, 2)), ax=ax), r"\(5, 2\)"),
        (lambda f, ax: plots.plot_latent_space(f, rows_of(0), ax=ax), r"one row or more.*\(0, 6\)"),
        (lambda f, ax: plots.plot_latent_space(f, rows_of(5) * np.nan, ax=ax), "finite posterior means"),
        (lambda f, ax: plots.plot_reconstructions(f, rows_of(0), ax=ax), r"one row or more.*\(0, 6\)"),
        (lambda f, ax: plots.plot_reconstructions(f, "mnist", ax=ax), r"an array.*came str"),
        (lambda f, ax: plots.plot_reconstructions(f, rows_of(5), num=0, ax=ax), "num >= 1, came 0"),
        (lambda f, ax: plots.plot_samples(f, jax.random.key(0), num=-1, ax=ax), "num >= 1, came -1"),
        (lambda f, ax: plots.plot_manifold(f, n=1, ax=ax), "n >= 2.*n = 1"),
        (lambda f, ax: plots.plot_manifold(f, dims=(0, 5), ax=ax), r"came \(0, 5\)"),
        (lambda f, ax: plots.plot_history(f, axes=ax), "expected 3 axes to draw on, came 1"),
        (lambda f, ax: plots.plot_history(f, axes=ax.figure), "empty Figure"),
        (lambda f, ax: plots.plot_history(FakeFitted(epochs=0), axes=Figure()), "has not been trained"),
        (lambda f, ax: plots.draw_tiles(ax, np.zeros((4, 2, 2, 2)), 2), r"came \(2, 2, 2\)"),
        (lambda f, ax: plots.manifold_coordinates(3, latent_dim=1), r"among 0 \.\.\. 0"),
        (lambda f, ax: plots.manifold_coordinates(3, low=0.0), "low = 0.0"),
        (lambda f, ax: plots.manifold_coordinates(3, low=0.6, high=0.4), "high = 0.4"),
        (lambda f, ax: plots.manifold_coordinates(3, base=[0.0]), r"shape \(2,\), came \(1,\)"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(axes, call, message):
    with pytest.raises(ValueError, match=message):
        call(FakeFitted(), axes)


def test_the_fake_is_what_the_protocol_asks_for():
    assert isinstance(FakeFitted(), plots.Fitted)
