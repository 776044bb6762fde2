"""The same runner on other machines, as actors of Ray; nothing else of the program imports ray."""
