"""Sparkplug payloads: values to bytes with `encode`, bytes to values with `decode`. This is the room's door.

Pure: no clock, no connection. Knows what a payload may say, not when to say it (`session.py`).
"""

from gateway.sparkplug.decoding import BYTES_MAX, DEPTH_MAX, VALUES_MAX, decode, resolve
from gateway.sparkplug.encoding import encode
from gateway.sparkplug.values import (
    NONE,
    DataSet,
    MetaData,
    Metric,
    NotSparkplug,
    Parameter,
    Payload,
    PayloadProblem,
    Property,
    Raw,
    Template,
    Value,
    WrongValue,
)

__all__ = [
    "BYTES_MAX",
    "DEPTH_MAX",
    "NONE",
    "VALUES_MAX",
    "DataSet",
    "MetaData",
    "Metric",
    "NotSparkplug",
    "Parameter",
    "Payload",
    "PayloadProblem",
    "Property",
    "Raw",
    "Template",
    "Value",
    "WrongValue",
    "decode",
    "encode",
    "resolve",
]
