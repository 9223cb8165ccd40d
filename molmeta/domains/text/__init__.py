"""Texts, such as what people ask of an assistant: inputs, encoders and task sources of intents."""
