"""The `pipeline` command, one thin module per subcommand."""
