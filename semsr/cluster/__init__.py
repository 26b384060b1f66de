"""`semsr scan --cluster`: a scan whose tiles are computed by Ray Data on many machines.

    journal.pending ──blocks──> conductor ──Ray Data──> workers: source ──> engine ──> sink
    journal.record <──rows────  (on the head)  <──rows──

The journal stays with the starting process, and images do not pass through that process. Read
`scan.py` first.
"""
