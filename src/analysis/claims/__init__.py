"""The claims: sentences of the papers, and ours, tested on runs."""

from src.analysis.claims.judging import judge
from src.analysis.claims.result import Component, Reading, Result, Verdict, to_csv, to_json
from src.analysis.claims.rulebook import rules

__all__ = ["Component", "Reading", "Result", "Verdict", "judge", "rules", "to_csv", "to_json"]
