"""The work of the commands, one file each."""
