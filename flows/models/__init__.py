"""`models/apply`: which models LiteLLM serves, and whose keys pay for them, kept in a file without a secret in it."""
