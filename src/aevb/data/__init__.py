"""Training data: where the rows come from, what a likelihood sees of them, and in which order.

A `Dataset` holds rows as stored (uint8 stays uint8); a `Preprocessing` turns one stored row into the x of the model,
inside the compiled step. This package imports nothing else of `aevb` but its errors.
"""

from .arrays import is_binary as is_binary
from .batching import epoch_order as epoch_order
from .batching import split as split
from .dataset import Dataset as Dataset
from .dataset import columns_of_one_value as columns_of_one_value
from .dataset import more_than_by_chance as more_than_by_chance
from .dataset import one_value_words as one_value_words
from .dataset import rows_found_in as rows_found_in
from .dataset import share_repeated as share_repeated
from .info import DataInfo as DataInfo
from .preprocessing import Binarization as Binarization
from .preprocessing import Preprocessing as Preprocessing
from .preprocessing import Scaling as Scaling
from .preprocessing import fix as fix
from .sources import NAMES as NAMES
from .sources import load as load
from .sources import load_test as load_test
from .support import ROUNDED as ROUNDED
from .support import Guess as Guess
from .support import TakesValues as TakesValues
from .support import Values as Values
from .support import check_compatible as check_compatible
from .support import choose_preprocessing as choose_preprocessing
from .support import guess_likelihood as guess_likelihood
from .support import levels_taken as levels_taken
