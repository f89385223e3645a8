"""Planted defects of chains and what is estimated by them: (name, file below src/aevb, text, replacement, killer)."""

UNCONSTRAINED, HMC, CHAIN = "samplers/_unconstrained.py", "samplers/_hmc.py", "samplers/_chain.py"
QUADRATURE, PROPOSAL = "evaluate/_quadrature.py", "evaluate/_proposal.py"
AIS, ANNEALING, HARMONIC = "evaluate/_ais.py", "samplers/_annealing.py", "evaluate/_harmonic.py"
ON_SUPPORT, ANNEALED, FITTED = "unit/test_unconstrained.py", "statistical/test_ais.py", "statistical/test_harmonic.py"

THERE = f"{ON_SUPPORT}::test_there_and_back_with_the_jacobians_determinant"
INVARIANT = f"{ANNEALED}::test_a_transition_leaves_its_density_invariant[1.1]"
POSTERIOR = f"{ANNEALED}::test_from_the_true_posterior_every_weight_is_the_marginal[4]"
BETWEEN = f"{ANNEALED}::test_the_marginal_lies_between_both_directions"
ERROR_BARS = f"{ANNEALED}::test_log_marginals_within_their_error_bars"
CONSTRAINED = f"{ANNEALED}::test_latents_of_constrained_support_against_quadrature"
HARMONIC_BARS = f"{FITTED}::test_log_marginals_within_their_error_bars[2-True]"
DENSITY = f"{FITTED}::test_the_fitted_density_is_one_with_the_samples_moments"
LINEAR = "unit/test_quadrature.py::test_linear_gaussian_models"
SAMPLED = "unit/test_importance.py"

MUTANTS = [
    (
        "the map's own slope is not in the integrand",
        QUADRATURE,
        " + jnp.sum(jnp.log(scale) + jnp.log(jnp.cosh(t)))",
        "",
        f"{LINEAR}[1-1.0]",
    ),
    (
        "cells keep their size when they are halved",
        QUADRATURE,
        " - k * level * math.log(2.0)",
        "",
        f"{LINEAR}[2-0.1]",
    ),
    (
        "cells are dropped for what they hold, not for what they could",
        QUADRATURE,
        "keep = ~done[row][:, None] & (could_be >",
        "keep = ~done[row][:, None] & (mass >",
        f"{LINEAR}[2-0.003]",
    ),
    (
        "two coarse levels that agree are believed",
        QUADRATURE,
        " + np.where(fine, 0.0, excess)",
        "",
        "unit/test_quadrature.py::test_many_narrow_peaks[0.01]",
    ),
    (
        "the volume of a stretch is not in the density",
        PROPOSAL,
        " - u.size * np.log(s)",
        "",
        f"{SAMPLED}::test_the_density_of_the_mixture_integrates_to_one[gamma]",
    ),
    (
        "the turn begins with the first component",
        PROPOSAL,
        "(k.astype(int) + offset)",
        "(k.astype(int) + 0 * offset)",
        f"{SAMPLED}::test_the_mixtures_weights_are_unbiased_for_any_number_of_samples[1]",
    ),
    (
        "no draw of the prior",
        PROPOSAL,
        "z = jnp.where(kind == PRIOR, prior_of(generative, x).sample(key), z)",
        "z = 1.0 * z",
        f"{SAMPLED}::test_what_the_encoder_leaves_out_is_found",
    ),
    (
        "rounding is a tail",
        "evaluate/_psis.py",
        " & (log_w[:, 0] - log_w[:, -1] > rounding)",
        "",
        f"{SAMPLED}::test_equal_weights_are_perfect",
    ),
    (
        "what is left of the stick is not in the determinant",
        UNCONSTRAINED,
        "jnp.sum(_log_pieces(u)[:-1] + _log_left(u))",
        "jnp.sum(_log_pieces(u)[:-1])",
        f"{THERE}[dirichlet]",
    ),
    (
        "an edge goes to infinity",
        UNCONSTRAINED,
        "jnp.clip(transform.inv(z), -bound, bound)",
        "transform.inv(z)",
        f"{ON_SUPPORT}::test_an_edge_comes_out_finite",
    ),
    (
        "upper edges are not compared",
        UNCONSTRAINED,
        " and np.all(edges_q[1] <= edges_p[1]))",
        ")",
        f"{ON_SUPPORT}::test_support_within",
    ),
    (
        "every proposal is accepted",
        HMC,
        "accepted = for_acceptance < probability",
        "accepted = for_acceptance < 2.0",
        INVARIANT,
    ),
    (
        "momentum does not count for the energy",
        HMC,
        "proposal.log_density(b) - 0.5 * jnp.sum(end_momentum**2)",
        "proposal.log_density(b) - 0.5 * jnp.sum(start_momentum**2)",
        INVARIANT,
    ),
    (
        "the gradient of the other end",
        HMC,
        "self.base_gradient + b * self.slope_gradient",
        "self.base_gradient + (1.0 - b) * self.slope_gradient",
        f"{ANNEALED}::test_log_marginals_within_their_error_bars[1]",
    ),
    (
        "proposals without an energy are taken",
        HMC,
        "possible = jnp.isfinite(end) & ~jnp.isnan(log_ratio)",
        "possible = ~jnp.isfinite(end) | ~jnp.isnan(log_ratio)",
        f"{ANNEALED}::test_where_the_density_is_no_number_no_chain_goes[inf]",
    ),
    ("a weight's sign", ANNEALING, "jnp.abs(step) * positions.slope", "-jnp.abs(step) * positions.slope", POSTERIOR),
    (
        "the last increment is left out",
        ANNEALING,
        "    log_w, _ = weigh(total, jnp.asarray(last), positions)",
        "    log_w, _ = total",
        POSTERIOR,
    ),
    (
        "the weight is taken after the transition",
        ANNEALING,
        """        total = weigh(total, i, positions)
        b, step_size = _level(fraction(i), s.schedule), jnp.exp(_interpolate(log_steps, fraction(i)))
        positions, probability = _move(bridge, positions, b, step_size, chains.keys, i, s)
""",
        """        b, step_size = _level(fraction(i), s.schedule), jnp.exp(_interpolate(log_steps, fraction(i)))
        positions, probability = _move(bridge, positions, b, step_size, chains.keys, i, s)
        total = weigh(total, i, positions)
""",
        BETWEEN,
    ),
    ("log K dropped", AIS, "log_mean_exp(log_w), rel", "log_mean_exp(log_w) + jnp.log(len(log_w)), rel", POSTERIOR),
    (
        "the upper bound is the lower one of the same chains",
        AIS,
        "-log_mean_exp(-log_v)",
        "log_mean_exp(log_v)",
        BETWEEN,
    ),
    (
        "backward chains begin at the start",
        AIS,
        "Chains(positions, jax.random.split(backward_key, s.num_chains))",
        "Chains(forward.positions, jax.random.split(backward_key, s.num_chains))",
        BETWEEN,
    ),
    (
        "the density of z for that of u",
        "evaluate/_bridge.py",
        "return (log_prior_of(generative, x, z) if q0 is None else q0.log_prob(z)) + to.log_det(u)",
        "return log_prior_of(generative, x, z) if q0 is None else q0.log_prob(z)",
        f"{CONSTRAINED}[gamma-prior]",
    ),
    (
        "the spread of the chains for that of their mean",
        AIS,
        " / jnp.mean(w) / jnp.sqrt(jnp.asarray(s.num_chains, w.dtype))",
        " / jnp.mean(w)",
        f"{ERROR_BARS}[2]",
    ),
    (
        "parts begin at row 0",
        AIS,
        "_row_function(settings), (generative, recognition), rows, key, batch_size=batch_size, first_row=first_row",
        "_row_function(settings), (generative, recognition), rows, key, batch_size=batch_size, first_row=0",
        f"{ANNEALED}::test_batches_and_parts_do_not_change_the_result",
    ),
    (
        "the step size is not tuned",
        ANNEALING,
        "log_step + _PER_ACCEPTANCE * excess",
        "log_step - _PER_ACCEPTANCE * excess - 1.0",
        f"{ERROR_BARS}[5]",
    ),
    (
        "the mean of the inverse terms",
        HARMONIC,
        "return -(largest + jnp.log(mean)), error",
        "return largest + jnp.log(mean), error",
        HARMONIC_BARS,
    ),
    ("1/n left out of the density", HARMONIC, "log_sums - np.log(n)", "log_sums", f"{DENSITY}[1-1.0]"),
    (
        "the kernels' width is not in their normaliser",
        HARMONIC,
        "k * jnp.log(h) + jnp.sum(",
        "jnp.sum(",
        f"{DENSITY}[2-0.3]",
    ),
    (
        "the centres are not shrunk",
        HARMONIC,
        "jnp.sqrt(1.0 - h**2) * whitened(points)",
        "whitened(points)",
        f"{DENSITY}[2-1.0]",
    ),
    (
        "samples for independent ones in the error",
        HARMONIC,
        "jnp.std(of_chain, ddof=1) / mean / jnp.sqrt(jnp.asarray(half, mean.dtype))",
        "jnp.std(of_chain, ddof=1) / mean / jnp.sqrt(jnp.asarray(terms.size, mean.dtype))",
        HARMONIC_BARS,
    ),
    (
        "the determinant of the map is not in the density",
        HARMONIC,
        " + to.log_det(at)",
        "",
        f"{FITTED}::test_latents_of_constrained_support_against_quadrature[gamma]",
    ),
    (
        "the scales are not adapted",
        CHAIN,
        "jnp.where(is_end, _scale(spread), scale)",
        "jnp.where(is_end, scale, scale)",
        f"{FITTED}::test_chains_sample_the_density",
    ),
    (
        "the step size goes the wrong way",
        CHAIN,
        "_tried(steps, target_acceptance - probability)",
        "_tried(steps, probability - target_acceptance)",
        f"{FITTED}::test_chains_sample_the_density",
    ),
]
