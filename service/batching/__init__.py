"""Gathers tiles of many requests into batches; `upscaler` takes one request through them.

`costs` and `scheduler` are pure policy, without threads, clocks or engines. `costs` estimates the
time of a batch, and `scheduler` decides which tiles run next. Callers pass the time, so that tests
and `semsr bench schedule` run the same code on a simulated clock.
"""
