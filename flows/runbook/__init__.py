"""Runbooks: each a flow that answers an incident, diagnoses it, remedies it by the smallest safe step, and confirms."""
