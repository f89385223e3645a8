"""Whether a change of the code leaves the trained parameters as they were, to the last bit.

    python benchmarks/same_parameters.py            # holds them against benchmarks/same_parameters.json
    python benchmarks/same_parameters.py --write    # writes that file: only where a change of the numbers is meant

Four presets are trained for two epochs on 2,000 rows of MNIST; what is kept is the SHA-256 of each one's parameters,
whatever their names. It depends on the processor and on JAX's version too, which stand in the file: on another machine
write it with the code of before, and then run the new code.
"""

import argparse
import hashlib
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

import numpy as np

import aevb
from aevb.data import load
from aevb.modelfile import named_arrays

FILE = Path(__file__).with_suffix(".json")
PRESETS = {
    "sgvb-b": {"estimator": "sgvb-b"},
    "dreg": {"estimator": "dreg", "num_samples": 5},
    "vamp": {"prior": "vamp", "prior_components": 10},
    "coupling": {"posterior": "coupling", "latent_dim": 4},
}


def digest(options: dict) -> str:
    """SHA-256 over the bytes of the parameters that a fit ends with, array by array in the order of their digests."""
    rows = load("mnist").take(np.arange(2000))
    fitted = aevb.fit(rows, epochs=2, hidden=(64,), evaluation_samples=0, validation=0.0, quiet=True, **options)
    arrays = named_arrays((aevb.models.untie(fitted.generative), fitted.recognition)).values()
    digests = sorted(hashlib.sha256(array.tobytes()).hexdigest() for array in arrays)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _processor() -> str:
    """Name, family and model, where Linux tells them."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return ", ".join(f"{name} {told[name]}" for name in ("model name", "cpu family", "model") if name in told)


def main() -> None:
    """Train, and compare or write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the file")
    here = {"machine": platform.machine(), "processor": _processor(), "jax": importlib.metadata.version("jax")}
    write = parser.parse_args().write
    found = {name: digest(options) for name, options in PRESETS.items()}
    if write:
        FILE.write_text(json.dumps({**here, "sha256": found}, indent=2) + "\n", encoding="utf-8")
        return
    told = json.loads(FILE.read_text(encoding="utf-8"))
    different = [name for name in found if found[name] != told["sha256"][name]]
    where = "the same kind of machine" if all(told[k] == v for k, v in here.items()) else f"another machine: {told}"
    print(f"file written on {where}; parameters that differ: {', '.join(different) or 'none'}")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
