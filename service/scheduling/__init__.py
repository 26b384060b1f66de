"""Which tiles run next: pure policy, without threads, clocks or engines.

`costs` knows what a batch costs, `scheduler` decides. Time is always given from outside, so that
tests and `semsr bench schedule` run the same code on a simulated clock.
"""
