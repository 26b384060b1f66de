"""Many images in one request: read one after another, answered in order, few in memory at once.

    upload ──raw, npy, tar: as it arrives──────────┐
           ──TIFF, zip: spooled, then read─────────┴─> entries ─> places ─> upscaler ─> archive

`run` is the way in: it connects the reader (`reader`, over `stacks`, `tar_entries`, `zip_entries`
and `spooled_entries`), the places and the answer (`answer`, over `archives`). A *batch* in the
service's other modules is what an engine runs at once; what a client sends in one request is called
a stream of tiles here.
"""
