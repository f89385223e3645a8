"""What is good about a fitted model and what is not: numbers with error bars, diagnostics, plain words, a page."""

from ._compare import Compared as Compared
from ._compare import compare as compare
from ._log_p import Progress as Progress
from ._make import Report as Report
from ._make import make_report as make_report
from ._page import numbers as numbers
from ._page import save_report as save_report
from ._sections import Answer as Answer
from ._sections import Section as Section
from ._settings import WORDS as WORDS
from ._settings import ReportSettings as ReportSettings
from ._text import cells as cells
from ._text import nats as nats
