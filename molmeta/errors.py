"""The exception tree: one class a cause, so that a caller can tell them apart.

``InputError`` and ``ConfigError`` are also ``ValueError``: code that knows nothing of molmeta still catches them.
"""


class MolmetaError(Exception):
    """Any error that molmeta raises on purpose; the message says what is wrong and the way out."""


class InputError(MolmetaError, ValueError):
    """A table, molecule or label cannot be used as given."""


class SupportError(InputError):
    """A support set cannot specialise the model: a class is missing, or there are too few or too many rows."""


class ConfigError(MolmetaError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(MolmetaError):
    """A data set is missing, incomplete or damaged on disk."""


class ModelFileError(MolmetaError):
    """A model file is missing, truncated, from a newer version, or not molmeta's."""


class DeviceError(MolmetaError):
    """A device was asked for that this machine does not have."""
