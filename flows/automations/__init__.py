"""The project's Prefect automations, kept in the repository and upserted by name: `python -m flows.automations`."""
