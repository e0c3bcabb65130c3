"""The images of the stack, looked for in their registries once a day: still there, and is there a repaired one."""
