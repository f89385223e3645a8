"""Planted defects from the command line, at the root of the repository.

python -m tests.mutants                           run all named ones (an hour); further arguments go to pytest
python -m tests.mutants --list                    name them
python -m tests.mutants --generate 100 --seed 0   plant 100 at random places and list what no test notices

A generated pass is written to a file after each defect, and the same command goes on from there. The defects are
planted in a copy of the package, each with the tests that `_pass.py` names.
"""

import argparse
import os
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "mutants")]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="name the named ones")
    parser.add_argument("--generate", type=int, metavar="N", help="plant N defects at random places")
    parser.add_argument("--seed", type=int, default=0, help="of the places (default: 0)")
    parser.add_argument("--only", default="", metavar="PREFIX", help="files below src/aevb that begin so")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="so many at once (default: one a core)")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="of the tests of one (600)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: mutants-SEED.json")
    args, rest = parser.parse_known_args(argv)
    if args.generate is None:
        import pytest

        if not args.list:
            return pytest.main([str(TESTS / "mutants" / "test_mutants.py"), "-m", "", *rest])
        import test_mutants

        print("\n".join(f"{m.file}: {m.name} ({m.killer})" for m in test_mutants.MUTANTS))
        return 0
    if rest:
        parser.error(f"unknown: {' '.join(rest)}")
    from _pass import report, run_pass

    output = args.output or Path(f"mutants-{args.seed}.json")
    found = run_pass(args.generate, args.seed, args.only, output, jobs=args.jobs, timeout=args.timeout)
    print(report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
