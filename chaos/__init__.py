"""Faults on purpose, and what came of them; `audit` judges."""
