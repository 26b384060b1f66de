"""Load tests and benches; `python -m loadtests` lists the scenarios, `semsr bench` runs some.

They meet the service where a client does, through HTTP. What is measured without it is in `alone`.
"""
