"""One function per verb: load, call the front door, print. Each takes the parsed arguments and returns an exit code."""

import argparse
import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from aevb._fit import fit as fit_model
from aevb._progress import describe, make_progress, make_stages
from aevb._spec import Auto
from aevb._splits import Splits
from aevb._trainer import Record
from aevb.config import Config
from aevb.data import Dataset, choose_preprocessing, guess_likelihood, levels_taken
from aevb.errors import ConfigError, DataError, DivergenceError, GuessWarning, HeldOutWarning, OutputError
from aevb.fitted import FittedModel
from aevb.models import LikelihoodSpec
from aevb.reports import ReportSettings, make_report, save_report
from aevb.reports import compare as compare_models
from aevb.rundir import RunDirectory

from . import _output, _tables
from ._background import in_background
from ._fit_options import config_values
from ._inputs import Rows, check_data, load_run, rows_for_all, rows_to_judge
from ._inputs import latents as latents_of
from ._words import as_flags


def fit(args: argparse.Namespace) -> int:
    """`aevb fit`."""
    config = _config(args)
    if args.print_config:
        print(config.to_toml(), end="")
        return 0
    data = config.data.source
    if not data:
        raise ConfigError("aevb fit needs data: a name, as in `aevb fit mnist`, or a path to .npy .npz .csv or IDX")
    check_data("fit", data)
    run: RunDirectory | None = None
    splits: Splits | None = None
    doing = "evaluating"
    progress = make_progress(quiet=args.quiet)

    def on_start(resolved: Config, parts: Splits) -> None:
        nonlocal run, splits
        # Only now is it sure that data and configuration fit; nothing was compiled yet.
        run = (
            RunDirectory.create(Path(args.out))
            if args.out
            else RunDirectory.create_numbered(Path("runs"), _run_name(data))
        )
        run.write_config(resolved)
        splits = parts
        progress.start(describe(resolved, splits, run.path), resolved.training.epochs)
        if guessed := _guessed(config, resolved, splits.train):
            progress.say(f"note: {as_flags(guessed)}")

    def on_epoch(record: Record) -> None:
        assert run is not None
        run.append_metrics(record)
        progress.epoch(record)

    if args.out and Path(args.out).exists():
        RunDirectory.create(Path(args.out))  # a taken directory is told before data are read

    def on_trained(fitted: FittedModel) -> None:
        assert run is not None
        fitted.save(run.model)  # before the evaluation, which may take long and be cut short
        progress.say(doing)

    try:
        with progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", GuessWarning)  # said above
            warnings.simplefilter("ignore", HeldOutWarning)  # said beside the numbers
            fitted = fit_model(data, config, on_start=on_start, on_epoch=on_epoch, on_trained=on_trained)
        assert run is not None
        assert splits is not None
        fitted.save(run.model)
        interrupted = fitted.result["stopped"] == "interrupted"
        if not args.quiet:
            _tables.print_result(fitted)  # before the figures, which may fail
        if not interrupted:
            doing = "drawing figures"
            progress.say(doing)
            _draw(fitted, splits.held_out[1], run.figures)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_left_behind(run, doing)) from None
    except DivergenceError as error:
        assert run is not None
        error.fitted.save(run.model)
        raise DivergenceError(f"{error}. The last good model is in {run.model}") from None
    if not args.quiet:
        _tables.print_files(run.files())
    if interrupted:
        progress.say(
            f"stopped by Ctrl-C after epoch {len(fitted.history)} of {config.training.epochs}; the model is usable. "
            f"Draw its figures with: aevb plot {run.path}"
        )
        return 130
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """`aevb evaluate`."""
    if args.quick and args.output:
        raise ConfigError("--quick leaves no page, so that --output has nothing to write; leave one of them out")
    settings = ReportSettings(
        method=args.method,
        num_samples=args.num_samples,
        num_rows=args.rows,
        num_distributions=args.distributions,
        num_leapfrog=args.leapfrog,
        schedule=args.schedule,
        start=args.start,
        num_simulated=args.simulated,
        diagnostics=not args.quick,
    )
    fitted = load_run(args.run, args.data, args.words)
    part, dataset, train = _rows("evaluate", args, fitted)
    run = _directory(args.run)
    if args.output and not args.quick:
        RunDirectory.create(_output.check_directory(args.output))  # a taken one is told before the work is done
    rows_done = 0
    try:
        with make_stages(quiet=args.json) as show:

            def on_progress(stage: str, done: int, total: int) -> None:
                nonlocal rows_done
                if stage == "log p(x)":
                    rows_done = done
                show(stage, done, total)

            report = in_background(
                make_report,
                fitted,
                dataset,
                settings=settings,
                train_rows=train,
                part=part,
                unfinished=run if os.access(run, os.W_OK) else None,
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_rows_kept(rows_done, run)) from None
    if args.json:
        print(json.dumps(report.content, indent=2), flush=True)
    else:
        _tables.print_report(report)  # before the files, which a full disk may refuse
    if args.quick:
        report.unfinished.discard()
    else:
        where = Path(args.output) if args.output else RunDirectory.create_numbered(run, "evaluation").path
        files = save_report(report, where, str(args.run), on_failure=_say)
        if not args.json:
            _tables.print_files(files)
    return 0


def compare(args: argparse.Namespace) -> int:
    """`aevb compare`."""
    models = [(run, load_run(run)) for run in args.runs]
    if args.data is not None:
        check_data("compare", args.data)
    part, dataset, _ = rows_for_all(models, args.data, _say)
    lines, fingerprint = compare_models(models, dataset, num_samples=args.num_samples)
    if args.json:
        runs = [line.to_dict() for line in lines]
        print(json.dumps({"part": part, "fingerprint": fingerprint, "num_rows": len(dataset), "runs": runs}, indent=2))
    else:
        _tables.print_comparison(lines, part)
    return 0


def encode(args: argparse.Namespace) -> int:
    """`aevb encode`."""
    fitted = load_run(args.run, args.data, args.words)
    check_data("encode", args.data)
    path = _output.check(args.output)
    latents = fitted.encode(args.data)
    names = [f"z_{j + 1}" for j in range(fitted.latent_dim)]
    arrays = {"mean": latents.mean} if path.suffix.lower() == ".npy" else {"mean": latents.mean, "scale": latents.scale}
    _output.write(path, arrays, [*names, *(f"{name}_scale" for name in names)])
    return 0


def decode(args: argparse.Namespace) -> int:
    """`aevb decode`."""
    fitted = load_run(args.run, args.latents, args.words)
    check_data("decode", args.latents)
    path = _output.check(args.output)
    latents = latents_of(args.latents)
    if latents.shape[1] != fitted.latent_dim:
        raise DataError(
            f"{args.latents} has {latents.shape[1]} columns, but the model's latent space has {fitted.latent_dim} "
            "dimensions; give one latent vector per row"
        )
    _output.write(path, {"x": fitted.decode(latents.astype(np.float32))}, _column_names(fitted))
    return 0


def reconstruct(args: argparse.Namespace) -> int:
    """`aevb reconstruct`."""
    fitted = load_run(args.run, args.data, args.words)
    check_data("reconstruct", args.data)
    path = _output.check(args.output)
    _output.write(path, {"x": fitted.reconstruct(args.data)}, _column_names(fitted))
    return 0


def sample(args: argparse.Namespace) -> int:
    """`aevb sample`."""
    fitted = load_run(args.run)
    path = _output.check(args.output)
    _output.write(path, {"x": fitted.sample(args.num, jax.random.key(args.seed))}, _column_names(fitted))
    return 0


def plot(args: argparse.Namespace) -> int:
    """`aevb plot`."""
    fitted = load_run(args.run, args.data, args.words)
    directory = _output.check_directory(args.output) if args.output else _directory(args.run) / "figures"
    failures: list[str] = []
    for path in _draw(fitted, _rows("plot", args, fitted).data, directory, failures.append):
        print(path)
    if failures:
        raise OutputError("; ".join(failures))  # here the figures are all that was asked for
    return 0


def compare_estimators(args: argparse.Namespace) -> int:
    """`aevb compare-estimators`."""
    fitted = load_run(args.run, args.data, args.words)
    if args.draws < 2:
        raise ConfigError("--draws must be at least 2, or there is no variance")
    path = Path(args.output) if args.output else _directory(args.run) / "figures" / "estimators.png"
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path}: the figure is written as .png; end the name in it")
    if args.output:
        _output.check_free(path)
    part, dataset, _ = _rows("compare-estimators", args, fitted)
    lines = []
    with _tables.gradient_lines(quiet=args.json) as show:
        for line in fitted.compare_estimators(
            dataset, num_rows=args.rows, num_samples=tuple(args.num_samples), num_draws=args.draws
        ):
            lines.append(line)
            show(line)
    if args.json:
        print(json.dumps({"part": part, "estimators": [line.to_dict() for line in lines]}, indent=2))
    from aevb.plots import plot_gradient_variance, save_each

    drawing = {path.stem: lambda figure: plot_gradient_variance(lines, ax=figure)}
    for written in save_each(drawing, path.parent, _say):
        if not args.json:
            print(written)
    return 0


def info(args: argparse.Namespace) -> int:
    """`aevb info`."""
    _tables.print_info(load_run(args.run))
    return 0


def _config(args: argparse.Namespace) -> Config:
    """The configuration: the file's values, and over them the flags'."""
    config = Config.from_toml(args.config) if args.config else Config()
    return config.replace(**config_values(args))


def _guessed(config: Config, resolved: Config, data: Dataset) -> str:
    """What was made of the data and is not evident."""
    assert config.model is not None and resolved.model is not None
    if isinstance(config.model.likelihood, Auto):
        return guess_likelihood(data).words
    likelihood, seen = resolved.model.likelihood, resolved.data
    assert isinstance(likelihood, LikelihoodSpec)
    return levels_taken(data, choose_preprocessing(data, likelihood, seen.binarization, seen.scaling))


def _run_name(data: str) -> str:
    name = Path(data).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "run"


def _left_behind(run: RunDirectory | None, doing: str) -> str:
    if run is None or run.discard_unused():
        return "stopped by Ctrl-C before the first epoch had ended; nothing was left behind"
    if run.model.exists():
        again = f"; finish with: aevb plot {run.path}" if doing == "drawing figures" else ""
        return f"stopped by Ctrl-C while {doing}; the trained model is in {run.model}{again}"
    return f"stopped by a second Ctrl-C; no model was saved, and {run.path} can be removed"


def _rows_kept(rows_done: int, run: Path) -> str:
    """What an interrupted evaluation leaves behind."""
    if not rows_done:
        return "stopped by Ctrl-C before this command had done a row of log p(x)"
    rows = f"log p(x) of {rows_done:,} row{'' if rows_done == 1 else 's'}"
    if not any(run.glob(".unfinished-*")):
        return f"stopped by Ctrl-C; {rows} was done and is lost, for {run} could not be written to"
    return f"stopped by Ctrl-C; {rows} is kept, and the same command goes on from there"


def _directory(run: str) -> Path:
    path = Path(run)
    return path if path.is_dir() else path.parent


def _rows(command: str, args: argparse.Namespace, fitted: FittedModel) -> Rows:
    if args.data is not None:
        check_data(command, args.data)
    return rows_to_judge(fitted, args.data, how=f"name the data to use: aevb {command} {args.run} DATA", note=_say)


def _say(text: str) -> None:
    """One line beside the results, which may be JSON."""
    print(f"aevb: note: {text}", file=sys.stderr, flush=True)


def _column_names(fitted: FittedModel) -> list[str]:
    return list(fitted.columns or [f"x_{d + 1}" for d in range(fitted.preset.data_dim)])


def _draw(
    fitted: FittedModel, dataset: Dataset, directory: Path, on_failure: Callable[[str], object] = _say
) -> list[Path]:
    from aevb.plots import save_figures

    key = jax.random.key(fitted.config.training.seed)
    return save_figures(fitted, directory, rows=dataset.rows, labels=dataset.labels, key=key, on_failure=on_failure)
