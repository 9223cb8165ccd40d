"""Another share of the classes than the support's: what is expected of the molecules that are asked about."""

from __future__ import annotations

from molmeta.core.task import FloatArray


def at_prior(probabilities: FloatArray, shares: FloatArray, expected: FloatArray) -> FloatArray:
    """Bayes' rule for other shares of the classes: odds change by the expected odds over the support's.

    Right where the molecules of a class are alike in support and query, however many there are of each.

    Args:
        probabilities: ``[m, k]``, said of molecules with the support's shares of the classes.
        shares: ``[k]`` of the support.
        expected: ``[k]`` of the molecules that are asked about.

    Returns:
        ``[m, k]`` probabilities; of two classes the order of the molecules does not change.
    """
    shifted: FloatArray = probabilities * (expected / shares)
    shifted /= shifted.sum(1, keepdims=True)
    return shifted
