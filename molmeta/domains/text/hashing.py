"""Words and character n-grams of texts as hashed ids: no vocabulary, and nothing that is fitted.

An n-gram of bytes ``b_1 .. b_n`` has the hash ``sum_j (b_j + 1) P^j`` modulo 2^64; its id is some middle bits of a
scrambled hash, as in feature hashing (Weinberger et al., 2009, arXiv:0902.2206).
"""

from __future__ import annotations

import torch

from molmeta.domains.text.inputs import TextBatch

_SPACE = 32
_P = 6364136223846793005  # Knuth's multiplier; products wrap modulo 2^64
_SCRAMBLE = -7046029254386353131  # 2^64 / golden ratio, as a signed number

Tokens = tuple[torch.Tensor, torch.Tensor]  # ids [tokens], and the text [tokens] that each belongs to


def word_ids(batch: TextBatch, buckets: int) -> Tokens:
    """Each word of each text: a run of letters, digits and bytes beyond ASCII, whatever its case."""
    ids, text, _ = _separated(batch)
    inside = _is_word(ids)
    starts = inside & ~_shifted(inside)
    word = starts.cumsum(0) - 1
    ids, text, word, begins = ids[inside], text[inside], word[inside], torch.nonzero(starts).flatten()
    place = torch.nonzero(inside).flatten() - begins[word]
    hashes = ids.new_zeros(len(begins)).index_add(0, word, (ids + 1) * _powers(place))
    first = torch.nonzero(place == 0).flatten()
    return _bucket(hashes, buckets, salt=0), text[first]


def gram_ids(batch: TextBatch, n: int, buckets: int) -> Tokens:
    """Each run of ``n`` bytes of each text, a space put before and after it; case does not count."""
    ids, text, end = _separated(batch)
    starts = torch.nonzero(torch.arange(len(ids), device=ids.device) + n <= end).flatten()
    places = torch.arange(n, device=ids.device)
    hashes = ((ids[starts[:, None] + places] + 1) * _powers(places)).sum(1)
    return _bucket(hashes, buckets, salt=n), text[starts]


def _separated(batch: TextBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The bytes in lower case, a space before and after each text; each one's text, and where that text ends."""
    lengths = batch.offsets.diff()
    rows = torch.arange(len(batch), device=lengths.device)
    text = torch.repeat_interleave(rows, lengths + 2)
    ids = torch.full_like(text, _SPACE)
    inner = torch.arange(len(batch.ids), device=lengths.device) + 2 * torch.repeat_interleave(rows, lengths) + 1
    ids[inner] = _lower(batch.ids.long())
    return ids, text, (lengths + 2).cumsum(0)[text]


def _lower(ids: torch.Tensor) -> torch.Tensor:
    return torch.where((ids >= ord("A")) & (ids <= ord("Z")), ids + 32, ids)


def _is_word(ids: torch.Tensor) -> torch.Tensor:
    letter = (ids >= ord("a")) & (ids <= ord("z"))
    digit = (ids >= ord("0")) & (ids <= ord("9"))
    return letter | digit | (ids >= 128)


def _shifted(mask: torch.Tensor) -> torch.Tensor:
    """``mask`` of the byte before."""
    return torch.cat([mask.new_zeros(1), mask[:-1]])


def _powers(place: torch.Tensor) -> torch.Tensor:
    """``P ** place``, modulo 2^64."""
    longest = int(place.max()) + 1 if len(place) else 0
    return torch.full((longest,), _P, device=place.device).cumprod(0)[place]


def _bucket(hashes: torch.Tensor, buckets: int, salt: int) -> torch.Tensor:
    mixed = (hashes + salt) * _SCRAMBLE
    mixed = (mixed ^ (mixed >> 29)) * _P
    return ((mixed >> 17) & 0x7FFFFFFF) % buckets
