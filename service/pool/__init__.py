"""Several processes as one service: front ends, engine processes, and their supervisor.

    client ──HTTP──> front end ──slot of the arena──> engine process ──slot──> front end ──> client

`supervisor` starts and restarts the other processes; they exchange the messages of `control`.
`arena` is the memory that all processes share. `engine` and `engine_server` make up an engine
process. `pool_models` and `remote_runner` are a front end's view of the engine processes. These two
kinds of process exchange the messages of `messages`.
The reasons for this design: `docs/adr/0013-pool.md`.
"""
