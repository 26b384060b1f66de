"""KLARF: result files of wafer inspection, versions 1.2 and 1.8, read and written back.

A file is kept as its bytes, and an edit changes only the bytes that it must. The entry is
`klarf.read_klarf`: one interface to both versions.
"""
