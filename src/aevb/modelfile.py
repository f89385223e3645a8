"""Write and read a fitted model: one safetensors file, JSON of closed enums, no pickle, nothing imported by name."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import equinox as eqx
import jax
import numpy as np

from aevb._container import read_container, write_container
from aevb._measures import log_jacobian
from aevb.config import Config
from aevb.data import DataInfo, Preprocessing
from aevb.errors import AevbError, ModelFileError
from aevb.models import AbstractGenerativeModel, Architecture, build, tie, untie

FORMAT = 2  # 1 called the reconstruction term log_likelihood, and had log densities of the scaled data
MODEL_FILE = "model.safetensors"

_SECTIONS = {"format", "aevb_version", "architecture", "config", "data", "history", "preprocessing", "result"}


def write(
    path: str | Path,
    *,
    architecture: Architecture,
    generative: AbstractGenerativeModel,
    recognition: eqx.Module,
    config: Config,
    preprocessing: Preprocessing,
    data: DataInfo,
    history: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    aevb_version: str,
) -> None:
    """Write a model to one file: to a temporary name first, fsynced, then renamed over `path`.

    Args:
        path: of the file.
        architecture: what to build when the file is read.
        generative, recognition: the models whose arrays are written.
        config, preprocessing, data, history, result: of the fit; written into the header as JSON.
        aevb_version: version of aevb that fitted the model.

    Raises:
        OutputError: the file cannot be written; what was at `path` before is untouched.
    """
    header = {
        "format": FORMAT,
        "aevb_version": aevb_version,
        "architecture": dataclasses.asdict(architecture),
        "config": {k: v for k, v in dataclasses.asdict(config).items() if v is not None},
        "data": dataclasses.asdict(data),
        "preprocessing": preprocessing.to_dict(),
        "history": list(history),
        "result": dict(result),
    }
    write_container(Path(path), header, named_arrays((untie(generative), recognition)))


def read(path: str | Path) -> dict[str, Any]:
    """Read what `write` was given, from a model file or from the run directory that holds one.

    Raises:
        ModelFileError: the file is missing, cut, altered, or of a newer format. Says which and what to do.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / MODEL_FILE).exists():
            raise ModelFileError(_no_run(path))
        path = path / MODEL_FILE
    elif not path.exists():
        raise ModelFileError(f"{path}: there is no such file or run directory; give one that `aevb fit` made")
    try:
        header, arrays = read_container(path)
    except ModelFileError:
        if is_data_file(path):
            raise ModelFileError(f"{path} is a file of data by its name; give a run directory or model file") from None
        raise
    version = header.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelFileError(f"{path}: the header names no format version, so this is not a model file of aevb")
    if version > FORMAT:
        raise ModelFileError(
            f"{path} has format version {version}, and this aevb reads up to {FORMAT}; upgrade aevb "
            f"(the file was written by {header.get('aevb_version')})"
        )
    try:
        return _from_header(header, arrays)
    except (ValueError, TypeError, KeyError, AevbError) as e:
        raise ModelFileError(f"{path}: {e}; the file is not one that aevb wrote, or it was altered") from e


def is_data_file(path: Path) -> bool:
    """Whether a file's name is that of data."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith((".npy", ".npz", ".csv", ".idx", "-ubyte"))


def _no_run(directory: Path) -> str:
    """What a directory is that holds no model."""
    within = sorted(child.name for child in directory.iterdir() if (child / MODEL_FILE).is_file())
    if within:
        return f"{directory} is not a run but holds some: give one of them, such as {directory / within[-1]}"
    if (directory / "config.toml").is_file():
        return (
            f"{directory} holds no {MODEL_FILE}: the fit did not come to its end; "
            f"repeat it with: aevb fit --config {directory / 'config.toml'}"
        )
    return f"{directory} is not a run: it holds no {MODEL_FILE}; give a directory that `aevb fit` made"


def _from_header(header: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if set(header) != _SECTIONS:
        raise ValueError(f"the header's sections are {sorted(header)}, expected {sorted(_SECTIONS)}")
    architecture = _dataclass(Architecture, header["architecture"])
    data = _dataclass(DataInfo, header["data"])
    if architecture.data_dim != int(np.prod(data.event_shape)):
        raise ValueError(f"the model has {architecture.data_dim} columns, its data shape {data.event_shape}")
    config = Config.from_dict(header["config"])
    preprocessing = Preprocessing.from_dict(header["preprocessing"])
    _check_agreement(architecture, config, preprocessing)
    # Shapes only: nothing is allocated before the file's own arrays were compared with what the header asks for.
    skeleton = eqx.filter_eval_shape(build, architecture, key=jax.random.key(0))
    generative, recognition = fill(skeleton, arrays)
    history, result = header["history"], header["result"]
    if not isinstance(history, list) or not all(isinstance(h, dict) for h in history) or not isinstance(result, dict):
        raise ValueError("history must be a list of objects and result an object")
    if header["format"] == 1:
        units = log_jacobian(architecture, preprocessing)
        history, result = [_upgraded(record, units) for record in history], _upgraded(result, units)
    return {
        "config": config,
        "architecture": architecture,
        "generative": tie(generative, recognition),
        "recognition": recognition,
        "preprocessing": preprocessing,
        "data": data,
        "history": tuple(history),
        "result": result,
        "aevb_version": str(header["aevb_version"]),
    }


# Log densities in a history or result of format 1.
_OLD = ("elbo", "log_likelihood", "bound", "objective")


def _upgraded(content: dict[str, Any], units: float) -> dict[str, Any]:
    """History or result of a file of format 1: the reconstruction term was called log_likelihood there, and log
    densities were of the scaled data.
    """
    new: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            value = _upgraded(value, units) if name == "evaluation" else value
            if name.endswith(_OLD) and isinstance(value.get("mean"), float):
                value = {**value, "mean": value["mean"] + units}
        elif name.endswith(_OLD) and isinstance(value, float):
            value = value + units
        plain = name in ("log_likelihood", "train_log_likelihood", "validation_log_likelihood")
        new[name.replace("log_likelihood", "reconstruction") if plain else name] = value
    return new


def _check_agreement(architecture: Architecture, config: Config, preprocessing: Preprocessing) -> None:
    """The header says in two places what the model is; arrays of one family would fit another's names and shapes."""
    for name in ("latent_dim", "hidden", "activation", "likelihood", "sigmoid_mean", "min_scale", "posterior", "prior"):
        one, other = getattr(architecture, name), getattr(config, name)
        if one != other:
            raise ValueError(f"the architecture has {name} {one!r}, but the configuration has {other!r}")
    if architecture.grey != preprocessing.grey:
        raise ValueError(f"the architecture has grey {architecture.grey}, the preprocessing {preprocessing.grey}")


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a pytree of modules, by the path of each: `generative.trunk.layers[0].weight` and so on."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def fill(skeleton: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Put arrays in the places of a skeleton that has shapes; every name, shape and dtype must be the expected one.

    Raises:
        ValueError: arrays are missing, are left over, or have another shape or dtype; names them.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(skeleton)
    expected = {_name(path): leaf for path, leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)}
    missing, extra = sorted(expected.keys() - arrays.keys()), sorted(arrays.keys() - expected.keys())
    if missing or extra:
        some = [
            f"{', '.join(names[:5])}{' and more' if len(names) > 5 else ''}" or "none" for names in (missing, extra)
        ]
        raise ValueError(f"arrays do not fit the architecture: missing {some[0]}; unexpected {some[1]}")
    for name, leaf in expected.items():
        if arrays[name].shape != leaf.shape or arrays[name].dtype not in (np.float32, np.float64):
            raise ValueError(
                f"array {name} is {arrays[name].dtype}{list(arrays[name].shape)}, expected float{list(leaf.shape)}"
            )
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"array {name} holds NaN or infinite values")
    filled = [jax.numpy.asarray(arrays[_name(p)]) if _name(p) in expected else leaf for p, leaf in leaves]
    return jax.tree_util.tree_unflatten(treedef, filled)


def _name(path: tuple[Any, ...]) -> str:
    root = {"[0]": "generative", "[1]": "recognition"}[jax.tree_util.keystr(path[:1])]
    return root + jax.tree_util.keystr(path[1:])


def _dataclass(cls: type[Any], values: Any) -> Any:
    """A frozen dataclass of plain values and tuples of them, from JSON; strict about names and types."""
    if not isinstance(values, dict):
        raise ValueError(f"{cls.__name__} must be an object")
    names = {f.name for f in dataclasses.fields(cls)}
    needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
    if not needed <= set(values) <= names:  # fields that came later have defaults, which is what older files mean
        raise ValueError(f"{cls.__name__} has the fields {sorted(values)}, expected {sorted(names)}")
    hints = get_type_hints(cls)
    for name, value in values.items():
        if hints[name] is float and isinstance(value, bool | str | list | dict):
            raise ValueError(f"{cls.__name__}.{name} must be a number, got {value!r}")
        if hints[name] is bool and not isinstance(value, bool):
            raise ValueError(f"{cls.__name__}.{name} must be true or false, got {value!r}")
        if hints[name] is int and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"{cls.__name__}.{name} must be a whole number, got {value!r}")
        if hints[name] is str and not isinstance(value, str):
            raise ValueError(f"{cls.__name__}.{name} must be a text, got {value!r}")
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
