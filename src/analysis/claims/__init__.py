"""The claims: sentences of the papers, and ours, tested on runs."""

from src.analysis.claims.result import Component, Reading, Result, Verdict

__all__ = ["Component", "Reading", "Result", "Verdict"]
