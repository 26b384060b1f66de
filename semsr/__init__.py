"""The command line of the project; each subcommand imports the folder that it needs."""
