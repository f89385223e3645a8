"""Write and read a fitted model: one safetensors file, JSON of closed enums, no pickle, nothing imported by name."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import equinox as eqx
import jax
import numpy as np

from aevb._container import read_container, write_container
from aevb._feed import (
    AbstractTransform,
    AsStored,
    DatasetFeed,
    Feed,
    RowsFeed,
    form_from_plain,
    form_to_plain,
)
from aevb._measures import log_jacobian
from aevb._old_formats import renamed, upgraded, vae_of
from aevb._plain import checked
from aevb._spec import Spec, to_plain
from aevb.config import Config
from aevb.data import DataInfo, Preprocessing
from aevb.errors import AevbError, ModelFileError
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, BernoulliLikelihood, Modules, Vae, tie, untie

FORMAT = 4  # what the older ones had is in `_old_formats`
MODEL_FILE = "model.safetensors"

_COMMON = {"format", "aevb_version", "config", "data", "history", "result"}
_PRESET, _OWN, _OLD = (
    _COMMON | {"model", "preprocessing"},
    _COMMON | {"own"},
    _COMMON | {"architecture", "preprocessing"},
)

Models = tuple[AbstractGenerativeModel, AbstractRecognitionModel | None]


def write(
    path: str | Path,
    *,
    spec: Vae | None,
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel | None,
    feed: Feed,
    latent_shape: tuple[int, ...],
    config: Config,
    history: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    aevb_version: str,
) -> None:
    """Write a model to one file: to a temporary name first, fsynced, then renamed over `path`.

    Args:
        path: of the file.
        spec: what to build when the file is read; None: of a model of one's own, that the reader must have.
        generative, recognition: the models whose arrays are written.
        feed, latent_shape, config, history, result: of the fit; written into the header as JSON.
        aevb_version: version of aevb that fitted the model.

    Raises:
        ConfigError: a part of the model is of a kind that is not registered.
        OutputError: the file cannot be written; what was at `path` before is untouched.
    """
    header = {
        "format": FORMAT,
        "aevb_version": aevb_version,
        "config": config.to_dict(),
        "data": dataclasses.asdict(feed.data),
        "history": list(history),
        "result": dict(result),
    }
    if isinstance(feed, DatasetFeed) and spec is not None:
        header |= {"model": spec.to_dict(), "preprocessing": feed.preprocessing.to_dict()}
    elif isinstance(feed, RowsFeed):
        header["own"] = {
            "generative": type(generative).__name__,
            "recognition": None if recognition is None else type(recognition).__name__,
            "latent_shape": list(latent_shape),
            "rows": form_to_plain(feed.form),
            "transform": feed.transform.to_dict(),
        }
    write_container(Path(path), header, named_arrays((untie(generative), recognition)))


def read(
    path: str | Path,
    *,
    like: Models | None = None,
    transform: AbstractTransform | None = None,
    network: tuple[Any, Any] | None = None,
) -> dict[str, Any]:
    """Read what `write` was given, from a model file or from the run directory that holds one.

    Args:
        path: of the file or directory.
        like: for a model of one's own, a pair whose places the file's arrays take.
        transform: of its rows.
        network: for a preset with modules of one's own, these.

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
        return _own(header, arrays, like, transform) if "own" in header else _preset(header, arrays, like, network)
    except (ValueError, TypeError, KeyError, AevbError) as e:
        if like is not None or network is not None or "own" in header:
            raise ModelFileError(f"{path}: {e}") from e
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


def _preset(
    header: Mapping[str, Any], arrays: dict[str, np.ndarray], like: Models | None, network: tuple[Any, Any] | None
) -> dict[str, Any]:
    if like is not None:
        raise ValueError("the file holds a preset, which is built from what the file says; leave out like=...")
    old, flat = header["format"] < 3, header["format"] < 4
    _check_sections(header, _OLD if old else _PRESET)
    if old:
        spec, arrays = vae_of(header["architecture"], arrays), renamed(arrays)
    else:
        spec = Vae.from_dict(header["model"], None if network is None else Modules(*network))
    data = _dataclass(DataInfo, header["data"])
    if spec.data_dim != int(np.prod(data.event_shape)):
        raise ValueError(f"the model has {spec.data_dim} columns, its data shape {data.event_shape}")
    config = Config.from_dict(header["config"], drop_idle=flat)
    preprocessing = Preprocessing.from_dict(header["preprocessing"])
    if flat and isinstance(spec.likelihood, BernoulliLikelihood) and config.model is not None:
        config = config.replace(likelihood=dataclasses.replace(BernoulliLikelihood(), grey=preprocessing.grey))
    _check_agreement(spec, config)
    # Shapes only: nothing is allocated before the file's own arrays were compared with what the header asks for.
    skeleton = eqx.filter_eval_shape(spec.build, key=jax.random.key(0))
    generative, recognition = fill(skeleton, arrays)
    history, result = _told(header)
    if header["format"] == 1:
        units = log_jacobian(spec, preprocessing)
        history, result = [upgraded(record, units) for record in history], upgraded(result, units)
    return {
        "config": config,
        "spec": spec,
        "generative": tie(generative, recognition),
        "recognition": recognition,
        "feed": DatasetFeed(preprocessing, data, spec),
        "latent_shape": (spec.latent_dim,),
        "history": tuple(history),
        "result": result,
        "aevb_version": str(header["aevb_version"]),
    }


def _own(
    header: Mapping[str, Any], arrays: dict[str, np.ndarray], like: Models | None, transform: AbstractTransform | None
) -> dict[str, Any]:
    _check_sections(header, _OWN)
    own = header["own"]
    if not isinstance(own, dict) or set(own) != {"generative", "recognition", "latent_shape", "rows", "transform"}:
        raise ValueError("what it says of the model is not of the form that aevb writes")
    if like is None:
        raise ValueError(
            f"it holds a model of one's own, {own['generative']} and {own['recognition']}, and no file can say what a "
            "class does; give a pair of them, with any values, as like=(generative, recognition)"
        )
    names = type(like[0]).__name__, None if like[1] is None else type(like[1]).__name__
    if names != (own["generative"], own["recognition"]):
        raise ValueError(
            f"it holds {own['generative']} and {own['recognition']}, and like=... is of {names[0]}, {names[1]}"
        )
    transform = AsStored() if transform is None else transform
    if own["transform"] != json.loads(json.dumps(transform.to_dict())):
        raise ValueError(
            f"the rows were transformed by {own['transform']}, and transform=... is {transform.to_dict()}; give the "
            "one that the model was fitted with"
        )
    untied = untie(like[0]), like[1]
    skeleton = jax.tree.map(lambda leaf: eqx.filter_eval_shape(lambda: leaf) if eqx.is_array(leaf) else leaf, untied)
    generative, recognition = fill(skeleton, arrays)
    history, result = _told(header)
    return {
        "config": dataclasses.replace(Config.from_dict(header["config"], drop_idle=header["format"] < 4), model=None),
        "spec": None,
        "generative": generative if recognition is None else tie(generative, recognition),
        "recognition": recognition,
        "feed": RowsFeed(transform, _dataclass(DataInfo, header["data"]), form_from_plain(own["rows"])),
        "latent_shape": tuple(checked("latent_shape", own["latent_shape"], tuple[int, ...])),
        "history": tuple(history),
        "result": result,
        "aevb_version": str(header["aevb_version"]),
    }


def _check_sections(header: Mapping[str, Any], expected: set[str]) -> None:
    if set(header) != expected:
        raise ValueError(f"the header's sections are {sorted(header)}, expected {sorted(expected)}")


def _told(header: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    history, result = header["history"], header["result"]
    if not isinstance(history, list) or not all(isinstance(h, dict) for h in history) or not isinstance(result, dict):
        raise ValueError("history must be a list of objects and result an object")
    return history, result


def _check_agreement(spec: Vae, config: Config) -> None:
    """The header says in two places what the model is; arrays of one family would fit another's names and shapes."""
    for name in ("latent_dim", "network", "likelihood", "posterior", "prior"):
        told, asked = (to_plain(v) if isinstance(v := getattr(of, name), Spec) else v for of in (spec, config.model))
        if told != asked:
            raise ValueError(f"the model has {name} {told!r}, but the configuration has {asked!r}")


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a pytree of modules, by the path of each: `generative.network.layers[0].weight` and so on."""
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
        raise ValueError(f"arrays do not fit the model: missing {some[0]}; unexpected {some[1]}")
    for name, leaf in expected.items():
        real = jax.numpy.issubdtype(leaf.dtype, np.floating)
        good = arrays[name].dtype in (np.float32, np.float64) if real else arrays[name].dtype == leaf.dtype
        if arrays[name].shape != leaf.shape or not good:
            kind = "float" if real else leaf.dtype
            raise ValueError(
                f"array {name} is {arrays[name].dtype}{list(arrays[name].shape)}, expected {kind}{list(leaf.shape)}"
            )
        if real and not np.isfinite(arrays[name]).all():
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
