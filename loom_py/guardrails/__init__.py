"""Guardrails: a query is checked before it runs, and its failure is explained to the model.

`Guardrails` is the engine; a backend puts it around the tools that run queries (`guard_tool`). It
knows no database: what a backend can say of a query comes through `ChecksQueries`.
"""

from __future__ import annotations

from loom_py.guardrails.analysis import (
    Confidence,
    ErrorAnalysis,
    ErrorKind,
    analyze_error,
    classify_error,
    infer_error_type,
)
from loom_py.guardrails.engine import ChecksQueries, Guardrails
from loom_py.guardrails.events import CorrectionsExhausted, QueryCorrected
from loom_py.guardrails.issues import Issue, Severity, Validate, Validator
from loom_py.guardrails.records import Attempt, Correction, ErrorRecord
from loom_py.guardrails.tools import guard_tool

__all__ = [
    "Attempt",
    "ChecksQueries",
    "Confidence",
    "Correction",
    "CorrectionsExhausted",
    "ErrorAnalysis",
    "ErrorKind",
    "ErrorRecord",
    "Guardrails",
    "Issue",
    "QueryCorrected",
    "Severity",
    "Validate",
    "Validator",
    "analyze_error",
    "classify_error",
    "guard_tool",
    "infer_error_type",
]
