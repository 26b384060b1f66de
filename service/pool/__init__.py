"""Several processes as one service: front ends, engine processes, and their supervisor.

    client ──HTTP──> front end ──slot of the arena──> engine process ──slot──> front end ──> client

`supervisor` starts and restarts the others and talks with them by `control`; `arena` is the memory
that they share; `engine` and `engine_server` are an engine process, `pool_models` and
`remote_runner` a front end's view of it, `messages` what these two say to each other.
Why it is so: `docs/adr/0013-pool.md`.
"""
