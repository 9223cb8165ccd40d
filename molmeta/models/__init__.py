"""The models that come with the package: ``<name>.safetensors``, and its card as ``<name>.md``."""
