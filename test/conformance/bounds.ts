// What is promised, in one place. Differences of logits are in units of the standard
// deviation of the reference's logits.

/** Largest difference of any logit on an exact backend (f32 sums against f64, or against PyTorch's f32). */
export const EXACT_LARGEST = 2e-3;

/** Relative difference of the mean negative log-likelihood's perplexity. */
export const PERPLEXITY = { exact: 2e-4, quantized: 5e-3 } as const;

/**
 * Root mean square difference where activations are quantised to int8.
 *
 * Rounding to 127 steps of the largest of 128 values costs each linear layer 1 to 2 % of its
 * output (a few channels of the synthetic models are three times larger than the rest, as in
 * trained ones), and two layers of seven linears and a head add up: measured over all
 * synthetic models 0.6 to 3.6 %, 2.3 % in the middle; over the models with golden files, which
 * are deeper, 1 to 5.8 %, 3.3 % in the middle. Three times the middle is the bound. It only
 * catches gross mistakes: small ones are caught by the answer having to lie nearer to the
 * truth than to each misreading (misreadings.ts), and by perplexity.
 */
export const QUANTIZED_MEAN = { synthetic: 0.07, golden: 0.1 } as const;

/** Largest relative increase of perplexity that a quantised KV cache may cause, against an f16 one. */
export const CACHE_COST = { q8: 1e-3, q4: 1.5e-2 } as const;
