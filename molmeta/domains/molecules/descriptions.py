"""What is said of an assay in words, as numbers: hashed words, with no vocabulary to keep.

A word of the protein's name or class is a token; an EC number is one token a level ("2", "2.7", "2.7.11"); organism and
type of assay are a token each. Fields that are missing, and words that training never met, say nothing. Counts of
compounds and of actives are statistics of the labels, and a target's number is of no use for a new target: neither is
read.
"""

from __future__ import annotations

import difflib
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache

import torch

from molmeta.errors import ConfigError

BUCKETS = 1024

# What a user may say, and what it is called in a task's description.
FIELDS: Mapping[str, str] = {
    "target": "target",  # the protein's name, family or both, in words
    "ec": "ec_number",
    "organism": "organism",
    "type": "assay_type",
}
TYPES: Mapping[str, str] = {"binding": "B", "functional": "F", "admet": "A", "toxicity": "T", "physicochemical": "P"}
_IN_WORDS = ("target", "protein_class", "ec_name")
_EC = re.compile(r"\d+(\.\d+){0,3}")


def hashed(description: Mapping[str, str]) -> torch.Tensor:
    """``[BUCKETS]``: 1 where a token of the description falls, else 0; all 0 where nothing is known."""
    return _hashed(tuple(sorted(description.items())))


@lru_cache(maxsize=8192)
def _hashed(description: tuple[tuple[str, str], ...]) -> torch.Tensor:
    vector = torch.zeros(BUCKETS)
    vector[[zlib.crc32(token.encode()) % BUCKETS for token in tokens(dict(description))]] = 1
    return vector


def tokens(description: Mapping[str, str]) -> set[str]:
    """The tokens of a description; of its keys, those that tell of labels or number targets are not read."""
    found = {word for key in _IN_WORDS for word in re.findall(r"[a-z0-9]+", description.get(key, "").lower())}
    for number in _EC.finditer(description.get("ec_number", "")):
        levels = number.group().split(".")
        found |= {"ec:" + ".".join(levels[: i + 1]) for i in range(len(levels))}
    for key in ("organism", "assay_type"):
        if value := description.get(key, "").strip().lower():
            found.add(f"{key}:{value}")
    return found


def read_description(given: str | Mapping[str, str]) -> dict[str, str]:
    """What a user says of an assay, as a task's description.

    Args:
        given: ``target``, ``ec``, ``organism`` and ``type``, some of them: a mapping, or text such as
            ``target=CDK5 kinase, ec=2.7.11.1, type=binding``. A comma that no field follows belongs to the value.

    Raises:
        ConfigError: lists every field that is unknown, empty, given twice or malformed.
    """
    problems: list[str] = []
    pairs = list(given.items()) if isinstance(given, Mapping) else _pairs(given, problems)
    description: dict[str, str] = {}
    for field, value in pairs:
        if field not in FIELDS:
            close = difflib.get_close_matches(field, FIELDS, n=1)
            problems.append(f'unknown field "{field}"' + (f' (did you mean "{close[0]}"?)' if close else ""))
        elif not isinstance(value, str) or not value.strip():
            problems.append(f'"{field}" says nothing: leave it out, or give it words')
        elif FIELDS[field] in description:
            problems.append(f'"{field}" is given twice')
        else:
            description[FIELDS[field]] = _checked(field, value.strip(), problems)
    if not description and not problems:
        problems.append("it is empty")
    if problems:
        raise ConfigError(
            f"the description of the assay cannot be used: {'; '.join(problems)}. Known fields: {', '.join(FIELDS)}; "
            'for example "target=cyclin-dependent kinase CDK5, ec=2.7.11.1, organism=Homo sapiens, type=binding"'
        )
    return description


def _pairs(text: str, problems: list[str]) -> list[tuple[str, str]]:
    starts = list(re.finditer(r"(?:^|,)\s*(\w+)\s*=", text))
    if text.strip() and (not starts or text[: starts[0].start()].strip()):
        problems.append(f'"{text:.60}" does not begin with a field and "="')
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [(start.group(1), text[start.end() : end]) for start, end in zip(starts, ends, strict=False)]


def _checked(field: str, value: str, problems: list[str]) -> str:
    if field == "ec" and not _EC.fullmatch(value):
        problems.append(f'"ec" is an EC number or the beginning of one (2.7.11.1, 2.7), not "{value}"')
    if field == "type":
        letter = TYPES.get(value.lower(), value.upper())
        if letter not in TYPES.values():
            problems.append(f'"type" is one of {", ".join(TYPES)}, not "{value}"')
        return letter
    return value


def rows_of(description: Mapping[str, str], classes: int) -> torch.Tensor:
    """``[classes, BUCKETS]``: the description of the assay, once for each of its classes."""
    return hashed(description).expand(classes, BUCKETS)


def known_words(vectors: torch.Tensor) -> torch.Tensor:
    """``[BUCKETS]`` log(T / assays with the token), over ``vectors [T, BUCKETS]``; 0 for tokens that none has."""
    counts = vectors.sum(0)
    weights: torch.Tensor = torch.where(counts > 0, (len(vectors) / counts.clamp(min=1)).log(), 0.0)
    return weights


def stacked(descriptions: list[Mapping[str, str]]) -> torch.Tensor:
    """``[T, BUCKETS]`` of several descriptions."""
    return torch.stack([hashed(each) for each in descriptions]) if descriptions else torch.zeros(0, BUCKETS)
