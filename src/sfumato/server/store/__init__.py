"""What the server keeps: jobs and events in SQLite, pictures as files by their hash."""
