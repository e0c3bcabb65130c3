"""The rehearsal of a LiteLLM upgrade: its migrations, applied to a copy of the data that throws itself away."""
