"""Generated tasks whose best answer is known: sinusoids to fit, and Gaussian blobs to tell apart."""
