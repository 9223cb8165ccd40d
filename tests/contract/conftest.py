"""Every test here is of every case, unless it says otherwise."""

from __future__ import annotations

import sys

import pytest

from tests import tabpfn_stand_in
from tests.contract.case import Case
from tests.contract.cases import CASES


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setitem(sys.modules, "tabpfn", tabpfn_stand_in)
    return Case(*CASES[request.param])
