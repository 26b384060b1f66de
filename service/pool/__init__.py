"""Several processes as one service: front ends, engine processes, and their supervisor.

    client ──HTTP──> front end ──slot of the arena──> engine process ──slot──> front end ──> client

`supervisor` starts and restarts the others; `arena` is the memory that they share, `channel` and
`messages` how they talk; `engine` and `engine_server` are an engine process, `remote` and
`pool_models` a front end's view of it. Why it is so: `docs/adr/0013-pool.md`.
"""
