"""The watch: sweeps, verdicts, incidents, alerts, history."""
