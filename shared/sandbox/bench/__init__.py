"""`make bench`: speed, size and memory against plain tools; writes bench-report.json."""
