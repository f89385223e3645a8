"""Figures of a fitted model: the course of training, the latent space, the learned manifold, reconstructions, samples.

Every function draws on `ax` (or `axes`) and returns what it drew on: an `Axes`, a sequence of them for several panels,
or an empty `Figure`, which is resized and divided to suit; None opens a new pyplot figure. No setting of matplotlib is
changed and no backend chosen; `save_figures` does not use pyplot, so it works in a thread and without a display.

Images are examples of shape (height, width), or (height, width, channels) with 1, 3 or 4 channels. Grey ones whose
typical pixel is dark, as MNIST's, are shown inverted (black ink on white), photographs and colours as they are; all
that stand beside rows of data follow these rows. What is white, the model says (`Fitted.white`); images that are no
pixels are drawn over their range, with a colour bar.
Everything else is a table, and gets the figures that say the same about columns.
"""

from ._draw import PALETTE as PALETTE
from ._draw import TRAIN as TRAIN
from ._draw import VALIDATION as VALIDATION
from ._draw import Fitted as Fitted
from ._draw import draw_images as draw_images
from ._draw import draw_tiles as draw_tiles
from ._draw import is_dark as is_dark
from ._draw import is_image as is_image
from ._latent import plot_latent_space as plot_latent_space
from ._manifold import manifold_coordinates as manifold_coordinates
from ._manifold import plot_manifold as plot_manifold
from ._rows import plot_reconstructions as plot_reconstructions
from ._rows import plot_samples as plot_samples
from ._save import save_each as save_each
from ._save import save_figure as save_figure
from ._save import save_figures as save_figures
from ._training import plot_gradient_variance as plot_gradient_variance
from ._training import plot_history as plot_history
