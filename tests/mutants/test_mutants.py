"""Planted defects. Each is a change of one line of the library that a named test must notice."""

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(importlib.util.find_spec("aevb").origin).parent
TESTS = Path(__file__).resolve().parent.parent


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    killer: str  # test file and what to select in it


IDENTITY = "statistical/test_identity.py"
ESTIMATORS = "statistical/test_estimators.py"
DISTRIBUTIONS = "unit/test_distributions.py"
TRAIN = "unit/test_train.py"
EVALUATE = "unit/test_evaluate.py"

A_PATH = f"{IDENTITY}::test_every_log_weight_is_the_log_marginal[float64-by_sgvb_a]"
A_JOINT = f"{IDENTITY}::test_every_log_weight_is_the_log_marginal_for_a_model_that_only_has_log_joint[by_sgvb_a]"
LOG_JOINT = f"{IDENTITY}::test_every_log_weight_is_the_log_marginal[float64-by_log_joint]"
B_MEAN = f"{IDENTITY}::test_estimator_b_is_the_log_marginal_in_the_mean[0]"
NORMALISER = f"{EVALUATE}::test_the_normaliser_is_the_number_drawn"
CHUNKS = f"{EVALUATE}::test_chunks_do_not_change_the_result[2]"
FAR = f"{EVALUATE}::test_far_tails_do_not_overflow"
PARTITION = f"{ESTIMATORS}::test_minibatches_average_to_the_full_data_bound[b-(32, 32)]"
KL_WEIGHT = f"{TRAIN}::test_kl_weight_weighs_the_kl_in_the_gradient_and_not_in_the_report[0.3]"
PRIOR = f"{TRAIN}::test_the_parameter_prior_pulls_matrices_by_w_over_n[500]"
NOISE = f"{ESTIMATORS}::test_rows_steps_and_seeds_have_noise_of_their_own"
SKIP = f"{TRAIN}::test_a_non_finite_step_is_skipped_whole"
EVERY_ROW = f"{TRAIN}::test_an_epoch_sees_every_row_once[13-4]"
WEIGHING = f"{TRAIN}::test_means_over_an_epoch_weigh_rows_and_not_steps[13-4]"
GREY = f"{DISTRIBUTIONS}::test_cross_entropy_of_grey_values[float32-0.25]"
ENCODER = f"{DISTRIBUTIONS}::test_encoder_by_hand"
DECODER = f"{DISTRIBUTIONS}::test_gaussian_decoder_against_scipy[False]"
KL_DIGITS = f"{DISTRIBUTIONS}::test_kl_to_the_standard_normal_keeps_its_digits[float32-0.0]"
KL_DIRECTION = f"{DISTRIBUTIONS}::test_kl_has_a_direction"
KL_SUM = f"{DISTRIBUTIONS}::test_kl_of_independent_dimensions_is_a_sum"
DIFFER = f"{ESTIMATORS}::test_l_samples_divide_the_variance_by_l[b-10]"
SAMPLES = f"{ESTIMATORS}::test_samples_carry_their_gradient"
LOWER = f"{TRAIN}::test_steps_raise_the_bound"
TEN = f"{TRAIN}::test_nine_in_a_row_do_not"
DONATED = f"{TRAIN}::test_donation_leaves_the_callers_models_alone"
STANDARD_ERROR = f"{EVALUATE}::test_mean_and_standard_error"

SGVB, BASE, AEVB, LOOP = "estimators/_sgvb.py", "estimators/_base.py", "train/_aevb.py", "train/_loop.py"
IMPORTANCE, KL = "evaluate/_importance.py", "distributions/_kl.py"

SPECIAL = "distributions/_special.py"
WEIGHTS, ASCENT = "estimators/_log_weights.py", "train/_ascent.py"
B_RETURN = "return Estimate(log_likelihood - kl"
FINITE = "ok = jnp.isfinite(mean.bound) & jnp.isfinite(grad_norm)"

MUTANTS = [
    Mutant("sign of the KL", WEIGHTS, "log_likelihood - log_ratio, log", "log_likelihood + log_ratio, log", A_PATH),
    Mutant("KL counted twice", SGVB, B_RETURN, f"{B_RETURN} - kl", B_MEAN),
    Mutant("KL left out", SGVB, B_RETURN, B_RETURN.removesuffix(" - kl"), B_MEAN),
    Mutant(
        "entropy's sign",
        WEIGHTS,
        "x, z), z) - log_q",
        "x, z), z) + log_q",
        A_JOINT,
    ),
    Mutant("prior left out of the joint", "models/_contracts.py", " + log_prior_of(self, x, z)", "", LOG_JOINT),
    Mutant("kl_weight ignored", AEVB, "1.0 if kl_weight is None else kl_weight(state.step)", "1.0", KL_WEIGHT),
    Mutant("kl_weight's sign", AEVB, "(kl - weight * counted)", "(kl + weight * counted)", KL_WEIGHT),
    Mutant("N/M missing", BASE, "num_examples / len(keys) * jnp.sum", "1.0 * jnp.sum", PARTITION),
    Mutant("mean for sum over rows", BASE, "len(keys) * jnp.sum(", "len(keys) * jnp.mean(", PARTITION),
    Mutant(
        "parameter prior weighed like a row",
        AEVB,
        "objective + log_parameter_prior(params)",
        "objective + num_examples * log_parameter_prior(params)",
        PRIOR,
    ),
    Mutant("parameter prior on biases", AEVB, " and leaf.ndim >= 2]", "]", PRIOR),
    Mutant("the batch shares its noise", ASCENT, "jax.random.fold_in(step_key, i)))", "step_key))", NOISE),
    Mutant("the steps share their noise", ASCENT, "jax.random.fold_in(state.key, state.step)", "state.key", NOISE),
    Mutant("ascent for descent", AEVB, "return -objective / num_examples", "return objective / num_examples", LOWER),
    Mutant("non-finite steps are taken", ASCENT, FINITE, "ok = jnp.array(True)", SKIP),
    Mutant("a step that was skipped keeps its number", ASCENT, "state.step + 1", "state.step + ok", SKIP),
    Mutant("the caller's arrays are donated", AEVB, "jax.tree.map(jnp.array, params)", "params", DONATED),
    Mutant("the last, smaller batch is dropped", LOOP, "if remainder:", "if False:", EVERY_ROW),
    Mutant("means weigh steps", LOOP, "np.where(metrics.ok, sizes, 0.0)", "np.where(metrics.ok, 1.0, 0.0)", WEIGHING),
    Mutant("nine are taken for ten", LOOP, "MAX_SKIPPED_IN_A_ROW = 10", "MAX_SKIPPED_IN_A_ROW = 9", TEN),
    Mutant("log K dropped", IMPORTANCE, "np.log(total) - np.log(num_samples)", "np.log(total)", NORMALISER),
    Mutant(
        "K of the normaliser is what fills the chunks",
        IMPORTANCE,
        "return _summarize(num_samples, *sums)",
        "return _summarize(num_runs * num_chunks * chunk_size, *sums)",
        NORMALISER,
    ),
    Mutant("samples that fill up a chunk count", IMPORTANCE, "jnp.where(k < span[1],", "jnp.where(k >= 0,", NORMALISER),
    Mutant(
        "no maximum is taken out",
        IMPORTANCE,
        "jnp.exp(log_w - jnp.where(jnp.isfinite(largest), largest, 0.0))",
        "jnp.exp(log_w)",
        FAR,
    ),
    Mutant("a weight's sign", IMPORTANCE, "generative, x, z) - log_q0", "generative, x, z) + log_q0", NORMALISER),
    Mutant(
        "variance for scale",
        "models/posteriors/_families.py",
        'positive_scale(raw["raw_scale"])',
        'positive_scale(raw["raw_scale"]) ** 2',
        ENCODER,
    ),
    Mutant(
        "the decoder's floor dropped",
        "models/likelihoods/_location_scale.py",
        'positive_scale(raw["raw_scale"], self.min_scale)',
        'positive_scale(raw["raw_scale"])',
        DECODER,
    ),
    Mutant("KL the other way round", KL, "return _normal_normal(q, p)", "return _normal_normal(p, q)", KL_DIRECTION),
    Mutant("mean for sum over dimensions", KL, "jnp.sum(per_dimension", "jnp.mean(per_dimension", KL_SUM),
    Mutant(
        "KL loses its digits near zero",
        "distributions/_special.py",
        "small = jnp.abs(t) < 0.3",
        "small = t != t",
        KL_DIGITS,
    ),
    Mutant(
        "grey cross-entropy's sign",
        "distributions/_bernoulli.py",
        "x * logits - softplus(logits)",
        "softplus(logits) - x * logits",
        GREY,
    ),
    Mutant(
        "samples without a gradient",
        "distributions/_reparameterize.py",
        "    u = draws.sample(key, sample_shape)\n    return u, draws",
        "    u = jax.lax.stop_gradient(draws.sample(key, sample_shape))\n    return u, draws",
        SAMPLES,
    ),
    Mutant(
        "one sample L times",
        SGVB,
        "over_samples(lambda z: log_likelihood_of(generative, x, z), z)",
        "over_samples(lambda z: log_likelihood_of(generative, x, z), z[:1].repeat(len(z), axis=0))",
        DIFFER,
    ),
    Mutant("standard error without the root", "evaluate/_summary.py", "np.sqrt(n)", "n", STANDARD_ERROR),
    *(
        Mutant(*fields)
        for part in sorted(Path(__file__).parent.glob("of_*.py"))
        for fields in importlib.import_module(part.stem).MUTANTS
    ),
]


def run_tests(package_parent: Path, killers: list[str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(package_parent), str(TESTS)])
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", *[str(TESTS / k) for k in killers]]
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def copy_package(parent: Path) -> Path:
    return Path(shutil.copytree(SOURCE, parent / "aevb", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.slow
def test_the_package_as_it_is_passes(tmp_path):
    copy_package(tmp_path)
    done = run_tests(tmp_path, sorted({m.killer for m in MUTANTS}))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


# A few in the default suite, for time: each starts an interpreter. All of them with `python -m tests.mutants`.
EVERY = len(MUTANTS) // 8
SHARE = [pytest.param(m, id=m.name, marks=[pytest.mark.slow] if i % EVERY else []) for i, m in enumerate(MUTANTS)]


@pytest.mark.parametrize("mutant", SHARE)
def test_the_defect_is_found(mutant, tmp_path):
    file = copy_package(tmp_path) / mutant.file
    file.write_text(planted(mutant))
    done = run_tests(tmp_path, [mutant.killer])
    assert done.returncode == 1, f"survived: {done.stdout[-3000:]}"
    assert "FAILED" in done.stdout
    assert not any(word in done.stdout for word in ("ImportError", "SyntaxError", "NameError", "ERROR collecting"))


def planted(mutant: Mutant) -> str:
    text = (SOURCE / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"{mutant.old!r} stands {text.count(mutant.old)} times in {mutant.file}"
    changed = text.replace(mutant.old, mutant.new)
    compile(changed, mutant.file, "exec")
    return changed


def test_every_defect_can_be_planted():
    """Quick, so that a change of the library that leaves a mutant without its place is noticed at once."""
    faults = []
    for mutant in MUTANTS:
        file, _, test = mutant.killer.partition("::")
        try:
            planted(mutant)
            assert f"def {test.partition('[')[0]}(" in (TESTS / file).read_text(), f"{file} has no {test}"
        except (AssertionError, OSError, SyntaxError) as e:
            faults.append(f"{mutant.name}: {e}")
    assert faults == []
