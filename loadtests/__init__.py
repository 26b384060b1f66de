"""Load tests and benches; `python -m loadtests` lists the scenarios, `semsr bench` runs some.

They load the service as clients do, through HTTP. `alone` holds the benches without the service.
"""
