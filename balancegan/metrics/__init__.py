"""Quality measures on arrays and features. Nothing here reads files or prints."""
