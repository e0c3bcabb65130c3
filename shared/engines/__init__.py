"""Real database engines from Python wheels, on 127.0.0.1, for drills, the sandbox and tests.

Each engine is given a directory and keeps everything in it: data, log, PID file, generated password. It imports nothing
else of this project.
"""
