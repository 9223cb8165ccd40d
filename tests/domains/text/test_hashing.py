"""Hashed words and n-grams, against Python's own splitting."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
import torch

from molmeta.domains.text.hashing import gram_ids, word_ids
from molmeta.domains.text.inputs import TextBatch

TEXTS = ["Book a flight, a FLIGHT!", "", "x", "  do-it  now ", "flight book", "carte bleue: où ?"]
MANY = 2**31 - 1  # buckets so many that nothing collides here


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9\u0080-\uffff]+", text.lower())


def grams(text: str, n: int) -> list[bytes]:
    padded = f" {text.lower()} ".encode()
    return [padded[i : i + n] for i in range(len(padded) - n + 1)]


def same_partition(found: tuple[torch.Tensor, torch.Tensor], expected: list[list[str]] | list[list[bytes]]) -> bool:
    """Each text has as many tokens as expected, and equal tokens have equal ids, different ones different ids."""
    ids, text = found
    by_text = [ids[text == i].tolist() for i in range(len(expected))]
    pairs = [pair for a, b in zip(by_text, expected, strict=True) for pair in zip(sorted(a), sorted(a), strict=True)]
    assert [len(a) for a in by_text] == [len(b) for b in expected]
    assert [sorted(Counter(a).values()) for a in by_text] == [sorted(Counter(b).values()) for b in expected]
    distinct = {token for tokens in expected for token in tokens}
    return len({a for a, _ in pairs}) == len(distinct)


def test_words_are_those_of_a_regular_expression() -> None:
    assert same_partition(word_ids(TextBatch.of(TEXTS), MANY), [words(text) for text in TEXTS])


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_grams_are_the_windows_of_each_text_alone(n: int) -> None:
    assert same_partition(gram_ids(TextBatch.of(TEXTS), n, MANY), [grams(text, n) for text in TEXTS])


@pytest.mark.parametrize("find", [word_ids, lambda b, k: gram_ids(b, 3, k)])
def test_a_texts_tokens_do_not_depend_on_the_texts_beside_it(
    find: Callable[[TextBatch, int], tuple[torch.Tensor, torch.Tensor]],
) -> None:
    ids, text = find(TextBatch.of(TEXTS), 1000)
    for i, alone in enumerate(TEXTS):
        torch.testing.assert_close(find(TextBatch.of([alone]), 1000)[0], ids[text == i], rtol=0, atol=0)
    assert find(TextBatch.of([]), 1000)[0].shape == (0,)


def test_ids_fill_the_buckets_evenly() -> None:
    texts = TextBatch.of([f"word{i}" for i in range(20_000)])
    counts = torch.bincount(word_ids(texts, 100)[0], minlength=100).double()
    assert len(counts) == 100
    chi_square = float(((counts - 200).square() / 200).sum())
    assert 50 < chi_square < 160  # 99 degrees of freedom: what a fair die gives, but for one time in 10,000
    assert len(torch.unique(word_ids(texts, 2**30)[0])) > 19_980  # birthdays: 0.2 collisions expected
