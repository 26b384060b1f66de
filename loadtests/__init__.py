"""Load tests and benches of the running service; `python -m loadtests` lists them.

They meet the service where a client does, through HTTP. What measures engines and codecs by
themselves is `semsr bench`, which these use.
"""
