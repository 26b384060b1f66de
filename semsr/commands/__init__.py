"""The subcommands of `semsr`, one file each: `add` declares it, and sets what runs it.

A subcommand imports the folder that does the job only when it runs.
"""
