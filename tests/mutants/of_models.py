"""Planted defects of flows, posteriors and priors: (name, file below src/aevb, text there, its replacement, killer)."""

FLOWS, POSTERIORS, PRIORS = "unit/test_flows.py", "unit/test_posteriors.py", "unit/test_priors.py"

IAF, COUPLING, MADE = "models/posteriors/_iaf.py", "models/posteriors/_flows.py", "models/networks/_made.py"
LOG_DET = f"{FLOWS}::test_the_log_determinant_is_the_jacobians"
UNDONE = f"{FLOWS}::test_each_direction_undoes_the_other"
SEES = f"{FLOWS}::test_an_autoregressive_output_sees_what_stands_before_it_and_all_of_that"
BY_SCIPY = f"{POSTERIORS}::test_full_covariance_against_scipy"
VAMP = f"{PRIORS}::test_a_vamp_prior_is_the_mixture_of_the_encoders_posteriors"

MUTANTS = [
    (
        "the gate is not in the log-determinant",
        IAF,
        "            log_det = log_det + jnp.sum(log_s)  # det",
        "            log_det = log_det  # det",
        f"{LOG_DET}[float64-iaf-4]",
    ),
    (
        "the reversed order is not undone",
        IAF,
        "            eps = _in_order_of_step(t, eps)\n        return",
        "        return",
        f"{UNDONE}[float64-iaf-4]",
    ),
    (
        "the reversed order is left out of the way back",
        IAF,
        "_undo_step(network, _in_order_of_step(t, eps), context)",
        "_undo_step(network, eps, context)",
        f"{UNDONE}[float64-iaf-4]",
    ),
    (
        "the gate closes instead of opening",
        IAF,
        "return -jax.nn.softplus(-a), -jax.nn.softplus(a), m",
        "return -jax.nn.softplus(a), -jax.nn.softplus(-a), m",
        f"{FLOWS}::test_a_new_flow_is_near_the_identity[iaf]",
    ),
    (
        "one coordinate is never solved for",
        IAF,
        "jnp.zeros_like(z), jnp.arange(z.shape[0]))",
        "jnp.zeros_like(z), jnp.arange(z.shape[0] - 1))",
        f"{UNDONE}[float64-iaf-4]",
    ),
    (
        "an output sees its own input",
        MADE,
        "np.tile(np.arange(1, self.latent_dim + 1), 2) > degrees",
        "np.tile(np.arange(1, self.latent_dim + 1), 2) >= degrees",
        f"{SEES}[5-hidden3]",
    ),
    (
        "the masks lose the last dimension but one",
        MADE,
        "np.arange(n) % j if",
        "np.arange(n) % max(j - 1, 1) if",
        f"{SEES}[5-hidden3]",
    ),
    (
        "sign of the coupling's log-determinant",
        COUPLING,
        "z = z * jnp.exp(log_scale) + shift\n            log_det = log_det + jnp.sum(log_scale)",
        "z = z * jnp.exp(log_scale) + shift\n            log_det = log_det - jnp.sum(log_scale)",
        f"{LOG_DET}[float64-coupling-4]",
    ),
    (
        "the inverse reports its own log-determinant",
        COUPLING,
        "eps = (eps - shift) * jnp.exp(-log_scale)\n            log_det = log_det + ",
        "eps = (eps - shift) * jnp.exp(-log_scale)\n            log_det = log_det - ",
        f"{FLOWS}::test_the_log_determinant_of_the_inverse_is_the_forwards[coupling]",
    ),
    (
        "every layer holds the same half",
        COUPLING,
        "% 2 == t % 2) &",
        "% 2 == 0) &",
        f"{FLOWS}::test_a_coupling_holds_half_and_the_next_layer_holds_the_other_half",
    ),
    (
        "the scales of a coupling are not bounded",
        COUPLING,
        "bounded(raw, _LOG_SCALE_BOUND)",
        "raw",
        f"{FLOWS}::test_extreme_inputs_stay_finite[float32-coupling-relu]",
    ),
    (
        "a flow's density with the wrong sign",
        COUPLING,
        "return self.noise.log_prob(eps) - log_det\n\n\ndef",
        "return self.noise.log_prob(eps) + log_det\n\n\ndef",
        f"{FLOWS}::test_a_flows_density_integrates_to_one[coupling-1]",
    ),
    (
        "upper for lower triangle",
        "models/posteriors/_full_covariance.py",
        "unit.at[jnp.tril_indices(len(sigma), -1)]",
        "unit.at[jnp.triu_indices(len(sigma), 1)]",
        f"{BY_SCIPY}[full-covariance]",
    ),
    (
        "a Gaussian for the Student t",
        "models/posteriors/_full_covariance.py",
        "return MultivariateStudentT(self.df, loc, factor)",
        "return MultivariateNormal(loc, scale_tril=factor)",
        f"{BY_SCIPY}[elliptical]",
    ),
    (
        "the mixture's weights do not sum to one",
        "models/priors/_priors.py",
        "jax.nn.log_softmax(self.logits)",
        "self.logits",
        f"{PRIORS}::test_mixture_density_by_hand[float64]",
    ),
    (
        "1/K left out",
        "models/priors/_priors.py",
        "jnp.full(k, -jnp.log(k), self",
        "jnp.full(k, 0.0, self",
        f"{VAMP}[gaussian]",
    ),
    (
        "the prior's encoder gets no gradient",
        "models/priors/_priors.py",
        "Mixture(log_weights, self.recognition.posterior,",
        "Mixture(log_weights, jax.lax.stop_gradient(self.recognition).posterior,",
        f"{PRIORS}::test_the_gradient_reaches_the_encoder_through_the_prior",
    ),
    (
        "components are drawn evenly",
        "models/priors/_mixture.py",
        "jax.random.categorical(k_key, self.log_weights)",
        "jax.random.categorical(k_key, 0.0 * self.log_weights)",
        f"{PRIORS}::test_samples_follow_the_density[mixture]",
    ),
    (
        "a header that contradicts itself is taken",
        "modelfile.py",
        "    _check_agreement(spec, config)\n",
        "",
        "unit/test_modelfile.py::test_a_header_that_contradicts_itself_is_refused[config-posterior-elliptical]",
    ),
    (
        "narrow layers leave inputs unseen",
        MADE,
        "if self.direct is not None:",
        "if False:",
        f"{SEES}[5-hidden1]",
    ),
    (
        "an output sees its own input by the direct weights",
        MADE,
        "jnp.where(self._into_outputs(before), self.direct, 0.0)",
        "self.direct",
        f"{SEES}[5-hidden1]",
    ),
    (
        "a half-line under a normal prior",
        "models/_vae.py",
        'return "normal" if of.support == "real" and family not in _HEAVY else family',
        'return family if of.support == "simplex" else "normal"',
        f"{POSTERIORS}::test_a_posterior_of_a_part_of_the_line_is_not_given_a_prior_of_all_of_it",
    ),
    (
        "the parameter prior lies on pseudo-inputs",
        "train/_aevb.py",
        "_NO_WEIGHTS = (MixturePrior, VampPrior)",
        "_NO_WEIGHTS = (MixturePrior,)",
        "unit/test_train.py::test_the_parameter_prior_lies_on_weights_and_not_on_points_of_a_prior[vamp]",
    ),
]
