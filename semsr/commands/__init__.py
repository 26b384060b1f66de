"""The subcommands of `semsr`, one file each: `add` declares one and the function that runs it.

A subcommand imports the folder that does its work only when it runs.
"""
