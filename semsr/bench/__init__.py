"""`semsr bench`: the service beside its engine alone, and beside nginx, in one run.

Every figure is a ratio of two measurements taken in turn on the same machine with the same client:

- throughput of the real model through HTTP against the engine alone in a loop, raw;
- the same with PNG in and out against what the summed processor time of codec and engine allows;
- throughput of engine `identity` through HTTP against nginx handing out as many bytes;
- one request at a time: latency against the engine's own time for one tile;
- memory of the service after all that, all its processes together.

Each in every mode of the service (`single`, `pool`) that this version has.
"""
