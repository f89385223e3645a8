"""Training speed of two versions of this code, which take turns epoch by epoch on one machine.

    git worktree add /tmp/before COMMIT
    python benchmarks/before_after.py /tmp/before/src src      # writes benchmarks/before_after.json, about 5 minutes

Each version trains in a process of its own, which waits while the other one computes. Told is the ratio of neighbours,
its median and its quartiles; the first epochs, in which programs are compiled, are left out. So is what validation and
evaluation take.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".json")
PRESETS = {
    "sgvb-b": {"hidden": (500,), "latent_dim": 20, "estimator": "sgvb-b"},
    "dreg": {"hidden": (200,), "latent_dim": 20, "estimator": "dreg", "num_samples": 5},
    "vamp": {"hidden": (200,), "latent_dim": 20, "prior": "vamp", "prior_components": 50},
    "coupling": {"hidden": (200,), "latent_dim": 20, "posterior": "coupling"},
}
CHILD = """
import sys, json, aevb, numpy as np
options, epochs = json.loads(sys.argv[1]), int(sys.argv[2])
options["hidden"] = tuple(options["hidden"])
def on_epoch(record):
    print(json.dumps([aevb.__file__, record["examples_per_second"]]), flush=True)
    sys.stdin.readline()
rows = aevb.data.load("mnist").take(np.arange(20_000))
sys.stdin.readline()
aevb.fit(rows, epochs=epochs, evaluation_samples=0, validation=0.0, quiet=True, on_epoch=on_epoch, **options)
"""


def rounds(sources: list[str], options: dict, num_epochs: int) -> np.ndarray:
    """Examples per second, (rounds, versions): the versions take turns, and who begins a round changes."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(options), str(num_epochs)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": source},
        )
        for source in sources
    ]  # fmt: skip
    found = np.zeros((num_epochs, len(children)))
    for epoch in range(num_epochs):
        for i in (0, 1) if epoch % 2 else (1, 0):
            child = children[i]
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            file, speed = json.loads(child.stdout.readline())
            assert Path(file).is_relative_to(Path(sources[i]).resolve()), f"{file} is not in {sources[i]}"
            found[epoch, i] = speed
    for child in children:
        child.communicate("\n")
    return found[2:]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--epochs", type=int, default=22)
    args = parser.parse_args()
    sources = [str(Path(source).resolve()) for source in (args.before, args.after)]
    commits = [
        subprocess.check_output(["git", "-C", s, "rev-parse", "--short", "HEAD"], text=True).strip() for s in sources
    ]
    told = {}
    for name, options in PRESETS.items():
        speeds = rounds(sources, options, args.epochs)
        low, median, high = np.quantile(speeds[:, 1] / speeds[:, 0], [0.25, 0.5, 0.75])
        told[name] = {
            "examples_per_second_before": round(float(np.median(speeds[:, 0]))),
            "examples_per_second_after": round(float(np.median(speeds[:, 1]))),
            "after_over_before": [round(float(value), 3) for value in (low, median, high)],
            "rounds": len(speeds),
        }
        print(name, told[name], flush=True)
    here = {"cpus": os.cpu_count(), "machine": platform.machine(), "jax": importlib.metadata.version("jax")}
    FILE.write_text(json.dumps({"commits": commits, **here, "presets": told}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
