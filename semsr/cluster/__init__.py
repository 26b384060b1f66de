"""`semsr scan --cluster`: a scan whose tiles are computed by Ray Data on many machines.

    journal.pending ──blocks──> conductor ──Ray Data──> workers: source ──> engine ──> sink
    journal.record <──rows────  (on the head)  <──rows──

The journal stays with the process that was started; no picture passes through it. Start with
`scan.py`.
"""
