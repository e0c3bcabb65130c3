"""Upgrades that undo themselves.

    journal     what an upgrade has done so far, in the store
    steps       what a step is, and what it works with
    engine      does steps in order, undoes them in reverse order
    plan        what the preview lists, and its hash
    sealed      values that only the stack's own keys open, for journals

Each imports only those above it, apart from `plan` and `sealed`, which stand alone.
"""
