from pgjax.cli.main import entry

entry()
