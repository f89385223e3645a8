"""What users get is what is tested: a part of the suite in a process without the tests' run-time type checks."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CHOSEN = (
    "test_contracts or free_bits or beta or divide or needs_terms or need_terms or refuses_what"
    # Own models through the whole door: all verbs, conditional, by an algorithm.
    " or verbs_of_a_preset or given_what_is_given or algorithm_of_ones_own or reaches_the_user or forgotten_to_event"
    # And the checks that users call: of models in one piece, too, of algorithms, transforms and specs.
    " or models_of_every_form or transform_of_a_part or spec_of_ones_own_passes"
)


def test_own_models_and_objectives_without_run_time_type_checks():
    """No wrong shape is caught by beartype there: what is refused is refused by the library itself."""
    tests = [
        str(HERE / name) for name in ("test_contracts.py", "test_objectives.py", "test_fit_model.py", "test_testing.py")
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-k", CHOSEN]
    done = subprocess.run(
        [*command, *tests],
        cwd=HERE.parents[1],
        env=os.environ | {"AEVB_TESTS_WITHOUT_TYPE_CHECKS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    passed = int(done.stdout.split(" passed")[0].split()[-1])
    assert passed >= 75, done.stdout
