"""Texts as tensors."""

from __future__ import annotations

import pytest
import torch

from molmeta.domains.text.inputs import TextBatch

TEXTS = ["book a flight", "", "où est ma carte ?", "✈", "book a flight"]


def test_texts_come_back_as_they_went_in() -> None:
    batch = TextBatch.of(TEXTS)
    assert len(batch) == 5
    assert batch.texts() == TEXTS
    assert batch.to("cpu").texts() == TEXTS


@pytest.mark.parametrize("rows", [[3, 0, 0, 2], [1], []])
def test_rows_are_picked_in_any_order_as_from_a_list(rows: list[int]) -> None:
    picked = TextBatch.of(TEXTS)[torch.tensor(rows, dtype=torch.int64)]
    assert picked.texts() == [TEXTS[row] for row in rows]
    assert len(picked.ids) == sum(len(TEXTS[row].encode()) for row in rows)


def test_a_mask_picks_the_rows_that_it_marks() -> None:
    mask = torch.tensor([True, False, True, True, False])
    assert TextBatch.of(TEXTS)[mask].texts() == [TEXTS[0], TEXTS[2], TEXTS[3]]


def test_batches_are_joined_one_after_another() -> None:
    parts = [TextBatch.of(TEXTS[:2]), TextBatch.of([]), TextBatch.of(TEXTS[2:])]
    assert TextBatch.concatenate(parts).texts() == TEXTS
