"""Tiles of many requests to batches, and the way of one request through them: `upscaler`.

`costs` and `scheduler` are pure policy, without threads, clocks or engines: `costs` knows what a
batch costs, `scheduler` decides which tiles run next. Time is always given from outside, so that
tests and `semsr bench schedule` run the same code on a simulated clock.
"""
