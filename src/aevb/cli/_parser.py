"""Arguments. Those of `aevb fit` are made from the names of a configuration: there is one list of them."""

import argparse
import itertools
import re
import sys
from typing import Any, NoReturn

from aevb._version import __version__
from aevb.errors import ConfigError

from ._fit_options import add_fit_options
from ._words import did_you_mean


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage text that hides them, and with what was probably meant."""

    def error(self, message: str) -> NoReturn:
        self.exit(ConfigError.exit_code, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse here what argparse would leave to the parser of all commands, which does not know this one's flags."""
        words = list(sys.argv[1:] if args is None else args)
        of_all = self._subparsers is not None
        own = itertools.takewhile(lambda word: word.startswith("-") if of_all else word != "--", words)
        for name in (word.partition("=")[0] for word in own):
            if re.fullmatch(r"--.+|-[A-Za-z]", name) and name not in self._option_string_actions:
                self.error(f"there is no option {name}{did_you_mean(name, self._option_string_actions)}")
        namespace, rest = super().parse_known_args(words, namespace)
        if of_all:
            return namespace, rest
        # Before Python 3.12, an optional DATA that comes after a flag is left over.
        if rest and getattr(namespace, "data", "") is None and not rest[0].startswith("-"):
            namespace.data = rest.pop(0)
        if rest:
            self.error(f"{' '.join(rest)!r} is one argument too many")
        return namespace, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = list(action.choices)
            hint = did_you_mean(str(value), known)
            message = f"unknown {value!r}{hint}{' All' if hint else '; all'} there are: {', '.join(known)}"
            raise argparse.ArgumentError(action, message)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line. Imports nothing heavy."""
    parser = _Parser(
        prog="aevb",
        description="Deep latent-variable models by Auto-Encoding Variational Bayes.",
        epilog="Begin with: aevb fit mnist",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"aevb {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, help: str, *, add_help: bool = True) -> argparse.ArgumentParser:
        description = help[0].upper() + help[1:] + "."
        return commands.add_parser(name, help=help, description=description, allow_abbrev=False, add_help=add_help)

    fit = command("fit", "fit a model to data, evaluate it and picture it", add_help=False)
    add_fit_options(fit)

    evaluate = command("evaluate", "how good a run's model is: numbers with error bars, diagnostics, words, a page")
    _add_run(evaluate)
    evaluate.add_argument("data", nargs="?", metavar="DATA", help="default: the run's own test or validation data")
    evaluate.add_argument(
        "--method",
        choices=("auto", "elbo", "quadrature", "is", "ais", "hmc"),
        default="auto",
        metavar="NAME",
        help="of log p(x); one of elbo (the bound alone), quadrature (for one or two latent dimensions), is "
        "(importance sampling), ais (annealed importance sampling), hmc (the paper's Appendix D, below five latent "
        "dimensions), auto (quadrature; is for more dimensions, or if --num-samples is given) (auto)",
    )
    evaluate.add_argument(
        "--num-samples",
        type=_count,
        metavar="K",
        help="importance samples, AIS chains or posterior samples a row (1000, 16, 800); quadrature has none; 0: ELBO "
        "only",
    )
    evaluate.add_argument(
        "--rows", type=_positive, metavar="N", help="rows for log p(x), chosen at random (all; 100 for ais and hmc)"
    )
    evaluate.add_argument("--distributions", type=_positive, default=1000, metavar="T", help="of ais (1000)")
    evaluate.add_argument("--leapfrog", type=_positive, default=10, metavar="N", help="steps of ais and hmc (10)")
    evaluate.add_argument("--schedule", choices=("linear", "sigmoid"), default="sigmoid", help="of ais (sigmoid)")
    evaluate.add_argument(
        "--start",
        choices=("prior", "encoder"),
        default="prior",
        help="of ais: from p(z), or a mixture with q(z|x) (prior)",
    )
    evaluate.add_argument(
        "--simulated", type=_count, default=20, metavar="N", help="rows for ais' bidirectional gap; 0: none (20)"
    )
    evaluate.add_argument("--quick", action="store_true", help="ELBO and log p(x) only: no diagnostics, no page")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of tables and words")
    evaluate.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="directory for the page (default: the run's next free evaluation-1, -2, ...)",
    )

    compare = command("compare", "two runs or more on the same data: paired differences with standard errors")
    compare.add_argument(
        "runs", nargs="+", metavar="RUN", help="run directories or model files; the first is the reference"
    )
    compare.add_argument("--data", metavar="DATA", help="default: what the first run held out")
    compare.add_argument(
        "--num-samples",
        type=_count,
        default=1000,
        metavar="K",
        help="importance samples a row, where log p(x) is not by quadrature; 0: ELBO only (1000)",
    )
    compare.add_argument("--json", action="store_true", help="print JSON instead of a table")

    encode = command("encode", "write posterior means (.npy) or means and scales (.npz, .csv) of data")
    _add_run(encode)
    encode.add_argument("data", metavar="DATA", help="data name or path")
    _add_output(encode)

    decode = command("decode", "write E[x | z] for latent vectors")
    _add_run(decode)
    decode.add_argument("latents", metavar="Z", help="latent vectors, one per row (.npy .npz .csv)")
    _add_output(decode)

    reconstruct = command("reconstruct", "write the reconstruction of each row of data")
    _add_run(reconstruct)
    reconstruct.add_argument("data", metavar="DATA", help="data name or path")
    _add_output(reconstruct)

    sample = command("sample", "write ancestral samples x ~ p(x | z), z ~ p(z)")
    _add_run(sample)
    sample.add_argument("--num", type=_positive, default=100, metavar="N", help="number of samples (100)")
    sample.add_argument("--seed", type=_count, default=0, help="of the samples (0)")
    _add_output(sample)

    plot = command("plot", "draw the figures of a run")
    _add_run(plot)
    plot.add_argument("data", nargs="?", metavar="DATA", help="default: the run's own test or validation data")
    plot.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="directory for the figures (default: figures/ in the run); figures that are there already are replaced",
    )

    gradients = command("compare-estimators", "noise of each estimator's gradient at a run's parameters")
    _add_run(gradients)
    gradients.add_argument("data", nargs="?", metavar="DATA", help="default: the run's own test or validation data")
    gradients.add_argument("--rows", type=_positive, default=100, metavar="M", help="rows of the minibatch (100)")
    gradients.add_argument(
        "--num-samples", type=_positive, nargs="+", default=[1, 2, 5, 10], metavar="L", help="latent samples (1 2 5 10)"
    )
    gradients.add_argument("--draws", type=_positive, default=100, metavar="N", help="gradients for each line (100)")
    gradients.add_argument("--json", action="store_true", help="print JSON instead of a table")
    gradients.add_argument(
        "-o", "--output", metavar="FILE", help="the figure, .png (default: figures/estimators.png in the run)"
    )

    info = command("info", "layers, configuration, data and result of a run")
    _add_run(info)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run directory or model file")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="file to write: .npy, .npz or .csv")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    if int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text} is too large; it must be below 2^63")
    return int(text)


def _positive(text: str) -> int:
    if _count(text) == 0:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)
