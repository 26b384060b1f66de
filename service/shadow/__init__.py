"""A second model that runs on a share of the tiles and never answers; start with `shadow.py`.

    ShadowedRunner ──samples──> Shadow ──> Worker (a thread) ──socket──> shadow process
                                  Report <── figures of each tile <──┘

The shadow has a process of its own, which runs only on processor time that is left over
(`docs/adr/0031-shadow.md`).
"""
